"""A directory of a bucket to work on: restored, held by a lease, published while the work goes on and at its end."""

from __future__ import annotations

import _thread
import contextlib
import ctypes
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import cache, urls
from .bucket import Bucket, StorageLost
from .hashes import Hashes
from .layout import Layout
from .lease import EXPIRE_S, RENEW_S, Lease, LeaseLost, take
from .manifest import Manifest, newest
from .publish import publish, sweep
from .restore import Wanted, everything, restore

PUBLISH_S = 60.0
"""How much work a machine that is lost takes with it, at most, beside what it takes to upload it."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Pace:
    """Seconds: between publications, between renewals of the lease, and until a lease that nobody renews is free."""

    publish: float = PUBLISH_S
    renew: float = RENEW_S
    expire: float = EXPIRE_S


PACE = Pace()


class Working:
    """A working copy; `folder` is the directory. Nothing in the bucket changes before `writing`."""

    def __init__(self, bucket: Bucket, copy: cache.Copy, layout: Layout, state: Manifest, hashes: Hashes) -> None:
        """As made by `working`."""
        self.bucket, self.folder, self.state = bucket, copy.folder, state
        self._copy, self._layout, self._hashes = copy, layout, hashes
        self._lease: Lease | None = None
        self._wake, self._ended, self._lock = threading.Event(), threading.Event(), threading.Lock()
        self._lost: list[LeaseLost] = []

    @contextmanager
    def writing(self, say: Say, pace: Pace = PACE) -> Iterator[Callable[[], None]]:
        """Hold the bucket and publish: at intervals, soon after the yielded function is called, and at the end.

        Args:
            say: for a line to a person.
            pace: how often what is done.

        Raises:
            InputError: another process works on it.
            LeaseLost: another one took over.
            StorageLost: the bucket did not come back; the work is kept in the local copy, and the same command goes on.
        """
        self._lease = take(self.bucket, say, renew_s=pace.renew, expire_s=pace.expire)
        try:
            if newest(self.bucket).number != self.state.number:
                # Somebody published between our look and our lease: their work first.
                self.state = _restored(self.bucket, self._copy, self._layout, self._hashes, say)
            self._copy.save(number=self.state.number, dirty=True)
            sweep(self.bucket, self.state, self._lease.renew, whole=True)
        except BaseException:
            self._lease.release()
            raise
        # Two threads: a checkpoint may take longer to upload than a lease lasts.
        threads = [
            threading.Thread(target=self._renew, args=(pace.renew,), daemon=True, name="lease"),
            threading.Thread(target=self._publish, args=(say, pace.publish), daemon=True, name="publisher"),
        ]
        for thread in threads:
            thread.start()
        failed = True
        try:
            yield self._wake.set
            failed = False
        except KeyboardInterrupt:
            if not self._lost:
                raise
        finally:
            self._ended.set()
            self._wake.set()
            for thread in threads:
                thread.join()
            try:
                if not self._lost:
                    self._finish()
            except StorageLost as error:
                if not failed:
                    raise
                say(str(error))  # beside the reason for which the work ended
        if self._lost:
            raise self._lost[0]

    def publish(self) -> None:
        """Publish what the directory holds now."""
        assert self._lease is not None, "only a writer publishes"
        with self._lock:
            args = (self.state, self._lease.owner, self._hashes, self._copy.home)
            made = publish(self.bucket, self.folder, self._layout, *args)
            if made is not self.state:
                self.state = made
                self._copy.save(number=made.number)
                sweep(self.bucket, made, self._lease.renew)

    def _finish(self) -> None:
        """The last publication; what cannot be published stays in the copy, which then is not clean."""
        assert self._lease is not None
        try:
            self.publish()
        except StorageLost as error:
            told = f"{error}; the results are in {self.folder}, and the same command publishes them"
            raise StorageLost(told) from None
        self._copy.save(dirty=False)
        self._lease.release()

    def _renew(self, every_s: float) -> None:
        assert self._lease is not None
        while not self._ended.wait(every_s):
            with contextlib.suppress(StorageLost):  # told by who publishes
                try:
                    self._lease.renew()
                except LeaseLost as error:
                    self._lose(error)
                    return

    def _publish(self, say: Say, every_s: float) -> None:
        """Publish until the end. The work goes on while the bucket is away; only a taken lease ends it."""
        while not self._ended.is_set():
            self._wake.wait(timeout=every_s)
            self._wake.clear()
            if self._ended.is_set():
                return
            try:
                self.publish()
            except LeaseLost as error:
                self._lose(error)
                return
            except StorageLost as error:
                say(f"{error}; the work goes on, and is published when it answers")
            except Exception as error:  # a full disk, a right that was withdrawn: told now, and again at the end
                say(f"{self.bucket.url}: not published ({error}); the work goes on")

    def _lose(self, error: LeaseLost) -> None:
        self._lost.append(error)
        _interrupt_main()


def _interrupt_main() -> None:
    """Raise KeyboardInterrupt in the main thread, as Ctrl-C does.

    A process that `nohup` or the background of a script started ignores that signal, and so Python's way to send it.
    There the exception is raised at the thread's next step of Python code.
    """
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        _thread.interrupt_main()
        return
    thread = ctypes.c_ulong(threading.main_thread().ident or 0)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(KeyboardInterrupt))


@contextmanager
def working(url: str, layout: Layout, say: Say) -> Iterator[Working]:
    """The directory at a URL, to work on; new if nothing is there. The bucket is not written to yet.

    Raises:
        InputError: the URL cannot be used, a newer mergefront wrote there, or this machine works on it already.
    """
    bucket = Bucket(urls.parse(url))
    bucket.check()
    with cache.hold("runs", str(bucket.url)) as copy:
        copy.folder.mkdir(exist_ok=True)
        hashes = Hashes(copy.folder, copy.home / "hashes.json")
        state = newest(bucket)
        if copy.state.dirty and copy.state.number == state.number:
            say(f"{url}: going on with what this machine did and did not publish")
        else:
            state = _restored(bucket, copy, layout, hashes, say)
        yield Working(bucket, copy, layout, state, hashes)


@contextmanager
def reading(url: str, layout: Layout, wanted: Wanted = everything) -> Iterator[Path]:
    """The newest state of a directory at a URL, as far as it is wanted; empty if nothing is there.

    Raises:
        InputError: as `working`.
    """
    bucket = Bucket(urls.parse(url))
    bucket.check()
    with cache.hold("views", str(bucket.url), wait_s=600.0) as copy:
        hashes = Hashes(copy.folder, copy.home / "hashes.json")
        twin = cache.root() / "runs" / copy.home.name / copy.folder.name
        state = restore(bucket, copy.folder, layout, hashes, wanted, twin)
        copy.save(number=state.number)
        yield copy.folder


def _restored(bucket: Bucket, copy: cache.Copy, layout: Layout, hashes: Hashes, say: Say) -> Manifest:
    if copy.state.dirty:
        aside = copy.set_aside()
        say(f"{bucket.url}: another machine went on with this run; what this one did not publish is in {aside}")
    state = restore(bucket, copy.folder, layout, hashes)
    copy.save(number=state.number, dirty=False)
    return state
