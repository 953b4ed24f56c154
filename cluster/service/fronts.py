"""Front documents, made once for each state of a run: the bootstrap behind them takes a second of a core."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .domain import Domain
from .jobs import ENDED, Job
from .settings import Settings
from .worker import Worker

KEPT = 32
LIMIT_S = 120.0
STALE_S = 3.0
"""While a run goes on its front is at most this much older than its last scored point."""


@dataclass(frozen=True)
class Front:
    """A document: `value` for the service, `body` as it is sent, `etag` of it."""

    value: Mapping[str, Any]
    body: bytes
    etag: str


class Fronts:
    """The fronts of jobs, the latest asked for kept."""

    def __init__(self, settings: Settings, domain: Domain, reader: Worker) -> None:
        self._settings, self._domain, self._reader = settings, domain, reader
        self._kept: OrderedDict[str, tuple[str, float, Front | None]] = OrderedDict()
        self._one = threading.Lock()
        self._making: dict[str, threading.Lock] = {}

    def of(self, job: Job) -> Front | None:
        """The front of a job as far as it has come; None where nothing was scored.

        Raises:
            Overdue, RuntimeError: it could not be made.
        """
        seen = {key: value for key, value in job.progress.items() if key != "pool"}  # its figures change no front
        version = f"{job.state}:{json.dumps(seen, sort_keys=True)}"
        with self._one:
            making = self._making.setdefault(job.id, threading.Lock())
            found = self._kept.get(job.id)
        if found is not None and self._fresh(job, version, found):
            return found[2]
        with making:
            found = self._kept.get(job.id)
            if found is not None and self._fresh(job, version, found):
                return found[2]
            front = self._make(job)
            with self._one:
                self._kept[job.id] = version, time.monotonic(), front
                self._kept.move_to_end(job.id)
                while len(self._kept) > KEPT:
                    gone, _ = self._kept.popitem(last=False)
                    self._making.pop(gone, None)
        return front

    def _fresh(self, job: Job, version: str, found: tuple[str, float, Front | None]) -> bool:
        return found[0] == version or (job.state not in ENDED and time.monotonic() - found[1] < STALE_S)

    def _make(self, job: Job) -> Front | None:
        run = self._settings.job(job.id) / "run"
        value = self._reader.call(self._domain.front, run, limit_s=LIMIT_S)
        if value is None:
            return None
        body = json.dumps(value, ensure_ascii=False).encode()
        return Front(value, body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')
