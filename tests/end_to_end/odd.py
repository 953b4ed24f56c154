"""A trainer from outside the package, for the tests: it refuses high rates in the middle of its work."""

from typing import Any

from trainers._errors import TrainingError
from trainers._schema import Report
from trainers._types import DEFAULT, Placement, TrainSpec
from trainers.sft import sft


def careful(
    spec: TrainSpec,
    *,
    out: str,
    work: str,
    report: Report,
    placement: Placement = DEFAULT,
    threads: int | None = None,
) -> None:
    """Train as sft does; rates above 0.001 fail at the second step."""

    def watched(metrics: Any) -> None:
        if metrics["step"] > 1 and spec.learning_rate > 1e-3:
            raise TrainingError(f"the rate {spec.learning_rate:g} is too high")
        report(metrics)

    sft(spec, out=out, work=work, report=watched, placement=placement, threads=threads)
