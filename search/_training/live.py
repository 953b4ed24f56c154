"""What a person sees of trainings under way: a table in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from search.run.progress import PLAIN_EVERY_S, Display

if TYPE_CHECKING:
    from rich.table import Table

FINISHED_SHOWN = 12
"""Rows of trainings that have ended which stay in the table: one of hundreds of trials must fit a screen."""


class Row:
    """One training: its last report, and when it began."""

    def __init__(self, label: str, steps: int) -> None:
        self.label, self.steps, self.step = label, steps, 0
        self.state = "starting"
        self.loss: float | None = None
        self.rate: float | None = None
        self.tokens_per_s: float | None = None
        self.metric = ""
        self.said = time.monotonic()
        self._first: tuple[float, int] | None = None

    def report(self, metrics: Mapping[str, Any]) -> None:
        """Take what a worker reported."""
        if "metric" in metrics and "rung" in metrics:
            self.metric = f"{metrics['metric']:.4g} at {metrics['rung']}"
        if "step" not in metrics:
            return
        now = time.monotonic()
        self.step, self.state = int(metrics["step"]), "running"
        if self._first is None or self.step < self._first[1]:
            self._first = (now, self.step)
        self.loss, self.rate = metrics.get("loss"), metrics.get("learning_rate")
        self.tokens_per_s = metrics.get("tokens_per_s")

    @property
    def left_s(self) -> float | None:
        """Seconds to the last step at the pace so far; None before there is one."""
        if self._first is None or self.step <= self._first[1] or self.state != "running":
            return None
        pace = (time.monotonic() - self._first[0]) / (self.step - self._first[1])
        return pace * (self.steps - self.step)

    def cells(self) -> tuple[str, ...]:
        """Name, state, step, loss, rate, tokens/s, metric, time left."""
        return (
            self.label,
            self.state,
            f"{self.step}/{self.steps}",
            "" if self.loss is None else f"{self.loss:.3f}",
            "" if self.rate is None else f"{self.rate:.1e}",
            "" if self.tokens_per_s is None else f"{self.tokens_per_s:,.0f}",
            self.metric,
            "" if self.left_s is None else duration(self.left_s),
        )

    def line(self) -> str:
        """The same as text."""
        parts = [f"step {self.step} of {self.steps}"]
        parts += [f"loss {self.loss:.3f}"] if self.loss is not None else []
        parts += [f"rate {self.rate:.1e}"] if self.rate is not None else []
        parts += [f"{self.tokens_per_s:,.0f} tokens/s"] if self.tokens_per_s is not None else []
        parts += [f"{duration(self.left_s)} left"] if self.left_s is not None else []
        return f"  {self.label}: {', '.join(parts)}"


HEAD = ("training", "state", "step", "loss", "rate", "tokens/s", "metric", "left")


class LiveTrainings:
    """The rows of all trainings that have begun, shown while `open` lasts."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._rows: dict[int, Row] = {}

    @contextmanager
    def open(self) -> Iterator[None]:
        """Hold the table open."""
        with self._display.table(self.table):
            yield

    def begin(self, index: int, label: str, steps: int) -> None:
        """A training was handed out."""
        self._rows[index] = Row(label, steps)

    def report(self, index: int, metrics: Mapping[str, Any]) -> None:
        """A worker reported."""
        row = self._rows[index]
        before = row.step
        row.report(metrics)
        now = time.monotonic()
        due = now - row.said >= PLAIN_EVERY_S or row.step == row.steps
        if not self._display.live and due and row.step != before:
            row.said = now
            self._display.line(row.line())

    def end(self, index: int, state: str, metric: str = "") -> None:
        """A training has ended, well or not."""
        row = self._rows[index]
        row.state, row.metric = state, metric or row.metric
        if not self._display.live:
            self._display.line(f"  {row.label}: {state}{f', {metric}' if metric else ''}")

    def table(self) -> Table:
        """The rows as rich shows them; of those that have ended the last few."""
        from rich.table import Table

        table = Table(box=None, pad_edge=False)
        for name in HEAD:
            table.add_column(name, justify="left" if name in ("training", "state", "metric") else "right")
        ended = [row for row in self._rows.values() if row.state not in ("starting", "running")]
        hidden = ended[:-FINISHED_SHOWN]
        for row in self._rows.values():
            if row not in hidden:
                table.add_row(*row.cells())
        if hidden:
            table.add_row(f"and {len(hidden)} that have ended")
        return table


def duration(seconds: float) -> str:
    """`45 s`, `3 min`, `2.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
