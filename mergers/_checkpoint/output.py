"""An output directory that is complete or absent, kept half-done only where the process was killed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .._errors import InputError
from .mapped import FULL

RECORD = "merge.json"
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


@contextmanager
def new_directory(out: Path, identity: str | None = None) -> Iterator[Path]:
    """A hidden sibling `.NAME.partial` of `out` to fill; it becomes `out` when the block ends.

    Files and directories are on the disk before the rename. An exception removes the hidden directory. A process
    that is killed or interrupted (Ctrl-C) leaves it, and the next call with the same `identity` goes on with the
    weights that were finished there (see `write_weights`); a call with another identity starts afresh.

    Args:
        out: directory to make.
        identity: what is being written, for example a digest of inputs and settings; None never goes on with
            what an earlier process left.

    Raises:
        InputError: `out` exists and is not an empty directory, cannot be made, or another process is writing it; the
            disk is full.
    """
    target = out.absolute()
    _refuse_taken(out)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(target, error) from error
    with _locked(target):
        _refuse_taken(out)  # the process that held the lock may have finished it just now
        partial = target.with_name(f".{target.name}.partial")
        try:
            _prepare(partial, identity)
        except OSError as error:
            raise _unwritable(target, error) from error
        try:
            yield partial
            (partial / RECORD).unlink()
            for folder, _, files in os.walk(partial):
                for file in files:
                    _flush(Path(folder) / file)
                _flush(Path(folder))
            partial.rename(target)  # POSIX: replaces an empty directory
            _flush(target.parent)
        except BaseException as error:
            if isinstance(error, Exception) or identity is None or not any(partial.glob("*.safetensors")):
                shutil.rmtree(partial, ignore_errors=True)
            if isinstance(error, OSError) and error.errno in FULL:
                raise InputError(f"cannot write {out}: {error.strerror}; make room or choose another disk") from error
            raise


def _prepare(partial: Path, identity: str | None) -> None:
    """Make `partial`, or clear what is there of all but the weights of the same merge."""
    if partial.is_dir():
        if identity is None or _recorded(partial) != identity:
            shutil.rmtree(partial)
        else:
            for path in partial.iterdir():
                if path.is_dir():
                    shutil.rmtree(path)
                elif path.suffix != ".safetensors" and path.name != RECORD:
                    path.unlink()
            return
    partial.mkdir()
    record = partial / f"{RECORD}.new"
    record.write_text(json.dumps({"identity": identity}) + "\n", encoding="utf-8")
    _flush(record)
    record.rename(partial / RECORD)


def _recorded(partial: Path) -> str | None:
    try:
        record = json.loads((partial / RECORD).read_bytes())
    except (OSError, ValueError):
        return None
    found = record.get("identity") if isinstance(record, dict) else None
    return found if isinstance(found, str) else None


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    """Hold the lock of `target`: a hidden file that the system frees when its holder ends, however it ends."""
    path = target.with_name(f".{target.name}.lock")
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise _unwritable(target, error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 20).decode(errors="replace") or "unknown"
            os.close(descriptor)
            raise InputError(
                f"output {target} is being written by another process ({holder}); wait for it or choose another"
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:  # some network file systems have no locks: go on without
                os.close(descriptor)
                raise
        if _is_at(descriptor, path):
            break
        os.close(descriptor)  # the holder removed it between our open and our lock
    try:
        os.truncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), there)


def _refuse_taken(out: Path) -> None:
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(f"output {out} exists already; choose another directory or remove it")


def _unwritable(target: Path, error: OSError) -> InputError:
    return InputError(f"cannot write to {target.parent}: {error}; choose another directory")


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
