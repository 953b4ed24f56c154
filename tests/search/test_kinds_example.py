"""The example that runs every kind, through the program: check, run, score."""

from __future__ import annotations

import importlib.util
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from evaluators._schema import kind_names
from search.api import front
from search.recipe import load_recipe

from ..end_to_end.world import run

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = example("judge_server").serve()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    server.server_close()
    thread.join(30)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, endpoint: str) -> Path:
    out = tmp_path_factory.mktemp("kinds")
    example("kinds").write(out, endpoint, "by-rule")
    for file in (out / "eval").glob("*.jsonl"):  # a few items of every language and split
        rows = file.read_text(encoding="utf-8").splitlines(keepends=True)
        file.write_text("".join(rows[:: max(1, len(rows) // 60)]), encoding="utf-8")
    return out


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(1800)
def test_every_kind_is_in_the_example_and_runs(world: Path) -> None:
    recipe = load_recipe(world / "recipe.yaml")
    assert {spec.kind for spec in recipe.evaluators.values()} == set(kind_names())
    checked = run("check", world / "recipe.yaml")
    assert checked.returncode == 0, checked.stderr
    done = run("run", world / "recipe.yaml", "--out", world / "run", limit_s=1500)
    assert done.returncode == 0, done.stderr
    points = front(world / "run")["points"]
    assert {point["state"] for point in points} == {"COMPLETE"}
    assert len([point for point in points if point["kind"] == "merge"]) == 2
    assert all(set(point["scores"]) == set(recipe.evaluators) for point in points)
    assert all(0 <= one["value"] <= 1 and one["n"] > 0 for point in points for one in point["scores"].values())
    base = next(point["scores"] for point in points if point["id"] == "base")
    scores = {name: score["value"] for name, score in base.items()}
    assert 0.3 < scores["general"] < 0.9
    assert scores["choice"] > 0.8
    assert 0.5 < scores["fluency"] < 1
    assert scores["code"] == 0
    assert scores["wins"] == 0.5
    assert scores["harm"] > 0.2  # the base of the demo tells how
    # Two ways to see refusals that must agree on a model that refuses in fixed words.
    assert scores["labelled"] == pytest.approx(scores["safety"], abs=0.05)
    scored = run("score", world / "recipe.yaml", world / "one", "--split", "report", "--json", limit_s=600)
    assert scored.returncode == 0, scored.stderr
    assert set(json.loads(scored.stdout)["scores"]) == set(recipe.evaluators)
