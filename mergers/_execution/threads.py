"""Threads that share the work on a tensor. Results never depend on how many there are."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache
from threading import Barrier
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

_WORTH_SHARING = 1 << 18  # entries; below it handing work over costs more than the work
_START_S = 60.0  # for a thread to start
_AHEAD = 2  # things handed out for each thread before the first result is waited for: memory stays bounded


def spans_of(size: int, cut: int, threads: int) -> tuple[tuple[int, int], ...]:
    """[0, size) as one span for each thread, cut at multiples of `cut` entries; one span if `cut` is 0."""
    if cut == 0 or threads <= 1 or size < _WORTH_SHARING:
        return ((0, size),)
    step = -(-size // threads // cut) * cut
    return tuple((start, min(size, start + step)) for start in range(0, size, step))


def in_threads(work: Callable[[T], R], things: Iterable[T], threads: int) -> list[R]:
    """`[work(thing) for thing in things]`, `threads` at a time; after an error nothing new is begun."""
    return list(in_order(work, things, threads, "merge"))


def in_order(work: Callable[[T], R], things: Iterable[T], threads: int, purpose: str) -> Iterator[R]:
    """`work(thing)` of each thing in order, some begun ahead; after an error nothing new is begun, and nothing is left.

    Work of one purpose may wait for work of another, not for its own: every purpose has its own threads.
    """
    if threads <= 1:
        yield from map(work, things)
        return
    flying: deque[Future[R]] = deque()
    pool = _pool(threads, purpose)
    try:
        for thing in things:
            flying.append(pool.submit(work, thing))
            if len(flying) >= _AHEAD * threads:
                yield flying.popleft().result()
        while flying:
            yield flying.popleft().result()
    finally:
        for waiting in flying:
            waiting.cancel()
        wait(flying)


@cache
def _pool(threads: int, purpose: str) -> ThreadPoolExecutor:
    """Threads in which torch does not start threads of its own: these would wait for each other's processors."""
    import torch

    before = torch.get_num_threads()
    there = Barrier(threads)

    def begin(_: int) -> None:
        torch.get_num_threads()  # takes over the process's number, which would otherwise happen later
        torch.set_num_threads(1)  # of this thread, and of threads to come
        there.wait(_START_S)

    pool = ThreadPoolExecutor(threads, thread_name_prefix=purpose)
    list(pool.map(begin, range(threads)))
    torch.set_num_threads(before)
    return pool
