"""Layer groups: partitions of real families' tensors, and merges that carry them through every file that has them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mergers._checkpoint.checkpoint import SINGLE, open_checkpoint
from mergers._errors import InputError
from mergers._merge import Sources, merge_to_directory, parts_of
from mergers._mergekit import mergekit_text
from mergers._schema import load_method
from mergers._settings import at, position_of
from search._recipe import constraints
from search._recipe.layer_groups import LayerGroups
from search._space.discrepancy import discrepancy, natural_cuts
from search._space.groups import WHOLE, Groups, LayoutError, by_depth, by_kind, equal_cuts, kind_of, layers_of
from search._space.layers import groups_of, problem_of, run_groups
from search._space.stored import from_json, to_json, typical, varies
from search.experts import Model
from search.recipe import parse_recipe
from search.results.document import merge_of
from search.space import space_of
from search.study import candidate_key
from tests.mergers.mergekit_runs import evaluate, read, run_mergekit
from tests.mergers.tiny_models import save_models
from tests.search import landscape
from tests.search.test_recipe import edited

LLAMA = ("self_attn.q_proj", "self_attn.q_norm", "mlp.up_proj", "input_layernorm", "post_attention_layernorm")
GPT2 = ("attn.c_attn", "mlp.c_fc", "ln_1", "ln_2")
OPT = ("self_attn.k_proj", "self_attn_layer_norm", "fc1", "fc2", "final_layer_norm")
MIXTRAL = ("self_attn.q_proj", "block_sparse_moe.experts.3.w1", "input_layernorm")
FAMILIES = {
    "llama": ("model.embed_tokens", "model.layers", LLAMA, ("model.norm", "lm_head")),
    "tied": ("model.embed_tokens", "model.layers", LLAMA, ("model.norm",)),
    "gpt2": ("transformer.wte", "transformer.h", GPT2, ("transformer.ln_f",)),
    "bare": ("wte", "h", GPT2, ("ln_f",)),
    "opt": ("model.decoder.embed_tokens", "model.decoder.layers", OPT, ("model.decoder.final_layer_norm",)),
    "mixtral": ("model.embed_tokens", "model.layers", MIXTRAL, ("model.norm", "lm_head")),
}
EXPERTS = ("general", "safety")


def names_of(family: str, layers: int = 13) -> tuple[str, ...]:
    embedding, prefix, modules, last = FAMILIES[family]
    inside = (f"{prefix}.{layer}.{module}" for layer in range(layers) for module in modules)
    return tuple(f"{name}.weight" for name in (embedding, *inside, *last))


def placed(groups: Groups, names: tuple[str, ...], layers: int) -> dict[str, str]:
    """The group of each tensor, as a merge would find it: a number for each group, looked up by name and position."""
    setting = groups.setting([float(number) for number in range(len(groups.names))])
    found = {name: at(setting, name, position_of(name, layers)) for name in names}
    assert all(abs(float(number) - round(float(number))) < 1e-12 for number in found.values())
    return {name: groups.names[round(float(number))] for name, number in found.items()}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("count", [2, 3, 5, 13])
def test_equal_groups_are_runs_of_whole_layers(family: str, count: int) -> None:
    names = names_of(family)
    groups = by_depth(names, equal_cuts(13, count))
    found = placed(groups, names, 13)
    prefix, layers = layers_of(names)
    assert (layers, len(groups.names)) == (13, count)
    by_layer = [{found[name] for name in names if name.startswith(f"{prefix}.{layer}.")} for layer in range(13)]
    assert all(len(one) == 1 for one in by_layer)
    runs = [next(iter(one)) for one in by_layer]
    assert list(dict.fromkeys(runs)) == list(groups.names)
    sizes = [runs.count(name) for name in groups.names]
    assert max(sizes) - min(sizes) <= 1
    assert found[names[0]] == groups.names[0]
    assert found[names[-1]] == groups.names[-1]


@pytest.mark.parametrize("layers", range(1, 130, 4))
def test_a_layer_has_its_groups_value_whatever_the_number_of_layers(layers: int) -> None:
    names = names_of("llama", layers)
    groups = by_depth(names, range(layers))
    placed(groups, names, layers)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("model.embed_tokens.weight", "embeddings"),
        ("lm_head.weight", "embeddings"),
        ("transformer.wpe.weight", "embeddings"),
        ("model.norm.weight", "norms"),
        ("transformer.ln_f.bias", "norms"),
        ("embeddings.LayerNorm.weight", "norms"),
        ("model.layers.3.self_attn.q_norm.weight", "attention"),
        ("model.layers.3.self_attn_layer_norm.weight", "norms"),
        ("transformer.h.11.attention.dense.bias", "attention"),
        ("model.layers.3.post_attention_layernorm.weight", "norms"),
        ("model.layers.3.block_sparse_moe.experts.3.w1.weight", "mlp"),
        ("model.layers.3.fc1.weight", "mlp"),
    ],
)
def test_kinds_of_tensors(name: str, kind: str) -> None:
    assert kind_of(name) == kind


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("kinds", "names"),
    [
        (("attention", "mlp", "embeddings"), ("attention", "mlp", "embeddings")),
        (("attention", "mlp"), ("attention", "mlp", "rest")),
        (("mlp", "norms"), ("mlp", "norms", "rest")),
        (("attention", "mlp", "embeddings", "norms"), ("attention", "mlp", "embeddings", "norms")),
    ],
)
def test_groups_by_kind(family: str, kinds: tuple[str, ...], names: tuple[str, ...]) -> None:
    tensors = names_of(family)
    groups = by_kind(tensors, kinds)
    assert groups.names == names
    for name, group in placed(groups, tensors, 13).items():
        kind = kind_of(name)
        if kind in kinds:
            assert group == kind
        else:
            assert group == ("embeddings" if kind == "norms" and "embeddings" in kinds else "rest")


def test_what_cannot_be_cut_is_refused() -> None:
    llama = names_of("llama")
    with pytest.raises(LayoutError, match="14 layer groups, but the base has 13 layers"):
        groups_of(LayerGroups(groups=14), llama, lambda: ())
    with pytest.raises(LayoutError, match=r"one stack of layers; the base has: encoder\.layers, decoder\.layers"):
        layers_of(("encoder.layers.0.fc.weight", "decoder.layers.0.fc.weight"))
    with pytest.raises(LayoutError, match="the base has: none"):
        layers_of(("embed.weight",))
    with pytest.raises(LayoutError, match="not numbered from 0"):
        layers_of(("layers.0.fc.weight", "layers.2.fc.weight"))
    with pytest.raises(LayoutError, match="the base has no tensors of norms"):
        by_kind(("model.embed_tokens.weight", "model.layers.0.mlp.w.weight"), ("mlp", "norms"))
    with pytest.raises(LayoutError, match="do not tell its layers apart"):
        by_depth((*(f"h.{layer}.mlp.w" for layer in range(3)), "path.h.norm"), (0, 1))


def test_the_recipes_words_for_groups() -> None:
    names = names_of("llama")
    assert groups_of(LayerGroups(groups=1), names, lambda: ()) is WHOLE
    assert groups_of(LayerGroups(groups=2), names, lambda: ()).names == ("layers0-5", "layers6-12")
    assert groups_of(LayerGroups(layers=5), names, lambda: ()).names == ("layers0-4", "layers5-9", "layers10-12")
    sizes = [0.1] * 4 + [0.4] * 6 + [0.1] * 3
    found = groups_of(LayerGroups(by="discrepancy", groups=3), names, lambda: sizes)
    assert found.names == ("layers0-3", "layers4-9", "layers10-12")


def test_natural_cuts_are_the_best_ones() -> None:
    generator = torch.Generator().manual_seed(3)
    sizes = [float(x) for x in torch.rand(8, generator=generator) + 0.05]
    logs = torch.tensor(sizes, dtype=torch.float64).log()

    def spread(cuts: tuple[int, ...]) -> float:
        ends = (*cuts[1:], len(sizes))
        return sum(float((logs[a:b] - logs[a:b].mean()).square().sum()) for a, b in zip(cuts, ends, strict=True))

    every = [(0, a, b) for a in range(1, 7) for b in range(a + 1, 8)]
    assert spread(natural_cuts(sizes, 3)) == pytest.approx(min(map(spread, every)), abs=1e-12)
    assert natural_cuts(sizes, 1) == (0,)
    assert natural_cuts(sizes, 8) == tuple(range(8))
    assert natural_cuts([0.0, 0.0, 0.0, 0.0], 2) == (0, 1)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    save_models(root, tied=False, dtype=torch.float32, layers=5)
    return root


def test_discrepancies_by_hand(tiny: Path, tmp_path: Path) -> None:
    base = dict(load_file(tiny / "base" / SINGLE))
    experts = []
    for number, scales in enumerate(((0.0, 0.1, 0.2, 0.3, 0.4), (0.0, 0.1, 0.0, 0.3, 0.0))):
        moved = {
            name: tensor * (1.0 + scales[int(name.split(".")[2])]) if ".layers." in name else tensor * 9.0
            for name, tensor in base.items()
        }
        folder = tmp_path / f"expert{number}"
        folder.mkdir()
        save_file(moved, folder / SINGLE, metadata={"format": "pt"})
        for file in (tiny / "base").iterdir():
            if file.name != SINGLE:
                (folder / file.name).write_bytes(file.read_bytes())
        experts.append(str(folder))
    found = discrepancy(str(tiny / "base"), experts)
    half = 0.5**0.5
    assert found == pytest.approx([0.0, 0.1, 0.2 * half, 0.3, 0.4 * half], rel=1e-5)


GROUPINGS = ("depth", "kind", "each")


def grouping(tiny: Path, name: str) -> Groups:
    names = open_checkpoint(tiny / "base").names
    if name == "kind":
        return by_kind(names, ("attention", "mlp"))
    return by_depth(names, equal_cuts(5, 2 if name == "depth" else 5))


@pytest.mark.parametrize("grouped", GROUPINGS)
@pytest.mark.parametrize("method", ["linear", "slerp", "task_arithmetic", "ties", "multislerp", "sce", "breadcrumbs"])
def test_mergekit_and_our_reader_make_the_same_tensors_of_a_grouped_merge(
    tiny: Path, tmp_path: Path, method: str, grouped: str
) -> None:
    pytest.importorskip("mergekit")
    groups = grouping(tiny, grouped)
    space = space_of(load_method(method), EXPERTS, coefficients="free", seed=0, groups=groups)
    generator = torch.Generator().manual_seed(1)
    spot = torch.rand(len(space.dimensions), generator=generator, dtype=torch.float64).tolist()
    merge = space.decode({d.name: d.low + u * (d.high - d.low) for d, u in zip(space.dimensions, spot, strict=True)})
    base, experts = str(tiny / "base"), (str(tiny / "one"), str(tiny / "two"))
    merge_to_directory(merge, Sources(base, experts), tmp_path / "ours", dtype="float32")
    ours = load_file(tmp_path / "ours" / SINGLE)
    text = mergekit_text(merge, base, experts, "float32")
    theirs = run_mergekit(text, tmp_path / "theirs")
    again = evaluate(read(text)[0].blueprint)
    assert ours.keys() == theirs.keys() == again.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=0, atol=1e-6)
        torch.testing.assert_close(tensor, again[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("grouped", GROUPINGS)
def test_every_tensor_gets_the_coefficients_of_its_group(tiny: Path, grouped: str) -> None:
    groups = grouping(tiny, grouped)
    space = space_of(load_method("task_arithmetic"), EXPERTS, coefficients="free", seed=0, groups=groups)
    assert len(space.dimensions) == 2 * len(groups.names)
    values = {d.name: round(0.01 * number, 6) for number, d in enumerate(space.dimensions)}
    merge = space.decode(values)
    opened = Sources(str(tiny / "base"), (str(tiny / "one"), str(tiny / "two"))).open()
    found = placed(groups, open_checkpoint(tiny / "base").names, 5)
    for part in parts_of(merge, opened):
        expected = tuple(values[f"weight.{expert}@{found[part.name]}"] for expert in EXPERTS)
        assert dict(part.params)["weight"] == pytest.approx(expected, abs=1e-15)


def test_a_grouped_merge_survives_json(tiny: Path) -> None:
    groups = grouping(tiny, "kind")
    for method in ("ties", "slerp", "linear"):
        space = space_of(load_method(method), EXPERTS, coefficients="free", seed=5, groups=groups)
        middle = space.decode({d.name: d.low + 0.37 * (d.high - d.low) for d in space.dimensions})
        values = {d.name: d.low + (0.1 + 0.8 * n / 10) * (d.high - d.low) for n, d in enumerate(space.dimensions)}
        for merge in (space.decode(values), middle):
            assert from_json(method, json.loads(json.dumps(to_json(merge))), 5) == merge
            assert all(isinstance(x, (float, list)) for x in typical(merge).values())


def test_where_groups_agree_the_merge_is_that_of_the_whole_model(tiny: Path) -> None:
    for name in GROUPINGS:
        groups = grouping(tiny, name)
        space = space_of(load_method("ties"), EXPERTS, coefficients="free", seed=0, groups=groups)
        single = space_of(load_method("ties"), EXPERTS, coefficients="free", seed=0)
        assert space.decode(space.uniform()) == single.decode(single.uniform())
        assert {corner for corner, _ in space.corners()} == {corner for corner, _ in single.corners()} == set(EXPERTS)
        assert space.encode(single.decode(single.uniform())) == space.uniform()


@pytest.mark.parametrize("method", ["ties", "slerp"])
def test_a_search_over_groups_keeps_its_merges_and_its_aggregates(tiny: Path, tmp_path: Path, method: str) -> None:
    groups = grouping(tiny, "depth")
    space = space_of(load_method(method), EXPERTS, coefficients="free", seed=0, groups=groups)
    objectives = (("min_language(general)", "max"), ("cvar(safety, 0.5)", "max"))
    bounds = (constraints.parse("max_language(general) <= base * 2"), constraints.parse("cvar(safety, 0.3) >= 0.2"))
    asked = landscape.plan(tmp_path, method, space=space, objectives=objectives, constraints=bounds)
    store = landscape.search_in(tmp_path, asked)
    points = store.points(method)
    assert [point.state for point in points] == ["COMPLETE"] * 12
    for point in points:
        merge = merge_of(point)
        assert merge == space.decode(point.params["values"])
        assert candidate_key(merge, asked.hashes) == point.key
    grouped = [point for point in points if any(varies(value) for _, value in merge_of(point).params)]
    assert len(grouped) >= 9


def test_check_says_what_cannot_be_cut_with_its_line() -> None:
    names = names_of("llama")
    assert problem_of(parse_recipe(edited("candidates: 10", "layer_groups: 13")), names) is None
    asked = "layer_groups: {by: discrepancy, groups: 14}"
    assert str(problem_of(parse_recipe(edited("candidates: 10", asked), file="r.yaml"), names)) == (
        "r.yaml:26: search.layer_groups: 14 layer groups, but the base has 13 layers; write at most 13"
    )


def test_discrepancies_are_read_once(tiny: Path, tmp_path: Path) -> None:
    recipe = parse_recipe(edited("candidates: 10", "layer_groups: {by: discrepancy, groups: 2}"))
    store = landscape.store_in(tmp_path)
    base, one, two = (Model(name, "expert", tiny / name, name * 9) for name in ("base", "one", "two"))
    first = run_groups(recipe, store, base, (one, two))
    sizes = store.get("discrepancy")["layers"]
    assert len(sizes) == 5
    assert all(size > 0 for size in sizes)
    gone = [replace(model, path=tmp_path / "gone") for model in (one, two)]
    assert run_groups(recipe, store, base, gone) == first
    with pytest.raises(InputError):
        run_groups(recipe, store, base, (replace(gone[0], hash="other"), gone[1]))
    store.close()
