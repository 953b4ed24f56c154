"""mergekit's files, both ways. What we export is run by mergekit 0.1.5 itself."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from mergers._checkpoint import SINGLE
from mergers._errors import InputError
from mergers._merge import Sources, merge_to_directory
from mergers._mergekit import MergeFile, from_mergekit, mergekit_text, to_mergekit
from mergers._spec import Merge, Value

pytest.importorskip("mergekit")


def merge(method: str, **params: Value) -> Merge:
    return Merge(method, tuple(params.items()))


MERGES = (
    merge("linear", weight=(0.3, 0.9)),
    merge("linear", weight=(0.3, -0.2), normalize=False),
    merge("slerp", t=0.35),
    merge("task_arithmetic", weight=(0.6, -0.2), lambda_=0.9),
    merge("task_arithmetic", weight=0.5, normalize=True),
    merge("ties", weight=(0.4, 0.6), density=(0.5, 0.3)),
    merge("ties", weight=0.7, normalize=False, rescale=True, density=0.2, lambda_=1.3),
    merge("dare_ties", weight=(0.4, 0.6), density=0.5),
)


def models(root: Path) -> tuple[str, list[str]]:
    return str(root / "base"), [str(root / "one"), str(root / "two")]


def run_mergekit(text: str, out: Path) -> dict[str, Tensor]:
    """What the command does, without starting a process for each."""
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    run_merge(MergeConfiguration.model_validate(yaml.safe_load(text)), str(out), MergeOptions(quiet=True))
    return dict(load_file(out / SINGLE))


def compare(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("given", [one for one in MERGES if one.method != "dare_ties"], ids=str)
@pytest.mark.parametrize("fixture", ["tied_models", "untied_models"])
def test_mergekit_gives_our_tensors(given: Merge, fixture: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    base, experts = models(request.getfixturevalue(fixture))
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


def test_random_masks_differ_and_the_file_says_so(tied_models: Path, tmp_path: Path) -> None:
    base, experts = models(tied_models)
    text = mergekit_text(MERGES[-1], base, experts, "bfloat16")
    assert text.startswith("# mergekit draws its masks from another generator")
    theirs = run_mergekit(text, tmp_path / "theirs")
    merge_to_directory(MERGES[-1], Sources(base, tuple(experts)), tmp_path / "ours", dtype="bfloat16")
    ours = load_file(tmp_path / "ours" / SINGLE)
    assert {name: (t.shape, t.dtype) for name, t in ours.items()} == {
        name: (t.shape, t.dtype) for name, t in theirs.items()
    }
    assert not mergekit_text(MERGES[0], base, experts, "float32").startswith("#")


def test_bfloat16_output_is_within_one_unit_in_the_last_place(bfloat16_models: Path, tmp_path: Path) -> None:
    base, experts = models(bfloat16_models)
    for number, given in enumerate(MERGES[:4]):
        theirs = run_mergekit(mergekit_text(given, base, experts, "bfloat16"), tmp_path / f"theirs{number}")
        merge_to_directory(given, Sources(base, tuple(experts)), tmp_path / f"ours{number}", dtype="bfloat16")
        for name, tensor in load_file(tmp_path / f"ours{number}" / SINGLE).items():
            steps = (tensor.view(torch.int16).int() - theirs[name].view(torch.int16).int()).abs()
            assert int(steps.max()) <= 1, (given.method, name)


@pytest.mark.parametrize("given", MERGES, ids=str)
def test_files_round_trip(given: Merge) -> None:
    read = from_mergekit(mergekit_text(given, "b", ["x", "y"], "bfloat16"))
    assert read.experts == ("x", "y")
    assert read.base == ("x" if given.method == "slerp" else "b")
    assert read.dtype == "bfloat16"
    again = from_mergekit(to_mergekit(read.merge, read.base, read.experts, "bfloat16"))
    assert again == read
    spelled_out = dict(read.merge.params)
    for name, value in given.params:
        assert spelled_out[name] == (
            (value,) * 2 if name in ("weight", "density") and isinstance(value, float) else value
        )


def test_the_base_as_an_expert_stays_one() -> None:
    given = merge("linear", weight=(0.5, 0.5), normalize=True)
    read = from_mergekit(to_mergekit(given, "b", ["b", "x"], "float32"))
    assert read == MergeFile(given, "b", ("b", "x"), "float32")
    alone = merge("linear", weight=(1.0,))
    assert from_mergekit(to_mergekit(alone, "b", ["b"], "float32")).experts == ("b",)


def test_numpys_numbers_are_written() -> None:
    given = merge("ties", weight=(np.float64(0.5), np.float64(0.25)), density=np.float64(0.5), lambda_=np.float64(2))
    assert yaml.safe_load(mergekit_text(given, "b", ["x", "y"], "float32"))["parameters"]["lambda"] == 2.0


@pytest.mark.parametrize(
    ("given", "base", "experts", "says"),
    [
        (merge("mergers.ties:ties", weight=1.0), "b", ["x"], "mergekit has no method"),
        (merge("ties", weight=1.0), None, ["x"], "ties needs a base"),
        (merge("ties", weight=1.0), "b", ["b", "x"], "merges a model once"),
        (merge("linear", weight=1.0), "b", ["x", "x"], "merges a model once"),
        (merge("ties", weight=1.0, density=3.0), "b", ["x"], "density must lie"),
    ],
)
def test_what_mergekit_cannot_run_is_refused(given: Merge, base: str | None, experts: list[str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        to_mergekit(given, base, experts, "float32")


def test_mergekits_rules_are_read() -> None:
    read = from_mergekit(
        """
        merge_method: ties
        base_model: b
        models:
          - {model: b, parameters: {weight: 9, density: 9}}
          - {model: x, parameters: {weight: 0.3}}
          - {model: y, parameters: {density: 1e-1}}
        parameters: {weight: 0.5, density: 0.7, lambda: 0.9, int8_mask: true, normalize: false}
        dtype: bfloat16
        tokenizer_source: base
        """
    )
    expected = merge("ties", weight=(0.3, 0.5), density=(0.7, 0.1), lambda_=0.9, normalize=False)
    assert read == MergeFile(expected, "b", ("x", "y"), "bfloat16")


def test_slerp_counts_from_the_base_wherever_it_is_listed() -> None:
    for models in ("[{model: b}, {model: x}]", "[{model: x}, {model: b}]", "[{model: x}]"):
        read = from_mergekit(f"{{merge_method: slerp, base_model: b, models: {models}, parameters: {{t: 0.3}}}}")
        assert read == MergeFile(merge("slerp", t=0.3), "b", ("b", "x"), None)


def test_linear_without_a_base_takes_the_first() -> None:
    read = from_mergekit("{merge_method: linear, models: [{model: x}, {model: y}], parameters: {weight: 1}}")
    assert read == MergeFile(merge("linear", weight=(1.0, 1.0)), "x", ("x", "y"), None)


TWO = [{"model": "x", "parameters": {"weight": 0.5}}, {"model": "y", "parameters": {"weight": 0.5}}]
LINEAR: dict[str, Any] = {"merge_method": "linear", "models": TWO}


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("", "0 documents"),
        ("[]", "one YAML mapping"),
        ("a: [", "not YAML"),
        ("merge_method: linear\nmerge_method: ties\nmodels: []", "key 'merge_method' is given twice"),
        ("{merge_method: linear}\n---\n{merge_method: linear}", "2 documents"),
        (LINEAR | {"slices": []}, "not available yet: slices"),
        (LINEAR | {"modules": {}}, "not available yet: modules"),
        (LINEAR | {"tokenizer": {"source": "union"}}, "not available yet: tokenizer"),
        (LINEAR | {"tokenizer_source": "union"}, "not available yet: tokenizer_source 'union'"),
        (LINEAR | {"chat_template": "auto"}, "not available yet: chat_template"),
        (LINEAR | {"base_modle": "b"}, "unknown key 'base_modle'.*did you mean 'base_model'"),
        (LINEAR | {"merge_method": "della"}, "not available yet: merge method 'della'"),
        (LINEAR | {"models": []}, "at least one model"),
        (LINEAR | {"models": None}, "at least one model"),
        (LINEAR | {"models": ["x"]}, "holds model and parameters"),
        (LINEAR | {"models": [{"model": "x", "weight": 1}]}, "holds model and parameters"),
        (LINEAR | {"models": [*TWO, TWO[0]]}, "listed once"),
        (LINEAR | {"models": [{"model": "x+adapter"}]}, "not available yet: adapters"),
        (LINEAR | {"models": [{"model": {"model": {"path": "x"}}}]}, "not available yet: model reference"),
        (LINEAR | {"models": [{"model": "x"}]}, "linear needs parameter 'weight' for x"),
        (LINEAR | {"base_model": "b"}, "list b with its weight"),
        (LINEAR | {"merge_method": "ties"}, "ties needs base_model"),
        (LINEAR | {"merge_method": "slerp"}, "slerp needs base_model"),
        (LINEAR | {"parameters": {"normalise": True}}, "no parameter 'normalise'; did you mean 'normalize'"),
        (LINEAR | {"parameters": {"normalize": 1}}, "normalize must be true or false, got 1"),
        (LINEAR | {"parameters": [{"weight": 1}]}, "not available yet: a list"),
        (LINEAR | {"parameters": 3}, "must be a mapping"),
        (LINEAR | {"models": [{"model": "x", "parameters": {"weight": [0, 1]}}]}, "not available yet: gradients"),
        (
            LINEAR | {"models": [{"model": "x", "parameters": {"weight": [{"filter": "mlp", "value": 1}]}}]},
            "not available yet: filters",
        ),
        (
            LINEAR | {"models": [{"model": "x", "parameters": {"weight": "half"}}]},
            "weight must be a number, got 'half'",
        ),
        (LINEAR | {"models": [{"model": "x", "parameters": {"weight": 0}}]}, "divides by the sum of weight"),
    ],
)
def test_other_files_are_refused_in_one_line(source: str | dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        from_mergekit(source)
    assert "\n" not in str(caught.value)
