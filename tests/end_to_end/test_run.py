"""The main job from the command line, on real parts, and what a person does with its result."""

from __future__ import annotations

import csv
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from evaluators._items import load_items
from evaluators._types import Item
from search.commands.single import score_model
from search.racing.ordering import balanced
from search.run.items import read_values

from .world import CANDIDATES, METHODS, run, small_world

pytestmark = pytest.mark.ray
LANGUAGES = ("en", "hi", "ar", "fr", "es", "ru")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(recipe, run directory) of a run that came to its end."""
    folder = tmp_path_factory.mktemp("run")
    recipe = small_world(folder / "world")
    done = run("run", recipe, "--out", folder / "out")
    assert done.returncode == 0, done.stderr
    assert "confirmed on the report split" in done.stdout
    assert "report.html" in done.stdout
    return recipe, folder / "out"


@pytest.fixture(scope="module")
def document(finished: tuple[Path, Path]) -> dict[str, Any]:
    done = run("front", finished[1], "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_every_model_and_merge_is_scored(document: dict[str, Any]) -> None:
    points = document["points"]
    assert {point["id"]: point["kind"] for point in points if point["kind"] != "merge"} == {
        "base": "base",
        "general": "expert",
        "safety": "expert",
        "mix15": "baseline",
    }
    merges = [point for point in points if point["kind"] == "merge"]
    assert len(merges) == CANDIDATES
    assert {point["method"] for point in merges} == set(METHODS)
    assert all(set(point["weights"]) == {"general", "safety"} for point in merges)
    assert document["objectives"] == {"general": "max", "safety": "max", "over_refusal": "min"}
    assert document["hypervolume"] > 0
    assert len(document["reference"]) == 3


def test_scores_carry_errors_and_the_front_is_confirmed(document: dict[str, Any]) -> None:
    front = [point for point in document["points"] if point["on_front"]]
    assert len(front) >= 3
    for point in document["points"]:
        assert set(point["languages"]) == set(LANGUAGES)
        for score in point["scores"].values():
            assert 0 <= score["value"] <= 1
            assert score["stderr"] >= 0
            assert score["n"] > 200
    for point in front:
        assert {score["split"] for score in point["scores"].values()} == {"report"}
        assert {score["split"] for score in point["search_scores"].values()} == {"search"}
        assert 0 < point["p_on_front"] <= 1
    assert set(document["picks"]) >= {"knee", "safest", "best-general"}


def test_no_front_point_is_dominated(document: dict[str, Any]) -> None:
    confirmed = [p for p in document["points"] if p["scores"]["general"]["split"] == "report"]

    def gains(point: dict[str, Any]) -> tuple[float, ...]:
        signs = {"max": 1, "min": -1}
        return tuple(signs[way] * point["scores"][name]["value"] for name, way in document["objectives"].items())

    for point in confirmed:
        mine = gains(point)
        rivals = [gains(p) for p in confirmed]
        beaten = any(all(a >= b for a, b in zip(g, mine, strict=True)) and g != mine for g in rivals)
        assert point["on_front"] == (not beaten)


def test_every_front_point_exports_and_scores_again_what_is_stored(
    finished: tuple[Path, Path], document: dict[str, Any], tmp_path: Path
) -> None:
    recipe, out = finished
    front = [point for point in document["points"] if point["on_front"]]
    picks = [argument for point in front for argument in ("--pick", f"#{point['id']}")]
    done = run("export", out, *picks, "--out", tmp_path / "exports")
    assert done.returncode == 0, done.stderr
    for place, point in enumerate(front):
        folder = tmp_path / "exports" / point["id"]
        if place == 0:
            done = run("score", recipe, folder, "--json")
            assert done.returncode == 0, done.stderr
            scores = json.loads(done.stdout)
        else:  # the same without the start of a process for each
            scores = score_model(recipe, str(folder), "report")
        assert scores["scores"] == point["scores"]
        assert scores["languages"] == point["languages"]


def test_an_export_answers_in_plain_transformers_as_it_was_scored(
    finished: tuple[Path, Path], document: dict[str, Any]
) -> None:
    """Nothing of ours between the checkpoint and the answers: load, generate one by one, compare."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    recipe, out = finished
    knee = out / "exports" / "knee"
    tokenizer = AutoTokenizer.from_pretrained(knee)
    model = AutoModelForCausalLM.from_pretrained(knee)
    assert model.dtype == torch.float32
    items = [item for item in load_items(recipe.parent / "eval" / "general.jsonl", LANGUAGES) if item.split == "report"]
    chosen = items[:: max(1, len(items) // 60)]

    def right(item: Item) -> bool:
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": item.prompt}],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        )
        answer = model.generate(**prompt, max_new_tokens=40, do_sample=False)[0, prompt["input_ids"].shape[1] :]
        return bool(tokenizer.decode(answer, skip_special_tokens=True).strip() == item.answer.strip())

    stored = read_values(out / "items", document["picks"]["knee"], "report")["general"]
    place = {items[index].id: position for position, index in enumerate(balanced(items))}
    assert [right(item) for item in chosen] == [bool(stored[place[item.id]]) for item in chosen]


def test_mergekit_makes_the_same_checkpoint_from_merge_yaml(
    finished: tuple[Path, Path], document: dict[str, Any], tmp_path: Path
) -> None:
    merges = {point["method"]: point for point in document["points"] if point["kind"] == "merge"}
    point = merges["ties"]
    done = run("export", finished[1], "--pick", point["id"], "--out", tmp_path / "ours")
    assert done.returncode == 0, done.stderr
    mergekit = Path(sys.executable).with_name("mergekit-yaml")
    command = [str(mergekit), str(tmp_path / "ours" / "merge.yaml"), str(tmp_path / "theirs")]
    theirs = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert theirs.returncode == 0, theirs.stderr
    asked = yaml.safe_load((tmp_path / "ours" / "merge.yaml").read_text(encoding="utf-8"))
    paths = [tmp_path / "ours", tmp_path / "theirs", Path(asked["base_model"])]
    paths += [Path(model["model"]) for model in asked["models"]]
    ours, other, base, *experts = (load_file(path / "model.safetensors") for path in paths)
    assert set(ours) == set(other)
    for name, tensor in ours.items():
        sure = torch.ones_like(tensor, dtype=torch.bool)
        for expert in experts:
            sure &= ~at_the_threshold(expert[name] - base[name], point["params"]["density"])
        assert int((~sure).sum()) <= len(experts) + tensor.numel() // 100
        torch.testing.assert_close(tensor[sure], other[name][sure], rtol=0, atol=1e-6)


def at_the_threshold(delta: torch.Tensor, density: float) -> torch.Tensor:
    """Entries as large as the smallest that is kept: which of several equal ones mergekit keeps is undefined."""
    size = delta.abs()
    kept = max(1, int(density * delta.numel()))
    return size == size.flatten().kthvalue(delta.numel() - kept + 1).values


def test_the_card_states_scores_lineage_and_licence(finished: tuple[Path, Path], document: dict[str, Any]) -> None:
    folder = finished[1] / "exports" / "knee"
    facts = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    assert facts["identity"]["point"] == document["picks"]["knee"]
    assert facts["lineage"][0]["kind"] == "base"
    assert all(entry["hash"] for entry in facts["lineage"])
    text = (folder / "README.md").read_text(encoding="utf-8")
    for word in ("90% interval", "license:", "Lineage", "base_model", "over_refusal"):
        assert word in text


def test_the_csv_holds_what_the_json_holds(finished: tuple[Path, Path], document: dict[str, Any]) -> None:
    with (finished[1] / "front.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    assert set(rows) == {point["id"] for point in document["points"]}
    for point in document["points"]:
        for name, score in point["scores"].items():
            assert math.isclose(float(rows[point["id"]][f"scores.{name}.value"]), score["value"], abs_tol=1e-9)


def test_running_again_does_nothing_and_says_so(finished: tuple[Path, Path]) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished[1].rglob("*.parquet")}
    for what in finished:
        done = run("run", what, *(["--out", finished[1]] if what.is_file() else []))
        assert done.returncode == 0, done.stderr
        assert "this run is finished, nothing to do" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in finished[1].rglob("*.parquet")} == before


def test_another_recipe_is_refused_in_this_directory(finished: tuple[Path, Path], tmp_path: Path) -> None:
    other = small_world(tmp_path)
    other.write_text(other.read_text(encoding="utf-8").replace("steps: 16", "steps: 17"), encoding="utf-8")
    before = sorted(path.name for path in finished[1].iterdir())
    done = run("run", other, "--out", finished[1])
    assert done.returncode == 2
    assert str(finished[1]) in done.stderr
    assert "steps" in done.stderr
    assert sorted(path.name for path in finished[1].iterdir()) == before


def test_one_objective_alone(finished: tuple[Path, Path]) -> None:
    done = run("front", finished[1], "--json", "--objective", "safety")
    front = [point for point in json.loads(done.stdout)["points"] if point["on_front"]]
    assert len({point["scores"]["safety"]["value"] for point in front}) == 1
    wrong = run("front", finished[1], "--objective", "speed")
    assert wrong.returncode == 2
    assert "the recipe's objectives are general, safety, over_refusal" in wrong.stderr


def test_a_pick_that_is_no_point_is_refused(finished: tuple[Path, Path], tmp_path: Path) -> None:
    done = run("export", finished[1], "--pick", "#999", "--out", tmp_path / "x")
    assert done.returncode == 2
    assert "no point of this run is called that" in done.stderr
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_asking_for_more_candidates_goes_on(
    finished: tuple[Path, Path], document: dict[str, Any], tmp_path: Path
) -> None:
    """On a copy: the same recipe with a larger budget scores what is new, and only that."""
    recipe, out = finished
    more = tmp_path / "out"
    shutil.copytree(out, more)
    text = recipe.read_text(encoding="utf-8").replace(f"candidates: {CANDIDATES}", f"candidates: {CANDIDATES + 2}")
    larger = recipe.with_name("larger.yaml")
    larger.write_text(text, encoding="utf-8")
    done = run("run", larger, "--out", more)
    assert done.returncode == 0, done.stderr
    assert "experts:" not in done.stderr
    after = json.loads(run("front", more, "--json").stdout)
    assert sum(point["kind"] == "merge" for point in after["points"]) == CANDIDATES + 2
    before = {point["id"]: point["cost"] for point in document["points"]}
    assert before.items() <= {point["id"]: point["cost"] for point in after["points"]}.items()
    card = json.loads((more / "exports" / "knee" / "card.json").read_text(encoding="utf-8"))
    assert card["identity"]["point"] == after["picks"]["knee"]
