"""Candidates in memory: experts opened once, base and live model fixed, each merge written over the live weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .._adapter.live import low_rank_of, merge_low_rank
from .._checkpoint.compare import is_buffer
from .._checkpoint.reader import Reader
from .._checkpoint.sources import Opened, Sources
from .._errors import InputError
from .._maths.draw import Draw
from .._schema import Method, load_method
from .._settings import positions
from .._spec import Merge
from .execute import merge_tensor, stored
from .statistics import Inputs, Memory


@dataclass
class _Target:
    """A live tensor and where its numbers come from.

    Attributes:
        name: of the tensor in the base; a tied head is merged as its embedding.
        live: what is written to.
        position: among the layers, for gradients.
        memory: what is known about the inputs; stays from candidate to candidate.
        on_device: inputs copied to the live tensor's device, base first.
    """

    name: str
    live: Tensor
    position: float
    memory: Memory = field(default_factory=lambda: Memory(tables=True))
    on_device: tuple[Tensor, ...] | None = None


class Materializer:
    """Writes merges over the weights of one live model.

    The first candidate of a sparsifying method costs a look at every expert for its thresholds; they are kept, and
    later candidates cost about what a weighted sum costs. Nothing of the size of the model is held besides the mapped
    inputs: memory is a few megabytes of thresholds and a block for each thread.
    """

    def __init__(
        self,
        sources: Sources,
        live: Mapping[str, Tensor],
        *,
        threads: int | None = None,
        device_bytes: int | None = None,
    ) -> None:
        """Open and compare the inputs.

        Args:
            sources: base and experts.
            live: tensor name -> live tensor, for example a model's state dict. Tensors that share memory (tied heads)
                are written once; it need not list every tensor of the base.
            threads: how many work on a tensor; None: as many as torch uses.
            device_bytes: most bytes of inputs that stay on an accelerator between candidates, the others are copied
                there for each; None: half of what is free there now.

        Raises:
            InputError: see `Sources.open`; a live tensor that the base lacks or holds in another shape.
        """
        self._sources = sources
        self._live = dict(live)
        self._threads = threads or torch.get_num_threads()
        self._room = _room(self._live) if device_bytes is None else device_bytes
        self._opened = sources.open()
        self._targets = _targets(self._opened, self._live)

    def apply(self, merge: Merge) -> None:
        """Overwrite the live weights with `merge`: float32 arithmetic, rounded once to their type.

        Raises:
            InputError: what the merge's `check` refuses; NaN or infinity in an input or in the result, with the
                tensor's name. The live model may then hold a mixture.
        """
        opened = self._sources.open()
        if opened is not self._opened:  # a checkpoint's file was replaced
            self._room += sum(x.nbytes for target in self._targets for x in target.on_device or ())
            self._opened, self._targets = opened, _targets(opened, self._live)
        merge.check(len(opened.experts))
        method = load_method(merge.method)

        with torch.no_grad():
            for target in self._targets:
                self._apply(method, merge, target)

    def _apply(self, method: Method, merge: Merge, target: _Target) -> None:
        opened, live, name = self._opened, target.live, target.name
        if name in opened.base.checkpoint and not opened.base.checkpoint.is_float(name):
            live.copy_(opened.agreed(name))
            return
        if is_buffer(name, tuple(live.shape)):
            live.copy_(opened.base.stored(name))  # computed from the config, not learnt
            return
        params = merge.at(len(opened.experts), name, target.position)
        low = low_rank_of(opened, method.name, live.device)
        if low is not None:
            merge_low_rank(low, method.name, params, name, live)
            return
        origins = tuple((reader, name) for reader in (opened.base, *opened.experts))
        tensors = self._tensors(target, origins)
        with_base = method.needs_base or bool(params.get("task_vectors"))
        inputs = Inputs(tensors[0] if with_base else None, tensors[1:], tuple(live.shape))
        origins = origins if with_base else origins[1:]
        draw = Draw(merge.seed, name)
        merge_tensor(method, params, draw, origins, inputs, live, target.memory, self._threads)

    def _tensors(self, target: _Target, origins: Sequence[tuple[Reader, str]]) -> tuple[Tensor, ...]:
        if target.on_device is not None:
            return target.on_device
        device = target.live.device
        tensors = tuple(stored(reader, name, device) for reader, name in origins)
        needed = sum(tensor.nbytes for tensor in tensors)
        if device.type != "cpu" and needed <= self._room:
            self._room -= needed
            target.on_device = tensors
        return tensors


def _room(live: Mapping[str, Tensor]) -> int:
    """Half of the memory that is free on the accelerators of `live`, in bytes; on others than CUDA's, none."""
    devices = {tensor.device for tensor in live.values() if tensor.device.type == "cuda"}
    return sum(torch.cuda.mem_get_info(device)[0] for device in devices) // 2


def _targets(opened: Opened, live: Mapping[str, Tensor]) -> tuple[_Target, ...]:
    position = positions(opened.base.checkpoint.names)
    found: dict[tuple[object, ...], _Target] = {}
    for name, tensor in live.items():
        shape = opened.shape(name)
        if tuple(tensor.shape) != shape:
            raise InputError(f"the live {name} is {list(tensor.shape)}, the base {list(shape)}; load the base")
        place = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        source = opened.source_name(name)
        found.setdefault(place, _Target(source, tensor, position(source)))
    return tuple(found.values())
