"""What a place must offer for one job, worked out from what the job's processes hold."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from .._errors import InputError

GIB = 2**30
MOST_GPUS_ON_A_NODE = 8
_LOADING = 2.0  # a checkpoint that is read, and the model that is made from it
_SYSTEM_BYTES = 6 * GIB  # Ray's daemons, its object store, the driver, libraries of a first worker
_PROCESS_BYTES = 2 * GIB  # torch and its libraries, for each process


@dataclass(frozen=True)
class Group:
    """Processes of one kind: how many, and what each holds.

    Attributes:
        count: processes at the same time.
        cpus, gpus: of each.
        bytes: of each, model and optimizer alone; 0 = not known.
    """

    count: int
    cpus: float
    gpus: float
    bytes: int


@dataclass(frozen=True)
class Job:
    """One command to run on a cluster, and what it needs.

    Attributes:
        name: of the job, as a person wrote it.
        recipe: absolute path of its file here; `text` is what it holds.
        groups: processes that the job starts; groups follow each other, so the largest counts.
        variables: names of the environment variables whose values the job needs (keys, passwords).
        storage: where results go: a path as the nodes see it, or a URL.
        image_kind: `cpu`, `cuda` or `vllm`.
    """

    name: str
    recipe: str
    text: str
    groups: tuple[Group, ...]
    variables: tuple[str, ...]
    storage: str
    image_kind: str

    @property
    def slug(self) -> str:
        """The name in letters, digits and dashes, at most 40: what Kubernetes and Slurm take."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")[:40].strip("-") or "run"


@dataclass(frozen=True)
class Wishes:
    """What the person said about nodes; None = work it out.

    Attributes:
        gpus, cpus: of one node.
        memory: of one node, bytes.
        nodes, most: nodes from the start, and how many the cluster may grow to.
        image: container image; "" = none.
    """

    gpus: int | None = None
    cpus: int | None = None
    memory: int | None = None
    nodes: int | None = None
    most: int | None = None
    image: str = ""


@dataclass(frozen=True)
class Nodes:
    """Equal nodes: `count` from the start, at most `most`; `cpus`, `gpus` and `memory` (bytes) of each."""

    count: int
    most: int
    cpus: int
    gpus: int
    memory: int

    @property
    def grows(self) -> bool:
        """Whether nodes are added on demand."""
        return self.most > self.count


def nodes_for(job: Job, wishes: Wishes) -> Nodes:
    """The nodes that hold a job's largest group.

    Raises:
        InputError: wishes that cannot hold it, or that contradict it, or memory that nothing here can tell.
    """
    needed = max(group.count * group.gpus for group in job.groups)
    if not needed and wishes.gpus:
        raise InputError(f"--gpus: the recipe holds no GPUs, got {wishes.gpus}; set gpus in its cluster section")
    gpus = wishes.gpus if wishes.gpus is not None else min(MOST_GPUS_ON_A_NODE, math.ceil(needed))
    if needed and not gpus:
        raise InputError(
            f"--gpus: the recipe needs {needed:g} GPUs, got 0; leave it away, or say gpus: 0 in the recipe"
        )
    count, cpus, memory = 1, 1, 0
    for group in job.groups:
        on_one = _on_one(group, gpus, wishes.cpus)
        count = max(count, math.ceil(group.count / on_one))
        together = min(on_one, group.count)
        cpus = max(cpus, math.ceil(together * group.cpus - 1e-9) + 1)  # one for Ray and the search itself
        memory = max(memory, math.ceil(_SYSTEM_BYTES + together * (_LOADING * group.bytes + _PROCESS_BYTES)))
    if wishes.memory is None and not any(group.bytes for group in job.groups):
        raise InputError("--memory: the base is not here, so a node's memory cannot be worked out; say such as 64GiB")
    count = max(count, wishes.nodes or 1) if wishes.nodes is None or wishes.nodes >= count else _too_few(wishes, count)
    if wishes.most is not None and wishes.most < count:
        raise InputError(f"--max-nodes: must be at least the {count} nodes of the start, got {wishes.most}")
    rounded = math.ceil(memory / GIB) * GIB
    return Nodes(count, wishes.most or count, wishes.cpus or cpus, gpus, wishes.memory or rounded)


def check_image(job: Job, image: str) -> None:
    """Refuse an image whose name says that it lacks what the job needs.

    Raises:
        InputError: an image for CPUs and a job with GPUs, or one without vLLM and a job whose engine that is.
    """
    words = re.split(r"[-_:/.@]", image.lower())
    if job.image_kind != "cpu" and "cpu" in words:
        raise InputError(f"--image: the recipe needs GPUs and this image has no CUDA, got {image}; name a -cuda image")
    if job.image_kind == "vllm" and "cuda" in words and "vllm" not in words:
        raise InputError(
            f"--image: the recipe's engine is vllm and this image lacks it, got {image}; name a -vllm image"
        )


def _too_few(wishes: Wishes, count: int) -> int:
    raise InputError(
        f"--nodes: the recipe's processes need {count} such nodes, got {wishes.nodes}; "
        "ask for more, for larger ones (--gpus, --cpus), or for fewer processes in the recipe"
    )


def _on_one(group: Group, gpus: int, cpus: int | None) -> int:
    """Processes of a group that fit on one node."""
    fits = [math.floor(gpus / group.gpus + 1e-9)] if group.gpus else []
    if cpus is not None:
        fits.append(math.floor(cpus / group.cpus + 1e-9))
    on_one = min(fits, default=group.count)
    if on_one < 1:
        raise InputError(
            f"one process holds {group.gpus:g} GPUs and {group.cpus:g} CPUs and a node has {gpus} and "
            f"{'any' if cpus is None else cpus}; ask for larger nodes (--gpus, --cpus)"
        )
    return on_one
