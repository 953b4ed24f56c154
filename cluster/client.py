"""The job service from elsewhere: `mergefront.Client` in Python, and what the commands are made of."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import tarfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests

from ._errors import InputError

URL = "http://127.0.0.1:8460"
CONNECT_S, ANSWER_S = 10.0, 180.0
SILENT_S = 60.0
"""A stream says something every 15 s; one that does not for this long has lost its other end."""
PATIENCE_S = 60.0
"""How long a service that went away (it is being restarted) is tried again while something is followed."""
ENDED = ("DONE", "FAILED", "CANCELLED")


class ServiceError(RuntimeError):
    """The service said no, or does not answer.

    Attributes:
        status: of HTTP; 0 if it does not answer.
        code: of the problem (`bad-recipe`, `unknown-job`, `not-ready`, ...); programs may rely on it.
        problems: of a recipe, as `mergefront check` finds them.
    """

    kept = False  # nothing ran here that the command line could promise to have kept

    def __init__(self, status: int, code: str, detail: str, problems: tuple[Mapping[str, Any], ...] = ()) -> None:
        self.status, self.code, self.problems = status, code, problems
        super().__init__(detail)

    def __reduce__(self) -> tuple[Any, ...]:
        return ServiceError, (self.status, self.code, str(self), self.problems)

    @property
    def exit_status(self) -> int:
        """2 where another input would have been accepted, 1 where trying again may help."""
        return 2 if 400 <= self.status < 500 and self.status != 429 else 1


class Client:
    """A job service.

    Methods return what its answers hold, as dicts (`/openapi.json` describes them), and raise `ServiceError`.
    """

    def __init__(self, url: str | None = None, token: str | None = None) -> None:
        """Nothing is sent yet.

        Args:
            url: of the service; by default the environment's MERGEFRONT_URL, else a service of this machine.
            token: by default the environment's MERGEFRONT_TOKEN; none where the service asks for none.

        Raises:
            InputError: a URL that is none.
        """
        self.url = (url or os.environ.get("MERGEFRONT_URL") or URL).rstrip("/")
        if not self.url.startswith(("http://", "https://")):
            raise InputError(f"--url: must begin with http:// or https://, got {self.url!r}")
        given = token if token is not None else os.environ.get("MERGEFRONT_TOKEN", "")
        self._headers = {"Authorization": f"Bearer {given}"} if given else {}
        self._session = requests.Session()

    def submit(
        self, recipe: str | Path, *, directory: str | Path | None = None, priority: int = 0, key: str | None = None
    ) -> dict[str, Any]:
        """Submit a recipe file; the job.

        Args:
            recipe: the file.
            directory: where its relative paths start, as the service's machine names it; by default the recipe's own
                directory, which fits where both see the same disk.
            priority: -100 to 100; higher starts first.
            key: the same key never makes a second job; by default one of its own for this call, so that trying again
                after a lost answer is safe.
        """
        path = Path(recipe)
        try:
            body = path.read_bytes()
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from None
        start = str(path.resolve().parent if directory is None else directory)
        headers = {"Content-Type": "application/yaml", "Idempotency-Key": key or secrets.token_hex(16)}
        query = {"directory": start, "file": _plain(path.name), "priority": str(priority)}
        for pause in (0.5, 2.0, None):
            try:
                return self._json("POST", "/jobs", params=query, data=body, headers=headers)
            except ServiceError as error:
                if error.status not in (0, 503) or pause is None:
                    raise
                time.sleep(pause)
        raise AssertionError("the last try returns or raises")

    def jobs(self, *, state: str | None = None, limit: int = 50) -> list[dict[str, Any]]:
        """The newest jobs, newest first."""
        query = {"limit": str(min(limit, 500)), **({"state": state} if state else {})}
        found: list[dict[str, Any]] = self._json("GET", "/jobs", params=query)["jobs"]
        return found

    def status(self, job: str) -> dict[str, Any]:
        """A job with its progress, events and recipe."""
        return self._json("GET", f"/jobs/{_part(job)}")

    def front(self, job: str) -> dict[str, Any]:
        """The front document of a job, as far as it has come."""
        return self._json("GET", f"/jobs/{_part(job)}/front")

    def cancel(self, job: str) -> dict[str, Any]:
        """Cancel a job; the job."""
        return self._json("POST", f"/jobs/{_part(job)}/cancel")

    def logs(self, job: str, *, follow: bool = False) -> Iterator[str]:
        """Lines of a job's log; with `follow` until the job has ended, across restarts of the service."""
        offset, away = "0", 0.0
        while True:
            try:
                for event, number, data in self._events(job, offset, follow):
                    if event == "end":
                        return
                    offset = number
                    yield str(json.loads(data))
                # It was there a moment ago, however long the log had been silent: its absence begins now.
                lost, away = ServiceError(0, "lost", f"{self.url}: the stream broke off"), 0.0
            except ServiceError as error:
                if error.status not in (0, 502, 503):
                    raise
                lost = error
            away = away or time.monotonic()
            if not follow or time.monotonic() - away > PATIENCE_S:
                raise lost
            time.sleep(1.0)

    def watch(self, job: str, *, limit_s: float | None = None) -> Iterator[dict[str, Any]]:
        """The job, once a second until it has ended, across restarts of the service; the last one has ended.

        Raises:
            TimeoutError: it has not ended after `limit_s`.
        """
        begun, away = time.monotonic(), 0.0
        while True:
            try:
                found = self.status(job)
                away = 0.0
                yield found
                if found["state"] in ENDED:
                    return
            except ServiceError as error:
                away = away or time.monotonic()
                if error.status not in (0, 502, 503) or time.monotonic() - away > PATIENCE_S:
                    raise
            if limit_s is not None and time.monotonic() - begun > limit_s:
                raise TimeoutError(f"job {job} has not ended within {limit_s:g} s")
            time.sleep(1.0)

    def wait(self, job: str, *, limit_s: float | None = None) -> dict[str, Any]:
        """Wait until a job has ended; the job. Limits as in `watch`."""
        for found in self.watch(job, limit_s=limit_s):
            last = found
        return last

    def fetch(self, job: str, pick: str, out: str | Path, *, limit_s: float = 3600.0) -> Path:
        """Download a checkpoint; it is made first where nobody has asked for it.

        Args:
            job: id.
            pick: `knee`, `safest`, `best-OBJECTIVE`, or the id of a point with or without `#`.
            out: the directory to make; it appears whole or not at all.
            limit_s: how long its making may take.

        Raises:
            InputError: `out` exists.
            TimeoutError: it was not made in time; it goes on being made.
        """
        target, name = Path(out), pick.removeprefix("#")
        if target.exists() or target.is_symlink():
            raise InputError(f"--out: {target} exists; name a directory that does not exist yet")
        path, deadline = f"/jobs/{_part(job)}/exports/{_part(name)}", time.monotonic() + limit_s
        while True:
            try:
                return self._fetched(path, target)
            except ServiceError as error:
                if error.code != "not-ready":
                    raise
            state = self._json("POST", path)
            if state["state"] == "FAILED":
                raise ServiceError(0, "export-failed", f"the checkpoint of {pick} was not made: {state['reason']}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"the checkpoint of {pick} was not ready within {limit_s:g} s; fetch it again later")
            time.sleep(1.0)

    def _fetched(self, path: str, target: Path) -> Path:
        with self._call("GET", path, stream=True, headers={"Accept-Encoding": "identity"}) as answer:
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f".{target.name}.part")
            shutil.rmtree(partial, ignore_errors=True)
            try:
                _unpack(answer.raw, partial)
                partial.rename(target)
            except (tarfile.TarError, OSError, requests.RequestException) as error:
                raise ServiceError(0, "broken-off", f"the download broke off ({error}); fetch it again") from None
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        return target

    def _events(self, job: str, offset: str, follow: bool) -> Iterator[tuple[str, str, str]]:
        """(event, id, data) of a log stream, from an offset on."""
        query = {"follow": str(follow).lower(), "offset": offset}
        kind, number, data = "message", offset, ""
        with self._call("GET", f"/jobs/{_part(job)}/logs", params=query, stream=True, timeout=SILENT_S) as answer:
            answer.encoding = "utf-8"
            with contextlib.suppress(requests.RequestException):
                for line in answer.iter_lines(chunk_size=None, decode_unicode=True, delimiter="\n"):
                    field, _, value = line.partition(": ")
                    if field == "event":
                        kind = value
                    elif field == "id":
                        number = value
                    elif field == "data":
                        data = value
                    elif not line and data:
                        yield kind, number, data
                        kind, data = "message", ""

    def _json(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        with self._call(method, path, **options) as answer:
            try:
                found: dict[str, Any] = answer.json()
            except ValueError:
                raise ServiceError(0, "no-service", f"{self.url}: what answers there is no job service") from None
            return found

    def _call(self, method: str, path: str, *, timeout: float = ANSWER_S, **options: Any) -> requests.Response:
        headers = {**self._headers, **options.pop("headers", {})}
        try:
            answer = self._session.request(
                method, self.url + path, headers=headers, timeout=(CONNECT_S, timeout), allow_redirects=False, **options
            )
        except requests.RequestException as error:
            said = f"{self.url}: the service does not answer ({type(error).__name__}); is it running? see --url"
            raise ServiceError(0, "away", said) from None
        if answer.ok:
            return answer
        with answer:
            try:
                told = answer.json()
                code = str(told["type"]).removeprefix("urn:mergefront:")
                raise ServiceError(answer.status_code, code, told["detail"], tuple(told.get("problems", ())))
            except (ValueError, KeyError, TypeError):
                said = f"{self.url}: status {answer.status_code}, and not from a job service"
                raise ServiceError(answer.status_code, "no-service", said) from None


def _unpack(stream: Any, folder: Path) -> None:
    """The files of a checkpoint, without the directory that they lie in; nothing ever lands outside `folder`."""
    folder.mkdir()
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for entry in archive:
            name = entry.name.partition("/")[2]
            if not entry.isfile() or not name:
                raise tarfile.TarError(f"unexpected entry {entry.name!r}")
            archive.extract(entry.replace(name=name), folder, filter="data")
    stream.read()  # to the very end: a download that was cut short is noticed there


def _part(text: str) -> str:
    """A name as one part of a path, whatever is in it; `.` and `..` would be taken out of the URL again."""
    if text in ("", ".", ".."):
        raise InputError(f"{text!r} is no name of a job or a point; `mergefront jobs` lists jobs")
    return quote(text, safe="")


def _plain(name: str) -> str:
    """A file name as messages show it."""
    kept = "".join(letter if letter.isalnum() or letter in " ._()@+-" else "_" for letter in name)
    return kept[:128]
