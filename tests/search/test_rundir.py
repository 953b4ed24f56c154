from __future__ import annotations

import json
from pathlib import Path

import pytest

from search import experts
from search.demo.world import write_world
from search.errors import UserError
from search.recipe import LOCK, Recipe, load_recipe
from search.run.rundir import is_run, open_run, read_run, recipe_of


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return load_recipe(write_world(tmp_path / "world"))


def test_a_run_keeps_its_recipe_and_its_paths(recipe: Recipe, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert not is_run(out)
    with open_run(recipe, out, {"base": "x"}) as run:
        run.store.put("a", {"b": 1})
    again = recipe_of(out)
    assert again.directory == recipe.directory
    assert again.fingerprint() == recipe.fingerprint()
    assert (out / "recipe.yaml").read_bytes() == Path(recipe.file).read_bytes()
    with read_run(out) as run:
        assert run.store.get("a") == {"b": 1}


def test_an_input_that_changed_is_named(recipe: Recipe, tmp_path: Path) -> None:
    out = tmp_path / "out"
    hashes = experts.input_hashes(recipe)
    with open_run(recipe, out, hashes):
        pass
    data = recipe.directory / "data" / "general.jsonl"
    data.write_text(data.read_text(encoding="utf-8").replace("en", "hi", 1), encoding="utf-8")
    with (
        pytest.raises(UserError, match=r"general.jsonl has changed since this run began"),
        open_run(recipe, out, experts.input_hashes(recipe)),
    ):
        pass


def test_one_driver_at_a_time(recipe: Recipe, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with open_run(recipe, out, {}):
        with pytest.raises(UserError, match="another mergefront process works on this run"), open_run(recipe, out, {}):
            pass
        with read_run(out):  # looking is always allowed
            pass
    with open_run(recipe, out, {}):
        pass


def test_a_run_of_a_newer_version_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with open_run(recipe, out, {}):
        pass
    lock = json.loads((out / LOCK).read_text(encoding="utf-8"))
    (out / LOCK).write_text(json.dumps(lock | {"schema": 99}), encoding="utf-8")
    with pytest.raises(UserError, match="written by a newer mergefront"):
        recipe_of(out)


def test_experts_are_addressed_by_what_they_are_made_of(recipe: Recipe, tmp_path: Path) -> None:
    hashes = experts.input_hashes(recipe)

    def digests(changed: dict[str, str] | None = None, **training: object) -> dict[str, str]:
        update = {n: e.model_copy(update=training) for n, e in recipe.experts.items()}
        other = recipe.model_copy(update={"experts": update})
        other._origin, other._directory = recipe._origin, recipe._directory
        return {model.name: model.hash for model in experts.models(other, tmp_path, hashes | (changed or {}))}

    plain = digests()
    assert len(set(plain.values())) == len(plain)
    assert digests(save_every=7) == plain, "how often it is saved does not change what is trained"
    for change in ({"learning_rate": 1e-3}, {"seed": 5}, {"steps": 61}, {"languages": ("en",)}):
        assert digests(**change)["general"] != plain["general"], change
    assert digests({"base": "other"})["general"] != plain["general"]
    data = next(name for name in hashes if name.startswith("data.safety"))
    moved = digests({data: "other"})
    assert moved["safety"] != plain["safety"]
    assert moved["general"] == plain["general"]


def test_a_matched_mix_has_the_compute_of_the_experts(recipe: Recipe, tmp_path: Path) -> None:
    found = {m.name: m.spec for m in experts.models(recipe, tmp_path, experts.input_hashes(recipe)) if m.spec}
    spent = sum(found[name].steps * found[name].batch for name in recipe.search.experts)
    for name in recipe.baselines:
        assert found[name].steps * found[name].batch == spent
