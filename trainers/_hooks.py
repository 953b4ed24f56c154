"""What happens beside the optimizer steps: live loss, the guard against a diverged run, marks on checkpoints."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ._checkpoint import mark_complete
from ._costs import Costs
from ._deepspeed import sum_over_workers
from ._errors import TrainingError
from ._schema import Report
from ._workplace import Workplace


class Progress(TrainerCallback):  # type: ignore[misc]  # the library ships no types
    """Reports every step, stops at a loss that is not finite, and marks checkpoints that all workers finished.

    Args:
        at: this worker.
        report: see ``_schema.Report``.
        costs: of this training.
        before: steps of an earlier phase; they count in what is reported.
        after: steps of later phases.
    """

    def __init__(self, at: Workplace, report: Report, costs: Costs, before: int = 0, after: int = 0) -> None:
        self.at = at
        self.report = report
        self.costs = costs
        self.before, self.after = before, after
        self.last = (time.monotonic(), 0.0)
        self.trainer: Any = None

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Called on every worker with the loss averaged over all of them."""
        if logs is None or "loss" not in logs:
            return
        steps = self.before + state.max_steps + self.after
        step = self.before + state.global_step
        if not math.isfinite(logs["loss"]):
            raise TrainingError(
                f"the loss is {logs['loss']} at step {step} of {steps} "
                f"(learning rate {self.at.spec.learning_rate:g}, {self.at.spec.dtype}); lower the learning rate"
            )
        now, tokens = time.monotonic(), float(logs["num_tokens"])
        then, before = self.last
        self.last = (now, tokens)
        self.report(
            {
                "step": step,
                "steps": steps,
                "loss": float(logs["loss"]),
                "learning_rate": float(logs["learning_rate"]),
                "tokens_per_s": (tokens - before) / max(now - then, 1e-9),
            }
        )

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Called on every worker when its own part of the checkpoint is written."""
        counted = sum_over_workers(self.trainer.counted)  # also the barrier before the mark
        facts = {"step": state.global_step, "counted": counted.tolist(), "costs": self.costs.total()}
        facts |= getattr(self.trainer, "facts", dict)()
        if state.is_world_process_zero:
            mark_complete(
                Path(args.output_dir or "") / f"checkpoint-{state.global_step}",
                self.at.spec,
                self.at.placement,
                self.at.workers,
                facts,
            )
