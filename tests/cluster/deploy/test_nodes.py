"""Nodes worked out from processes."""

from __future__ import annotations

import re

import pytest

from cluster._errors import InputError
from cluster.deploy.job import GIB, Group, Job, Nodes, Wishes, check_image, nodes_for

from .jobs import CPU, GPU


def job(*groups: Group, kind: str = "cuda") -> Job:
    return Job("x", "/r.yaml", "", groups, (), "runs/x", kind)


@pytest.mark.parametrize(
    ("groups", "wishes", "expected"),
    [
        # Sixteen GPUs of the training in nodes of eight; eight workers of eight CPUs, and one for Ray.
        (GPU.groups, Wishes(), Nodes(2, 2, 65, 8, (6 + 8 * (2 * 16 + 2)) * GIB)),
        (GPU.groups, Wishes(gpus=4, most=6), Nodes(4, 6, 33, 4, (6 + 4 * (2 * 16 + 2)) * GIB)),
        (GPU.groups, Wishes(nodes=5, memory=7 * GIB), Nodes(5, 5, 65, 8, 7 * GIB)),
        # Two actors share a GPU: five need three.
        ((Group(5, 1, 0.5, GIB),), Wishes(), Nodes(1, 1, 6, 3, (6 + 5 * 4) * GIB)),
        ((Group(5, 1, 0.5, GIB),), Wishes(gpus=1), Nodes(3, 3, 3, 1, (6 + 2 * 4) * GIB)),
        # CPUs alone: everything on one node unless a node is said to be smaller.
        ((Group(10, 0.9, 0, GIB),), Wishes(), Nodes(1, 1, 10, 0, (6 + 10 * 4) * GIB)),
        ((Group(10, 0.9, 0, GIB),), Wishes(cpus=4), Nodes(3, 3, 4, 0, (6 + 4 * 4) * GIB)),
    ],
)
def test_nodes_hold_the_largest_group(groups: tuple[Group, ...], wishes: Wishes, expected: Nodes) -> None:
    assert nodes_for(job(*groups), wishes) == expected


@pytest.mark.parametrize(
    ("groups", "wishes", "says"),
    [
        (CPU.groups, Wishes(gpus=1), "--gpus: the recipe holds no GPUs, got 1"),
        (GPU.groups, Wishes(gpus=0), "--gpus: the recipe needs 16 GPUs, got 0"),
        (GPU.groups, Wishes(nodes=1), "--nodes: the recipe's processes need 2 such nodes, got 1"),
        (GPU.groups, Wishes(most=1), "--max-nodes: must be at least the 2 nodes of the start, got 1"),
        ((Group(2, 1, 0, 0),), Wishes(), "--memory: the base is not here"),
        ((Group(2, 8, 0, 1),), Wishes(cpus=4), "one process holds 0 GPUs and 8 CPUs and a node has 0 and 4"),
        ((Group(1, 1, 4, 1),), Wishes(gpus=2), "one process holds 4 GPUs and 1 CPUs and a node has 2 and any"),
    ],
)
def test_what_cannot_hold_it_is_refused(groups: tuple[Group, ...], wishes: Wishes, says: str) -> None:
    with pytest.raises(InputError, match=re.escape(says)) as error:
        nodes_for(job(*groups), wishes)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("kind", "image", "fits"),
    [
        ("cuda", "reg.io/mergefront:0.1.0-cpu", False),
        ("cuda", "reg.io/mergefront:0.1.0-cuda", True),
        ("cuda", "reg.io/ours@sha256:0123", True),
        ("vllm", "reg.io/mergefront:0.1.0-cuda", False),
        ("vllm", "reg.io/mergefront-vllm-cuda:1", True),
        ("cpu", "reg.io/mergefront:0.1.0-cpu", True),
        ("cpu", "reg.io/mergefront:0.1.0-cuda", True),
    ],
)
def test_an_image_whose_name_says_that_it_lacks_something(kind: str, image: str, fits: bool) -> None:
    if fits:
        check_image(job(CPU.groups[0], kind=kind), image)
    else:
        with pytest.raises(InputError, match=r"^--image: the recipe"):
            check_image(job(CPU.groups[0], kind=kind), image)


def test_slugs() -> None:
    assert GPU.slug == "six-languages"
    assert job().slug == "x"
    assert Job("A_b." * 30, "", "", (), (), "", "cpu").slug == "a-b-a-b-a-b-a-b-a-b-a-b-a-b-a-b-a-b-a-b"
