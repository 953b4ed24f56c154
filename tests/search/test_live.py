"""What a person sees of trainings: a table in a terminal, lines elsewhere."""

import io

import pytest
from rich.console import Console

from search._training.live import FINISHED_SHOWN, LiveTrainings, duration
from search.run.progress import Display


def report(step: int, steps: int = 10) -> dict[str, float]:
    return {"step": step, "steps": steps, "loss": 2.0 / step, "learning_rate": 1e-4, "tokens_per_s": 1234.5}


def text(live: LiveTrainings) -> str:
    console = Console(file=io.StringIO(), width=120, record=True)
    console.print(live.table())
    return console.export_text()


def test_the_table_has_loss_rate_pace_and_time_left() -> None:
    live = LiveTrainings(Display(live=True))
    live.begin(0, "general", 10)
    live.begin(1, "safety #3", 10)
    live.report(0, report(1))
    live.report(0, report(4))
    live.report(1, {**report(5), "rung": 5, "metric": 0.75})
    shown = text(live)
    general = next(line for line in shown.splitlines() if line.startswith("general"))
    assert general.split()[:6] == ["general", "running", "4/10", "0.500", "1.0e-04", "1,234"]
    assert general.split()[-1] == "s", "an estimate of the time left"
    assert "0.75 at 5" in shown
    live.end(0, "done")
    live.end(1, "stopped")
    assert "done" in text(live)
    assert "stopped" in text(live)


def test_a_hundred_trials_fit_a_screen() -> None:
    live = LiveTrainings(Display(live=True))
    for index in range(100):
        live.begin(index, f"tuned #{index + 1}", 10)
        live.end(index, "done", "loss 1.5")
    lines = text(live).splitlines()
    assert len(lines) <= FINISHED_SHOWN + 3
    assert f"and {100 - FINISHED_SHOWN} that have ended" in lines[-1]


def test_elsewhere_there_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    live = LiveTrainings(Display(live=False))
    with live.open():
        live.begin(0, "general", 10)
        for step in range(1, 11):
            live.report(0, report(step))
        live.report(0, {**report(10), "measured": 0.5})
        live.end(0, "done", "loss 0.5")
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == "  general: done, loss 0.5"
    assert lines[-2].startswith("  general: step 10 of 10, loss 0.200, rate 1.0e-04, 1,234 tokens/s")
    assert len(lines) == 2, "no line for every step"


def test_durations() -> None:
    assert [duration(s) for s in (4, 89, 600, 5399, 9000)] == ["4 s", "89 s", "10 min", "90 min", "2.5 h"]
