"""Looking at logs for many streams: those that are at the same place of the same log share a look."""

from __future__ import annotations

import asyncio
import json
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anyio import to_thread

from .jobs import ENDED
from .launch import LOG
from .logs import CHUNK, LINE, whole_lines

if TYPE_CHECKING:
    from .lately import Endings
    from .settings import Settings

SHARED_S = 0.1
"""How old a look may be that serves another stream, too."""
_KEPT = 256


@dataclass(frozen=True)
class Look:
    """What a log has from a place on.

    Attributes:
        state: of the job, before the log was read: what was written before the end is told before the end.
        events: server-sent events, one for each line; empty if there is nothing new.
        end: the place behind them, in bytes.
        more: whether there is more to be had at once.
    """

    state: str
    events: bytes
    end: int
    more: bool


class Looks:
    """A thread, an open file and the events cost a millisecond a look; a hundred streams look four times a second."""

    def __init__(self, settings: Settings, endings: Endings) -> None:
        self._settings, self._endings = settings, endings
        self._known: OrderedDict[tuple[str, int, bool], tuple[float, asyncio.Task[Look]]] = OrderedDict()

    async def at(self, job: str, offset: int, follow: bool) -> Look:
        """The log of a job from a byte offset on, at most `SHARED_S` old; in the event loop's thread.

        Args:
            job: its id.
            offset: where to begin.
            follow: leave a last line that has no end yet for later.
        """
        key, now = (job, offset, follow), time.monotonic()
        found = self._known.get(key)
        if found is None or now - found[0] > SHARED_S:
            # A task of its own: the stream that asked first may be closed while others wait for the same look.
            found = now, asyncio.create_task(to_thread.run_sync(self._look, job, offset, follow))
            self._known[key] = found
            self._known.move_to_end(key)
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return await asyncio.shield(found[1])

    def _look(self, job: str, offset: int, follow: bool) -> Look:
        state = self._endings.look(job).state
        lines = tuple(whole_lines(self._settings.job(job) / LOG, offset, rest=not follow or state in ENDED))
        events = "".join(f"id: {n}\ndata: {json.dumps(line, ensure_ascii=False)}\n\n" for n, line in lines)
        end = lines[-1][0] if lines else offset
        return Look(state, events.encode(), end, end - offset > CHUNK - LINE)
