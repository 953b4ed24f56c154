"""What a vLLM worker does beside its own: holds the checkpoint's tensors to be overwritten, and takes them over.

vLLM's live tensors are fused (query, key and value; gate and up), so a merge cannot be written into them under the
checkpoint's names. It is written into a second set of tensors, and vLLM's own loader carries that over in place.
`vllm/v1/worker/worker_base.py` mixes this class into its worker, whose own
`reload_weights(weights_iterator=...)` loads.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class Staging:
    """Mixed into `vllm.v1.worker.gpu_worker.Worker`; its names must not be the worker's."""

    model_runner: Any
    device: Any

    def staging_open(self, files: tuple[str, ...], dtype: str) -> dict[str, Tensor]:
        """The checkpoint's tensors on the worker's device, under its names; the same tensors at every call.

        Raises:
            RuntimeError: what vLLM made of these tensors differs from them by more than order.
        """
        from safetensors.torch import load_file

        if not hasattr(self, "_staged"):
            wanted = getattr(torch, dtype)
            self._staged: dict[str, Tensor] = {}
            for file in files:
                for name, tensor in load_file(file, device=str(self.device)).items():
                    self._staged[name] = tensor.to(wanted) if tensor.is_floating_point() else tensor
            self._offset = self._canary()
        return self._staged

    def staging_take(self) -> None:
        """Load the tensors into the live model.

        Raises:
            RuntimeError: the live model does not hold them afterwards.
        """
        self.reload_weights(weights_iterator=iter(self._staged.items()))  # type: ignore[attr-defined]  # the worker's
        if self._canary() != self._offset:
            raise RuntimeError("vLLM's live weights are not those that were written; this candidate has no score")

    def _canary(self) -> int:
        """Sum of the bits of all live tensors less that of the tensors here, modulo 2^64.

        Fusing, sharding on one device and permuting move bits and keep their sum, and padding adds zeros, so the
        difference is a constant of the architecture: if it moves, some tensor was not taken over.
        """
        live = sum(_bits(tensor) for tensor in self.model_runner.get_model().parameters())
        return (live - sum(map(_bits, self._staged.values()))) % 2**64


def keep_weights() -> None:
    """Let vLLM's build for CPUs multiply by the weights as they are, before a model is loaded.

    It packs those of linear layers for its kernels and empties the tensors; then nobody could say what the live model
    holds. On a CPU this engine is for tests of itself, where that counts for more than speed.
    """
    from vllm.model_executor.layers import utils

    def plain(layer: Any, remove_weight: bool) -> None:
        del remove_weight
        layer.cpu_linear = torch.nn.functional.linear

    utils.dispatch_cpu_unquantized_gemm = plain


def _bits(tensor: Tensor) -> int:
    return int(tensor.detach().contiguous().view(INTEGERS[tensor.element_size()]).sum(dtype=torch.int64))
