"""One writer at a time."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from cluster._errors import InputError
from cluster.storage.bucket import Bucket
from cluster.storage.lease import Lease, LeaseLost, take
from cluster.storage.urls import parse


def fast(url: str, said: list[str] | None = None) -> Lease:
    """Take a lease that ends after two seconds."""
    lines: list[str] = [] if said is None else said
    return take(Bucket(parse(url)), lines.append, renew_s=0.2, expire_s=2.0)


def test_a_live_holder_keeps_others_out(url: str) -> None:
    lease = fast(url)
    done = threading.Event()

    def renew() -> None:
        while not done.wait(0.2):
            lease.renew()

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        with pytest.raises(
            InputError, match=rf"another mergefront process works on this run \(host .*, pid {os.getpid()}\)"
        ):
            take(Bucket(parse(url)), renew_s=0.2, expire_s=60.0)
    finally:
        done.set()
        thread.join()
    lease.release()
    assert fast(url).number == lease.number + 1


def test_a_holder_that_does_not_renew_loses_it(url: str) -> None:
    lease = fast(url)
    said: list[str] = []
    start = time.monotonic()
    second = fast(url, said)
    assert time.monotonic() - start >= 2.0
    assert "waiting up to 2 s to see whether it is alive" in said[0]
    second.renew()
    with pytest.raises(LeaseLost, match="took this run over"):
        lease.renew()


def test_a_holder_that_was_killed_here_is_not_waited_for(url: str) -> None:
    code = "import sys, os, signal; from cluster.storage.bucket import Bucket; from cluster.storage.urls import parse\n"
    code += (
        "from cluster.storage.lease import take; take(Bucket(parse(sys.argv[1]))); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, url], check=False, timeout=120)
    assert len(Bucket(parse(url)).names("lease")) == 1
    said: list[str] = []
    take(Bucket(parse(url)), said.append)
    assert said == []


def test_of_many_takers_one_gets_it(url: str) -> None:
    start, refused = threading.Barrier(4), threading.Semaphore(0)

    def attempt(_: int) -> bool:
        bucket = Bucket(parse(url))
        start.wait(timeout=60)
        try:
            lease = take(bucket, renew_s=0.2, expire_s=60.0)
        except InputError:
            refused.release()
            return False
        for _ in range(3):
            while not refused.acquire(timeout=0.2):
                lease.renew()
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(attempt, range(4))) == 1
