"""What a training cost this far: wall time, CPU and GPU seconds, memory."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from ._deepspeed import max_over_workers, sum_over_workers


@dataclass
class Costs:
    """A meter of one worker, started where the training starts.

    Attributes:
        before: of earlier lives of this training, as `total` gave them with the checkpoint that it goes on from.
            What a killed life did after its last checkpoint is not known.
    """

    before: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._wall, self._cpu = time.monotonic(), _cpu_seconds()

    @property
    def seconds(self) -> float:
        """Wall seconds of this worker, those before a resume included."""
        return self.before.get("seconds", 0.0) + time.monotonic() - self._wall

    def total(self) -> dict[str, float]:
        """Over all workers; call on every one.

        ``seconds`` of wall time, ``cpu_seconds`` and ``gpu_seconds`` (a worker on a GPU holds it all the time).
        """
        wall = time.monotonic() - self._wall
        held = wall if torch.cuda.is_available() else 0.0
        mine = torch.tensor([_cpu_seconds() - self._cpu, held], dtype=torch.float64)
        cpu, gpu = sum_over_workers(mine).tolist()
        now = {"seconds": wall, "cpu_seconds": cpu, "gpu_seconds": gpu}
        return {key: value + self.before.get(key, 0.0) for key, value in now.items()}


def peaks() -> dict[str, int | None]:
    """Most memory that a worker took, in bytes; ``peak_device_bytes`` is None without a GPU. Call on every worker."""
    unit = 1 if sys.platform == "darwin" else 1024
    host = max_over_workers(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
    device = None
    if torch.cuda.is_available():
        device = int(max_over_workers(torch.cuda.max_memory_allocated()))
    return {"peak_rss_bytes": int(host), "peak_device_bytes": device}


def parameters(model: Any) -> dict[str, int]:
    """Numbers of parameters: ``all``, ``trained``, and ``lookup``, the embedding if it is not the output too."""
    count = {"all": 0, "trained": 0, "lookup": 0}
    for parameter in model.parameters():
        size = int(getattr(parameter, "ds_numel", parameter.numel()))  # ZeRO-3 leaves an empty tensor here
        count["all"] += size
        count["trained"] += size if parameter.requires_grad else 0
    table = model.get_input_embeddings().weight
    output = model.get_output_embeddings()
    if output is None or output.weight is not table:
        count["lookup"] = int(getattr(table, "ds_numel", table.numel()))
    return count


def flops(count: Mapping[str, int], tokens: float, more_forward: float) -> float:
    """Floating point operations of a training, estimated from matrix sizes.

    N parameters that multiply (all but a pure lookup table), T of them trained: a forward pass takes 2 N for each
    token, a backward pass 2 N for the activations and 2 T for the weights; so 6 N where all are trained (Kaplan et al.
    2020, arXiv 2001.08361, without the quadratic part of attention). Activations computed twice
    (activation checkpointing) are layout, not training, and are not counted.

    Args:
        count: as made by `parameters`.
        tokens: trained on, padding excluded.
        more_forward: forward passes for each token beside the training pass: of a reference, of sampling.
    """
    multiplying = count["all"] - count["lookup"]
    trained = max(0, count["trained"] - (count["lookup"] if count["trained"] == count["all"] else 0))
    return tokens * (4.0 * multiplying + 2.0 * trained + 2.0 * multiplying * more_forward)


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
