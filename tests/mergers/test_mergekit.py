"""A merge of ours as mergekit's file, run by mergekit 0.1.5 itself, and plain files as a merge of ours."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from mergers._checkpoint.checkpoint import SINGLE
from mergers._errors import InputError
from mergers._merge import Sources, merge_to_directory
from mergers._mergekit import METHODS, mergekit_text, to_mergekit
from mergers._mergekit.vocabulary import beside_model, without_effect, words
from mergers._schema import load_method
from mergers._settings import Filters, Gradient
from mergers._spec import Merge, Value

from .mergekit_runs import run_mergekit, units_apart

pytest.importorskip("mergekit")


def merge(method: str, **params: Value) -> Merge:
    return Merge(method, tuple(params.items()))


EVERYWHERE = Filters((("mlp", Gradient((0.1, 0.5, 0.9))), ("self_attn", 0.25), ("*", Gradient((0.4, 0.6)))))

MERGES = (
    merge("linear", weight=(0.3, 0.9)),
    merge("linear", weight=(0.3, -0.2), normalize=False),
    merge("slerp", t=0.35),
    merge("task_arithmetic", weight=(0.6, -0.2), lambda_=0.9),
    merge("task_arithmetic", weight=0.5, normalize=True),
    merge("ties", weight=(0.4, 0.6), density=(0.5, 0.3)),
    merge("ties", weight=0.7, normalize=False, rescale=True, density=0.2, lambda_=1.3),
    merge("ties", weight=(EVERYWHERE, 0.3), density=(0.5, Gradient((0.2, 0.8))), lambda_=EVERYWHERE),
    merge("slerp", t=EVERYWHERE),
    merge("nuslerp", weight=(0.7, Gradient((0.1, 0.9)))),
    merge("nuslerp", weight=(0.7, 0.3), task_vectors=True, nuslerp_flatten=False),
    merge("multislerp", weight=0.5, task_vectors=True, normalize_weights=False),
    merge("karcher", max_iter=20),
    merge("dare_linear", weight=(0.4, 0.6), density=1.0),
    merge("breadcrumbs", weight=(0.4, 0.6), density=0.8, gamma=(0.01, 0.1)),
    merge("breadcrumbs_ties", weight=(0.4, -0.6), density=0.8, normalize=False),
    merge("della", weight=(0.4, 0.6), density=1.0),
    merge("della_linear", weight=0.3, density=1.0),
    merge("sce", select_topk=0.7),
    merge("model_stock", filter_wise=True),
    merge("ram", epsilon=0.01),
    merge("ramplus_tl", epsilon=0.01, r=0.5),
)

ONE = (
    merge("nearswap", t=0.01),
    merge("passthrough", scale=EVERYWHERE),
    merge("task_arithmetic", weight=-0.5),
)

RANDOM = (
    merge("dare_ties", weight=(0.4, 0.6), density=0.5),
    merge("dare_linear", weight=(0.4, 0.6), density=0.5),
    merge("della", weight=(0.4, 0.6), density=0.5),
    merge("della_linear", weight=(0.4, 0.6), density=0.5, epsilon=0.1),
)


def models(root: Path) -> tuple[str, list[str]]:
    return str(root / "base"), [str(root / "one"), str(root / "two")]


def compare(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("given", MERGES + ONE, ids=lambda given: given.method)
@pytest.mark.parametrize("fixture", ["tied_models", "untied_models"])
def test_mergekit_gives_our_tensors(given: Merge, fixture: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    base, experts = models(request.getfixturevalue(fixture))
    experts = experts[:1] if given in ONE else experts
    theirs = run_mergekit(mergekit_text(given, base, experts, "float32"), tmp_path / "theirs")
    merge_to_directory(given, Sources(base, tuple(experts)), tmp_path / "ours", dtype="float32")
    compare(load_file(tmp_path / "ours" / SINGLE), theirs)


def test_the_command_runs_our_file(tied_models: Path, tmp_path: Path) -> None:
    base, experts = models(tied_models)
    (tmp_path / "merge.yaml").write_text(mergekit_text(MERGES[5], base, experts, "float32"))
    command = Path(sys.executable).with_name("mergekit-yaml")
    subprocess.run([command, "merge.yaml", "out", "--quiet"], cwd=tmp_path, check=True, timeout=240)
    merge_to_directory(MERGES[5], Sources(base, tuple(experts)), tmp_path / "ours", dtype="float32")
    compare(load_file(tmp_path / "ours" / SINGLE), load_file(tmp_path / "out" / SINGLE))
    assert (tmp_path / "out" / "tokenizer.json").is_file()


@pytest.mark.parametrize("given", RANDOM, ids=lambda given: given.method)
def test_random_masks_differ_and_the_file_says_so(given: Merge, tied_models: Path, tmp_path: Path) -> None:
    base, experts = models(tied_models)
    text = mergekit_text(given, base, experts, "bfloat16")
    assert text.startswith("# mergekit draws its masks from another generator")
    theirs = run_mergekit(text, tmp_path / "theirs")
    merge_to_directory(given, Sources(base, tuple(experts)), tmp_path / "ours", dtype="bfloat16")
    ours = load_file(tmp_path / "ours" / SINGLE)
    assert {name: (t.shape, t.dtype) for name, t in ours.items()} == {
        name: (t.shape, t.dtype) for name, t in theirs.items()
    }
    assert not mergekit_text(MERGES[0], base, experts, "float32").startswith("#")


def test_every_method_of_mergekit_has_ours_with_the_same_parameters() -> None:
    from mergekit.merge_methods.base import ParameterScope
    from mergekit.merge_methods.registry import registered_methods

    assert {method.spec.name for method in registered_methods()} == set(METHODS)
    for theirs in registered_methods():
        ours = load_method(theirs.spec.name)
        known = words(ours)
        assert {parameter.name for parameter in theirs.spec.parameters} == set(METHODS[ours.name])
        for parameter in theirs.spec.parameters:
            if parameter.name not in known:
                assert without_effect(ours, parameter.name), (ours.name, parameter.name)
                continue
            beside = parameter.scope != ParameterScope.SHARED
            assert beside == beside_model(ours, known[parameter.name]), (ours.name, parameter.name)
            if not parameter.required and parameter.default is not None:
                assert parameter.default == known[parameter.name].default, (ours.name, parameter.name)


def test_bfloat16_output_is_within_one_unit_in_the_last_place(bfloat16_models: Path, tmp_path: Path) -> None:
    base, experts = models(bfloat16_models)
    for number, given in enumerate(MERGES[:4]):
        theirs = run_mergekit(mergekit_text(given, base, experts, "bfloat16"), tmp_path / f"theirs{number}")
        merge_to_directory(given, Sources(base, tuple(experts)), tmp_path / f"ours{number}", dtype="bfloat16")
        for name, tensor in load_file(tmp_path / f"ours{number}" / SINGLE).items():
            assert units_apart(tensor, theirs[name]) <= 1, (given.method, name)


def test_numpys_numbers_are_written() -> None:
    given = merge("ties", weight=(np.float64(0.5), np.float64(0.25)), density=np.float64(0.5), lambda_=np.float64(2))
    assert yaml.safe_load(mergekit_text(given, "b", ["x", "y"], "float32"))["parameters"]["lambda"] == 2.0


@pytest.mark.parametrize(
    ("given", "base", "experts", "says"),
    [
        (merge("mergers.ties:ties", weight=1.0), "b", ["x"], "mergekit has no method"),
        (merge("ties", weight=1.0, convention="paper"), "b", ["x"], "mergekit's ties has no convention 'paper'"),
        (merge("nuslerp", weight=1.0, task_vectors=True), None, ["x", "y"], "nuslerp needs a base"),
        (merge("multislerp", weight=1.0, task_vectors=True), "x", ["x", "y"], "merges a model once"),
        (merge("ties", weight=1.0), None, ["x"], "ties needs a base"),
        (merge("ties", weight=1.0), "b", ["b", "x"], "merges a model once"),
        (merge("linear", weight=1.0), "b", ["x", "x"], "merges a model once"),
        (merge("ties", weight=1.0, density=3.0), "b", ["x"], "density must lie"),
    ],
)
def test_what_mergekit_cannot_run_is_refused(given: Merge, base: str | None, experts: list[str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        to_mergekit(given, base, experts, "float32")
