"""Inputs and parameters of every tensor, for files made at random, against mergekit's own planner."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mergers._errors import InputError
from mergers._mergekit import METHODS
from mergers._mergekit.vocabulary import beside_model, without_effect, word
from mergers._schema import load_method

from .mergekit_runs import LAYERS, read
from .tiny_models import save_models

registry = pytest.importorskip("mergekit.merge_methods.registry")

RANGES = {
    "weight": (0.1, 1.0),
    "density": (0.4, 0.6),
    "epsilon": (0.01, 0.1),
    "gamma": (0.0, 0.1),
    "select_topk": (0.1, 1),
}
FILTERS = ("self_attn", "mlp", "layers.2.", "layers.3", "embed", "lm_head", "norm", "*", None)
ORDINARY = sorted(set(METHODS) - {"karcher"})


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("planned")
    save_models(root / "untied", tied=False, dtype=torch.float32, names=("base", "one", "two"), layers=LAYERS)
    save_models(root / "tied", tied=True, dtype=torch.float32, names=("three",), layers=LAYERS)
    return root


def scalars(name: str, kind: str) -> st.SearchStrategy[Any]:
    if kind == "bool":
        return st.booleans()
    if kind == "int":
        return st.integers(1, 20)
    numbers = st.floats(*RANGES.get(name, (0.0, 1.0)))
    return numbers | numbers.map(lambda number: f"{number:.3e}")


@st.composite
def setting(draw: st.DrawFn, name: str, kind: str) -> Any:
    scalar = scalars(name, kind)
    value = scalar if kind == "int" else scalar | st.lists(scalar, min_size=1, max_size=6)
    rule = st.builds(
        lambda part, found: {"value": found} if part is None else {"filter": part, "value": found},
        st.sampled_from(FILTERS),
        value,
    )
    return draw(value | rule | st.lists(rule, min_size=1, max_size=4))


@st.composite
def parameters(draw: st.DrawFn, method: str, *, beside: bool, sure: bool = False) -> dict[str, Any]:
    found = {}
    for parameter in load_method(method).parameters:
        name = word(parameter)
        if name not in METHODS[method] or (beside and not beside_model(load_method(method), parameter)):
            continue
        if sure and parameter.required:
            found[name] = draw(scalars(name, parameter.kind))
        elif draw(st.booleans()):
            found[name] = draw(setting(name, parameter.kind))
    return found


@st.composite
def files(draw: st.DrawFn) -> dict[str, Any]:
    method = draw(st.sampled_from(ORDINARY))
    loaded = load_method(method)
    based = loaded.needs_base or method == "slerp" or (loaded.optional_base and draw(st.booleans()))
    fixed = {"slerp": 1, "passthrough": 1}.get(method, loaded.min_experts if loaded.max_experts else 2)
    names = draw(st.permutations(["one", "two", "three"]))[:fixed]
    whole = draw(st.booleans())
    listed = [*names, "base"] if based and not (whole and draw(st.booleans())) else list(names)
    everywhere = draw(parameters(method, beside=False, sure=draw(st.booleans())))
    file: dict[str, Any] = {"merge_method": method, "parameters": everywhere}
    if based:
        file["base_model"] = "base"
    if whole:
        order = draw(st.permutations(listed))
        file["models"] = [{"model": name, "parameters": draw(parameters(method, beside=True))} for name in order]
        return file
    file["slices"] = []
    for _ in range(draw(st.integers(1, 3))):
        length = draw(st.integers(1, LAYERS))
        starts = st.integers(0, LAYERS - length)
        file["slices"].append(
            {
                "sources": [
                    {
                        "model": name,
                        "layer_range": [start := draw(starts), start + length],
                        "parameters": draw(parameters(method, beside=True)),
                    }
                    for name in draw(st.permutations(listed))
                ],
                "parameters": draw(parameters(method, beside=False)),
            }
        )
    if draw(st.booleans()):
        module = {"slices": file.pop("slices"), "parameters": draw(parameters(method, beside=False))}
        file["modules"] = {"default": module}
    return file


def theirs(text: str) -> Iterator[tuple[str, dict[str, str], dict[str, Any], dict[str, dict[str, Any]]]]:
    """Name, input names by model, shared parameters and those of each model, of every tensor that mergekit plans."""
    from mergekit.architecture import get_architecture_info
    from mergekit.config import MergeConfiguration
    from mergekit.io.tasks import LoaderCache
    from mergekit.merge import _model_out_config
    from mergekit.options import MergeOptions
    from mergekit.plan import MergePlanner

    config = MergeConfiguration.model_validate(yaml.safe_load(text))
    options = MergeOptions(quiet=True)
    LoaderCache().setup(options=options)
    architecture = get_architecture_info(config, options)
    planner = MergePlanner(config, architecture, options, _model_out_config(config, architecture))
    planner.plan_to_disk("unused")
    for weight, task in planner._tensors:
        names = {str(model): info.name for model, info in task.gather_tensors.weight_info.items()}
        each = {str(model): dict(values.items()) for model, values in task.input_parameters.items()}
        yield weight.name, names, dict(task.parameters.items()), each


@settings(max_examples=40, deadline=None)
@given(file=files())
def test_every_tensor_has_mergekits_inputs_and_parameters(file: dict[str, Any], root: Path) -> None:
    text = yaml.safe_dump(file, sort_keys=False)
    for name in ("base", "one", "two", "three"):
        text = text.replace(f"model: {name}\n", f"model: {root / ('tied' if name == 'three' else 'untied') / name}\n")
    try:
        blueprint = read(text)[0].blueprint
    except InputError:
        with pytest.raises(RuntimeError, match="Missing required parameter"):
            list(theirs(text))
        return
    planned = list(theirs(text))
    parts = {part.name: part for part in blueprint.parts}
    assert parts.keys() == {name for name, *_ in planned}
    for name, names, shared, each in planned:
        part = parts[name]
        places = [*([] if part.base is None else [part.base]), *part.inputs]
        assert {blueprint.models[index] for index, _ in places} == names.keys()
        for index, own in places:
            assert own in (names[blueprint.models[index]], "model.embed_tokens.weight"), name
        params = {key.rstrip("_"): value for key, value in part.params}
        experts = [blueprint.models[index] for index, _ in part.inputs]
        wanted: list[tuple[str, Any, int | None]] = [(key, value, None) for key, value in shared.items()]
        wanted += [(key, value, at) for at, model in enumerate(experts) for key, value in each[model].items()]
        for key, value, at in wanted:
            if key not in params:
                assert without_effect(load_method(part.method), key)
                continue
            mine = params[key]
            expected = 1.0 if value is None else value  # mergekit's passthrough has no scale where ours is 1
            assert (mine[at] if isinstance(mine, tuple) and at is not None else mine) == expected, (name, key)
