"""The example that runs every kind that needs no server."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from evaluators._schema import kind_names
from search.check import check
from search.recipe import load_recipe
from search.single import score_model

EXAMPLE = Path(__file__).parents[2] / "examples" / "kinds.py"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = importlib.util.spec_from_file_location("kinds", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    out = tmp_path_factory.mktemp("kinds")
    module.write(out)
    for file in (out / "eval").glob("*.jsonl"):  # a few items of every language and split
        rows = file.read_text(encoding="utf-8").splitlines(keepends=True)
        file.write_text("".join(rows[:: max(1, len(rows) // 60)]), encoding="utf-8")
    return out


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_kind_without_a_server_is_in_the_example_and_runs(world: Path) -> None:
    recipe = load_recipe(world / "recipe.yaml")
    used = {spec.kind for spec in recipe.evaluators.values()}
    assert used == {kind for kind in kind_names() if not kind.startswith("judge_")}
    check(recipe)
    found = score_model(world / "recipe.yaml", str(world / "base"), "report")
    assert set(found["scores"]) == set(recipe.evaluators)
    scores = {name: score["value"] for name, score in found["scores"].items()}
    assert 0.3 < scores["general"] < 0.9
    assert scores["choice"] > 0.8
    assert 0.5 < scores["fluency"] < 1
    assert scores["code"] == 0
    # Two ways to see refusals that must agree on a model that refuses in fixed words.
    assert scores["labelled"] == pytest.approx(scores["safety"], abs=0.05)
    assert found["cached"] == []
