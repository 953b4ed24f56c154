"""Who may write to a bucket: one process, which renews its lease; a lease that nobody renews can be taken.

Leases are numbered and made once each, so of two takers one fails; the highest number holds. Whether a holder is alive
is judged by watching, on the watcher's own clock: clocks of machines differ. Should a holder come back after its lease
was taken, it cannot publish: manifests are made once each, too.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import psutil

from .._errors import InputError
from .bucket import Bucket

RENEW_S = 15.0
EXPIRE_S = 60.0
"""A lease that was not renewed for so long is nobody's."""

_NAME = re.compile(r"lease/(\d{10})\.json")


class LeaseLost(RuntimeError):
    """Another process writes to this bucket now; its results count, not ours."""

    exit_status = 1
    kept = False


@dataclass(frozen=True)
class Holder:
    """A process: `place` names its machine, container and boot; `beat` counts renewals; `released` when it is done."""

    owner: str
    host: str
    place: str
    pid: int
    started: float
    beat: int = 0
    released: bool = False

    @property
    def is_dead(self) -> bool:
        """Whether it ran here and has ended; False where that cannot be told from here."""
        if self.place != _place():
            return False
        try:
            return abs(psutil.Process(self.pid).create_time() - self.started) > 1.0
        except psutil.NoSuchProcess:
            return True


class Lease:
    """The right to write to a bucket, held by this process until `release`."""

    def __init__(self, bucket: Bucket, number: int, holder: Holder) -> None:
        """As made by `take`."""
        self._bucket, self.number, self._holder = bucket, number, holder

    @property
    def owner(self) -> str:
        """Unique to this lease."""
        return self._holder.owner

    def renew(self) -> None:
        """Say that this process is alive.

        Raises:
            LeaseLost: another one has taken over.
            StorageLost: the bucket does not answer.
        """
        if (_numbers(self._bucket) or [0])[-1] > self.number:
            raise LeaseLost(f"{self._bucket.url}: another mergefront process took this run over; this one ends")
        self._holder = replace(self._holder, beat=self._holder.beat + 1)
        self._bucket.write(_name(self.number), _data(self._holder))

    def release(self) -> None:
        """Let the next one in at once."""
        self._holder = replace(self._holder, released=True)
        self._bucket.write(_name(self.number), _data(self._holder))


def take(
    bucket: Bucket,
    say: Callable[[str], None] = lambda line: None,
    *,
    renew_s: float = RENEW_S,
    expire_s: float = EXPIRE_S,
) -> Lease:
    """Become the writer of a bucket.

    Args:
        bucket: to write to.
        say: told once what is waited for.
        renew_s: how often a holder renews.
        expire_s: how long a lease is watched before it counts as nobody's.

    Raises:
        InputError: another process holds it and is alive, or the storage cannot keep two writers apart.
    """
    _check(bucket)
    ours = Holder(uuid.uuid4().hex, socket.gethostname(), _place(), os.getpid(), psutil.Process().create_time())
    while True:
        known = _numbers(bucket)
        last = known[-1] if known else 0
        if known:
            holder = _read(bucket, last)
            if holder is not None and not holder.released and not holder.is_dead:
                _watch(bucket, last, holder, say, renew_s, expire_s)
        if bucket.create(_name(last + 1), _data(ours)):
            bucket.delete(_name(number) for number in known)
            return Lease(bucket, last + 1, ours)


def _check(bucket: Bucket) -> None:
    """Whether the storage keeps the promise that everything here rests on: some take every write, and say nothing."""
    probe = f"lease/probe-{uuid.uuid4().hex}"
    bucket.create(probe, b"1")
    kept = not bucket.create(probe, b"2")
    bucket.delete([probe])
    if not kept:
        told = "this storage ignores conditional writes (If-None-Match), so two writers could not be told apart"
        raise InputError(f"{bucket.url}: {told}; use one that knows them, such as Amazon S3 or a new MinIO")


def _watch(
    bucket: Bucket, number: int, holder: Holder, say: Callable[[str], None], renew_s: float, expire_s: float
) -> None:
    """Come back when a holder has not renewed for long enough, or is done; raise if it is alive."""
    say(f"{bucket.url}: held by a process on {holder.host}; waiting up to {expire_s:g} s to see whether it is alive")
    end = time.monotonic() + expire_s
    while time.monotonic() < end:
        time.sleep(min(1.0, renew_s / 4))
        now = _read(bucket, number)
        if now is None or now.released:
            return
        if now != holder:
            told = f"another mergefront process works on this run (host {holder.host}, pid {holder.pid})"
            raise InputError(f"{bucket.url}: {told}; wait for it, stop it, or name another place")


def _read(bucket: Bucket, number: int) -> Holder | None:
    try:
        return Holder(**json.loads(bucket.read(_name(number))))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _numbers(bucket: Bucket) -> list[int]:
    return sorted(int(found[1]) for name in bucket.names("lease") if (found := _NAME.fullmatch(name)))


def _name(number: int) -> str:
    return f"lease/{number:010d}.json"


def _data(holder: Holder) -> bytes:
    return json.dumps(asdict(holder)).encode()


def _place() -> str:
    """This machine since its start, and this container on it: only here does a process number mean anything."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot = file.read().strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"{socket.gethostname()} {psutil.boot_time():.0f}"
