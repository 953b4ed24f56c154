"""A prefix of a bucket as a few plain operations, tried again while the network is gone.

Objects appear whole. `create` succeeds for one writer alone (S3: If-None-Match; GCS: generation 0; a file: a link):
leases and manifests rest on it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from .._errors import InputError
from .urls import Url, file_system

PATIENCE_S = 180.0
"""How long a lost bucket is tried again before the work that needs it fails."""

_PAUSES_S = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_FINAL = (FileExistsError, FileNotFoundError, IsADirectoryError, NotADirectoryError)
_DENIED = (
    "NoCredentialsError",
    "PartialCredentialsError",
    "ProfileNotFound",
    "CredentialRetrievalError",
    "TokenRetrievalError",
)
T = TypeVar("T")


class StorageLost(RuntimeError):
    """The bucket did not answer in time; what was published before stays."""

    exit_status = 1


class Bucket:
    """Objects below one URL; names are relative to it."""

    def __init__(self, url: Url, patience_s: float = PATIENCE_S) -> None:
        """Connect lazily; `patience_s` limits the tries of one operation."""
        self.url, self.patience_s = url, patience_s
        self._fs = file_system(url)
        self._local = url.scheme == "file"

    def check(self) -> None:
        """Ask once whether the bucket is there and may be read: a wrong name is not worth three minutes' patience.

        Raises:
            InputError: there is no such bucket, access is denied, or nothing answers.
        """
        if self._local:
            return
        bucket = self.url.path.split("/", 1)[0]
        try:
            self._fs.ls(bucket, detail=False)
        except FileNotFoundError:
            # Also what an empty bucket says: the next question tells them apart.
            self._exists(bucket)
        except Exception as error:  # libraries of three clouds have no common class
            raise self._refusal(error) from None

    def read(self, name: str) -> bytes:
        """An object's bytes. Raises FileNotFoundError, StorageLost, InputError."""
        return self._try(f"read {name}", lambda: bytes(self._fs.cat_file(self._at(name))))

    def download(self, name: str, target: Path) -> None:
        """An object into a file, which the caller makes whole by renaming it."""
        source = self._at(name) if name else self.url.path
        self._try(f"read {name}", lambda: self._fs.get_file(source, str(target)))

    def write(self, name: str, data: bytes) -> None:
        """Put an object in the place of an earlier one."""
        self._try(f"write {name}", lambda: self._put(name, data))

    def upload(self, name: str, source: Path) -> None:
        """Put a file's contents."""

        def once() -> None:
            if self._local:
                self._put_file(name, lambda partial: _copy(source, partial))
            else:
                self._fs.put_file(str(source), self._at(name))

        self._try(f"write {name}", once)

    def create(self, name: str, data: bytes) -> bool:
        """Put an object that is not there yet; False if somebody else's is.

        An answer that was lost leaves unknown whether the object was made: it is read, and must differ between writers.
        """

        def once() -> bool:
            try:
                if self._local:
                    self._create_file(name, data)
                else:
                    self._fs.pipe_file(self._at(name), data, mode="create")
            except Exception as error:
                if isinstance(error, PermissionError) or type(error).__name__ in _DENIED:
                    raise
                with contextlib.suppress(FileNotFoundError):
                    return bytes(self._fs.cat_file(self._at(name))) == data
                raise
            return True

        return self._try(f"write {name}", once)

    def names(self, prefix: str) -> list[str]:
        """Names of all objects below a prefix, sorted."""

        def once() -> list[str]:
            root = self._at("")
            found = (
                self._fs.find(self._at(prefix), refresh=True) if not self._local else self._fs.find(self._at(prefix))
            )
            return sorted(str(path)[len(root) :] for path in found)

        try:
            names = self._try(f"list {prefix}", once)
        except FileNotFoundError:
            return []
        return [name for name in names if ".part-" not in name]

    def listing(self) -> dict[str, str]:
        """What is at the URL: relative name ("" if it is an object itself) -> what changes with its contents."""

        def once() -> dict[str, str]:
            found = self._fs.find(self.url.path, detail=True)
            version = ("ETag", "etag", "generation", "mtime", "md5Hash")
            return {
                str(path)[len(self.url.path) + 1 :]: repr([info["size"], *(info[k] for k in version if k in info)])
                for path, info in sorted(found.items())
            }

        try:
            return self._try("list what is there", once)
        except FileNotFoundError:
            return {}

    def delete(self, names: Iterable[str]) -> None:
        """Remove objects; one that is gone already is no error."""
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                self._try(f"delete {name}", lambda name=name: self._fs.rm_file(self._at(name)))  # type: ignore[misc]

    def _exists(self, bucket: str) -> None:
        if self.url.scheme != "s3":
            raise self._refusal(FileNotFoundError(bucket))
        try:
            self._fs.call_s3("head_bucket", Bucket=bucket)
        except Exception as error:
            raise self._refusal(error) from None

    def _at(self, name: str) -> str:
        return f"{self.url.path}/{name}"

    def _put(self, name: str, data: bytes) -> None:
        if self._local:
            self._put_file(name, lambda partial: partial.write_bytes(data))
        else:
            self._fs.pipe_file(self._at(name), data)

    def _put_file(self, name: str, fill: Callable[[Path], object]) -> None:
        target = Path(self._at(name))
        partial = self._partial(target, fill)
        partial.replace(target)

    def _create_file(self, name: str, data: bytes) -> None:
        target = Path(self._at(name))
        partial = self._partial(target, lambda partial: partial.write_bytes(data))
        try:
            os.link(partial, target)
        finally:
            partial.unlink()

    @staticmethod
    def _partial(target: Path, fill: Callable[[Path], object]) -> Path:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f"{target.name}.part-{uuid.uuid4().hex[:8]}")
        fill(partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        return partial

    def _try(self, what: str, work: Callable[[], T]) -> T:
        deadline: float | None = None
        attempt = 0
        while True:
            try:
                return work()
            except Exception as error:
                if isinstance(error, _FINAL):
                    raise
                if not _passes(error):
                    raise self._refusal(error) from None
                now = time.monotonic()
                deadline = now + self.patience_s if deadline is None else deadline
                pause = _PAUSES_S[min(attempt, len(_PAUSES_S) - 1)]
                attempt += 1
                if now + pause > deadline:
                    told = f"{self.url} did not answer for {self.patience_s:g} s ({attempt} tries to {what})"
                    raise StorageLost(f"{told}: {_cause(error)}") from None
                time.sleep(pause)

    def _refusal(self, error: Exception) -> InputError:
        """What a person is told: the kind of error, and never a library's text, which may quote a key."""
        bucket = self.url.path.split("/", 1)[0]
        if isinstance(error, FileNotFoundError):
            return InputError(f"{self.url}: there is no bucket {bucket}; make it first")
        if isinstance(error, PermissionError) or type(error).__name__ in _DENIED:
            told = f"{self.url}: access is denied ({_cause(error)})"
            return InputError(f"{told}; check the credentials that the cloud's own tools use, and their rights")
        if _passes(error):
            return InputError(f"{self.url}: does not answer ({_cause(error)}); check the endpoint and the network")
        return InputError(f"{self.url}: cannot be used ({_cause(error)})")


def _passes(error: Exception) -> bool:
    """Whether trying again may help."""
    if isinstance(error, PermissionError) or type(error).__name__ in _DENIED:
        return False
    if isinstance(error, OSError):
        return error.errno not in (errno.EINVAL, errno.EROFS, errno.ENAMETOOLONG)
    root = type(error).__module__.split(".")[0]
    return root in ("botocore", "aiobotocore", "aiohttp", "gcsfs", "google", "fsspec", "asyncio", "builtins", "http")


def _cause(error: Exception) -> str:
    """The kind of an error; S3's code where there is one."""
    response: Any = getattr(error.__cause__ or error, "response", None)
    code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
    return f"{type(error).__name__}: {code}" if code else type(error).__name__


def _copy(source: Path, target: Path) -> None:
    import shutil

    shutil.copyfile(source, target)
