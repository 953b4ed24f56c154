"""What happens beside the optimizer steps: live loss, the guard against a diverged run, marks on checkpoints."""

import math
import time
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import SFTTrainer

from ._checkpoint import mark_complete
from ._deepspeed import sum_over_workers
from ._errors import TrainingError
from ._schema import Report
from ._types import Placement, TrainSpec


class CountingTrainer(SFTTrainer):  # type: ignore[misc]  # the library ships no types
    """SFTTrainer that adds up the ``tally`` of the batches it has trained on: int64 (sources, len(TALLY))."""

    counted: torch.Tensor

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The loss of TRL; the tally is taken out first, a model would not know it."""
        self.counted += inputs.pop("tally").cpu()
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)


class Progress(TrainerCallback):  # type: ignore[misc]  # the library ships no types
    """Reports every step, stops at a loss that is not finite, and marks checkpoints that all workers finished."""

    def __init__(
        self, spec: TrainSpec, placement: Placement, workers: int, report: Report, seconds_before: float
    ) -> None:
        self.spec = spec
        self.placement = placement
        self.workers = workers
        self.report = report
        self.started = time.monotonic() - seconds_before
        self.last = (time.monotonic(), 0.0)
        self.trainer: CountingTrainer | None = None

    @property
    def seconds(self) -> float:
        """Seconds of training so far, those before a resume included."""
        return time.monotonic() - self.started

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
        if not math.isfinite(logs["loss"]):
            raise TrainingError(
                f"the loss is {logs['loss']} at step {state.global_step} of {state.max_steps} "
                f"(learning rate {self.spec.learning_rate:g}, {self.spec.dtype}); lower the learning rate"
            )
        now, tokens = time.monotonic(), float(logs["num_tokens"])
        then, before = self.last
        self.last = (now, tokens)
        self.report(
            {
                "step": state.global_step,
                "steps": state.max_steps,
                "loss": float(logs["loss"]),
                "learning_rate": float(logs["learning_rate"]),
                "tokens_per_s": (tokens - before) / max(now - then, 1e-9),
            }
        )

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Called on every worker when its own part of the checkpoint is written."""
        assert self.trainer is not None
        counted = sum_over_workers(self.trainer.counted)  # also the barrier before the mark
        if state.is_world_process_zero:
            facts = {"step": state.global_step, "seconds": self.seconds, "counted": counted.tolist()}
            mark_complete(
                Path(args.output_dir or "") / f"checkpoint-{state.global_step}",
                self.spec,
                self.placement,
                self.workers,
                facts,
            )
