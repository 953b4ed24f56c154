"""Files of mergekit's documentation on tiny models: our tensors against those of mergekit 0.1.5's own run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from mergers._checkpoint.checkpoint import SINGLE
from mergers._merge import write_blueprint

from .mergekit_files import BY_RANK, FILES, STAGES, placed
from .mergekit_runs import LAYERS, evaluate, read, run_mergekit, units_apart
from .tiny_models import save_models

pytest.importorskip("mergekit")


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("layered")
    for name, tied, dtype in (
        ("untied", False, torch.float32),
        ("tied", True, torch.float32),
        ("half", False, torch.bfloat16),
    ):
        save_models(root / name, tied=tied, dtype=dtype, layers=LAYERS)
    return {path.name: path for path in root.iterdir()}


def compare(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, values in theirs.items():
        torch.testing.assert_close(ours[name], values, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["untied", "tied"])
def test_float32_tensors_are_mergekits(name: str, kind: str, roots: dict[str, Path], tmp_path: Path) -> None:
    text = placed(FILES[name], roots[kind])
    theirs = run_mergekit(text, tmp_path / "theirs")
    (found,) = read(text)
    compare(evaluate(found.blueprint), theirs)
    write_blueprint(found.blueprint, tmp_path / "ours")
    compare(load_file(tmp_path / "ours" / SINGLE), theirs)
    layers = [
        json.loads((tmp_path / who / "config.json").read_text())["num_hidden_layers"] for who in ("ours", "theirs")
    ]
    assert layers[0] == layers[1]


@pytest.mark.parametrize("name", FILES)
def test_bfloat16_output_is_mergekits_to_the_last_place(name: str, roots: dict[str, Path], tmp_path: Path) -> None:
    # Differences of bfloat16 models are often of equal size, and which of them a rank takes is open: there the
    # inputs are float32.
    text = with_types(placed(FILES[name], roots["untied" if name in BY_RANK else "half"]), "float32", "bfloat16")
    theirs = run_mergekit(text, tmp_path / "theirs")
    (found,) = read(text)
    write_blueprint(found.blueprint, tmp_path / "ours")
    for ours in (evaluate(found.blueprint), load_file(tmp_path / "ours" / SINGLE)):
        assert {tensor.dtype for tensor in ours.values()} == {torch.bfloat16}
        assert ours.keys() == theirs.keys()
        apart = {tensor: units_apart(ours[tensor], values) for tensor, values in theirs.items()}
        assert max(apart.values()) <= 1, apart


def test_arcee_fusion_is_that_of_mergekit_in_float64(roots: dict[str, Path], tmp_path: Path) -> None:
    # In float32 its divergence of a row is of the size of the rounding, which then decides who is above the threshold.
    text = placed("{merge_method: arcee_fusion, base_model: base, models: [{model: two}]}", roots["untied"])
    theirs = run_mergekit(with_types(text, "float64", "float32"), tmp_path / "theirs")
    compare(evaluate(read(text)[0].blueprint), theirs)


def with_types(text: str, dtype: str, out_dtype: str) -> str:
    types = f"dtype: {dtype}, out_dtype: {out_dtype}"
    if text.startswith("{"):
        return f"{text[:-1]}, {types}}}"
    return f"{dedent(text)}\n" + types.replace(", ", "\n")


@pytest.mark.parametrize("name", ["linear", "gradient-slerp", "stacked layers"])
def test_arithmetic_in_bfloat16_is_the_same_where_mergekit_does_it_in_float32_too(
    name: str, roots: dict[str, Path], tmp_path: Path
) -> None:
    text = placed(FILES[name], roots["half"])  # no dtype: the inputs' type
    theirs = run_mergekit(text, tmp_path / "theirs")
    (found,) = read(text)
    assert found.blueprint.dtype == "bfloat16"
    ours = evaluate(found.blueprint)
    assert max(units_apart(ours[tensor], values) for tensor, values in theirs.items()) <= 1


@pytest.mark.parametrize("untied", ["base", "one"])
def test_a_head_that_one_model_ties_is_its_embedding(untied: str, roots: dict[str, Path], tmp_path: Path) -> None:
    kinds = {name: roots["untied" if name == untied else "tied"] / name for name in ("base", "one")}
    text = f"""
        merge_method: task_arithmetic
        base_model: {kinds["base"]}
        models:
          - model: {kinds["one"]}
            parameters: {{weight: [{{filter: embed, value: 0.1}}, {{filter: lm_head, value: 0.7}}, {{value: 0.3}}]}}
        """
    theirs = run_mergekit(text, tmp_path / "theirs")
    ours = evaluate(read(text)[0].blueprint)
    assert "lm_head.weight" in ours
    compare(ours, theirs)


def test_several_documents_are_done_in_order(roots: dict[str, Path], tmp_path: Path) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    (tmp_path / "stages.yaml").write_text(placed(STAGES, roots["untied"]))
    from click.testing import CliRunner
    from mergekit.scripts.multimerge import main

    ran = CliRunner().invoke(
        main, [str(tmp_path / "stages.yaml"), "--out-path", str(theirs / "final"), "-I", str(theirs)]
    )
    assert ran.exit_code == 0, ran.output
    documents = read((tmp_path / "stages.yaml").read_text(), ours)
    assert [document.name for document in documents] == ["first-merge", "second-merge", None]
    for document in documents:
        name = document.name or "final"
        write_blueprint(document.blueprint, ours / name)
        compare(load_file(ours / name / SINGLE), load_file(theirs / name / SINGLE))


def test_a_stack_is_used_by_a_later_document_before_it_is_written(roots: dict[str, Path]) -> None:
    stack = f"name: deep\ndtype: bfloat16{dedent(FILES['stacked layers'])}"
    later = "merge_method: linear\nmodels: [{model: deep}, {model: deep+adapter}]\nparameters: {weight: 1}\n"
    first, second = read(placed(f"{later}---\n{stack}", roots["untied"]), "out")
    assert (first.name, first.blueprint.layers, first.blueprint.dtype) == ("deep", 6, "bfloat16")
    assert second.blueprint.models == ("out/deep", "out/deep+adapter")
    assert second.blueprint.dtype == "bfloat16"
    assert len(second.blueprint.parts) == len(first.blueprint.parts) == 6 * 9 + 3
    assert second.blueprint.layers is None
