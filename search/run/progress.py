"""What a person sees while work goes on: live bars in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from .disk import is_full

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID
    from rich.table import Table

PLAIN_EVERY_S = 5.0


class Bar(Protocol):
    """One piece of work under way."""

    def update(self, done: float, note: str = "") -> None:
        """State how much is done, with a word on what was found so far."""
        ...


class Display:
    """Lines and bars on standard error; standard output stays free for results."""

    def __init__(self, *, live: bool | None = None, quiet: bool = False) -> None:
        self._live = sys.stderr.isatty() if live is None else live
        self._quiet = quiet
        self._rich: RichProgress | None = None
        self._console: Console | None = None

    def line(self, text: str) -> None:
        """One plain line."""
        if self._quiet:
            return
        console = self._rich.console if self._rich is not None else self._console
        if console is not None:
            console.print(text, highlight=False, markup=False)
        else:
            try:
                print(text, file=sys.stderr, flush=True)
            except OSError as error:
                if not is_full(error):  # a log on a full disk: its line is written with a later one
                    raise

    @contextmanager
    def bars(self) -> Iterator[Display]:
        """Hold the live area open around several bars."""
        if not self._live or self._quiet:
            yield self
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (
            TextColumn("{task.description:<16}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=Console(stderr=True), refresh_per_second=4) as self._rich:
            try:
                yield self
            finally:
                done, self._rich = self._rich, None
                done.stop()

    @property
    def live(self) -> bool:
        """Whether there is a terminal that can be drawn on."""
        return self._live and not self._quiet

    @contextmanager
    def table(self, make: Callable[[], Table]) -> Iterator[None]:
        """Show what `make` returns, made again four times a second; nothing where there is no terminal."""
        if not self.live:
            yield
            return
        from rich.console import Console
        from rich.live import Live

        with Live(console=Console(stderr=True), get_renderable=make, refresh_per_second=4) as shown:
            self._console = shown.console
            try:
                yield
            finally:
                self._console = None

    def bar(self, name: str, total: float) -> Bar:
        """Open a bar; it ends when `total` is reached."""
        if self._rich is not None:
            return _LiveBar(self._rich, self._rich.add_task(name, total=total, note=""))
        return _PlainBar(self, name, total)


class _LiveBar:
    def __init__(self, progress: RichProgress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def update(self, done: float, note: str = "") -> None:
        self._progress.update(self._task, completed=done, note=note)


class _PlainBar:
    def __init__(self, display: Display, name: str, total: float) -> None:
        self._display, self._name, self._total = display, name, total
        self._said = time.monotonic()

    def update(self, done: float, note: str = "") -> None:
        now = time.monotonic()
        if done < self._total and now - self._said < PLAIN_EVERY_S:
            return
        self._said = now
        self._display.line(f"  {self._name}: {done:g} of {self._total:g}{'  ' + note if note else ''}")
