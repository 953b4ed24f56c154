"""Training, merging and training again as one recipe; each chain is run, looked at, and run again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .chains import chain, made, search
from .world import run

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1800)]

LIMIT_S = 1500.0
DPO = "{<<: *sft, trainer: dpo, steps: 4, mix: {pairs: 1.0}"


def carried_out(recipe: Path, out: Path) -> dict[str, Any]:
    """Run a recipe to its end, twice; the front document."""
    done = run("run", recipe, "--out", out, limit_s=LIMIT_S)
    assert done.returncode == 0, done.stderr
    before = {file: file.stat().st_mtime_ns for file in out.glob("experts/*/*") if file.name != ".stamps.json"}
    again = run("run", recipe, "--out", out, limit_s=LIMIT_S)
    assert again.returncode == 0, again.stderr
    assert "nothing to do" in again.stderr
    assert {file: file.stat().st_mtime_ns for file in before} == before
    document: dict[str, Any] = json.loads(run("front", out, "--json").stdout)
    return document


def points(document: dict[str, Any], kind: str) -> list[str]:
    return [point["id"] for point in document["points"] if point["kind"] == kind]


def record(out: Path, trainer: str) -> dict[str, Any]:
    found = [json.loads(file.read_text()) for file in out.glob("experts/*/training.json")]
    return next(each for each in found if each["trainer"] == trainer)


def test_sft_then_merge_then_dpo(tmp_path: Path) -> None:
    experts = f"""\
  soup: {{merge: {{method: slerp, weights: {{general: 0.5, safety: 0.5}}}}}}
  aligned: {DPO}, from: soup}}
"""
    out = tmp_path / "out"
    document = carried_out(chain(tmp_path / "world", experts, search("soup", "aligned")), out)
    order = made(out)
    assert sorted(order[:2]) == ["general", "safety"]
    assert order[2:] == ["soup", "aligned"]
    assert sorted(points(document, "expert")) == ["aligned", "general", "safety", "soup"]
    assert len(points(document, "merge")) == 3
    trained = record(out, "dpo")
    assert Path(trained["spec"]["base"], "made.json").is_file(), "it starts from the merge"
    assert json.loads(Path(trained["spec"]["base"], "made.json").read_text())["parameters"] == {"t": 0.5}
    report = (out / "report.html").read_text("utf-8")
    assert "Trained tokens by language" in report
    assert "is an evaluation item, or nearly one" in report


def test_dpo_then_merge_of_adapters_of_different_bases(tmp_path: Path) -> None:
    experts = f"""\
  one: {DPO}, from: general, lora: {{r: 4}}}}
  two: {DPO}, from: safety, lora: {{r: 4}}}}
"""
    out = tmp_path / "out"
    document = carried_out(chain(tmp_path / "world", experts, search("one", "two")), out)
    order = made(out)
    assert set(order[:2]) == {"general", "safety"}
    assert set(order[2:]) == {"one", "two"}
    assert len(points(document, "merge")) == 3
    scores = {point["id"]: point["scores"]["general"]["value"] for point in document["points"]}
    # A few steps of low rank change little: the adapters stand on their own start, not on the base of the run.
    assert abs(scores["one"] - scores["general"]) < 0.1
    export = out / "exports" / "knee"
    assert (export / "model.safetensors").is_file()


def test_merge_then_train_then_merge(tmp_path: Path) -> None:
    experts = """\
  weighed: {<<: *sft, trainer: remix, mix: {general: 0.5, safety: 0.5}, steps: 4}
  late: {<<: *sft, from: {front: first, pick: best-safety}, mix: {from: weighed}, steps: 4}
  chosen: {front: first, pick: knee}
"""
    rest = "searches:\n  first: {experts: [general, safety], candidates: 2}\n" + search("late", "chosen")
    out = tmp_path / "out"
    document = carried_out(chain(tmp_path / "world", experts, rest), out)
    order = made(out)
    assert set(order[:3]) == {"general", "safety", "weighed"}
    assert {"first:best-safety", "chosen"} == set(order[3:5])
    assert order[5] == "late"
    assert sorted(points(document, "expert")) == ["chosen", "general", "late", "safety"]
    inner = json.loads(run("front", out / "searches" / "first", "--json").stdout)
    assert sorted(point["kind"] for point in inner["points"]) == ["base", "expert", "expert", "merge", "merge"]
    picked = [json.loads(file.read_text()) for file in out.glob("experts/*/made.json")]
    assert {each["pick"]: each["point"] for each in picked} == {
        "best-safety": inner["picks"]["best-safety"],
        "knee": inner["picks"]["knee"],
    }
    shares = json.loads(next(out.glob("experts/*/mixture.json")).read_text())["domains"]
    late = next(
        json.loads(file.read_text())
        for file in out.glob("experts/*/training.json")
        if json.loads(file.read_text())["spec"]["base"] != str(tmp_path / "world" / "base")
    )
    assert [s["probability"] for s in late["spec"]["sources"]] == pytest.approx([d["probability"] for d in shares])
    # The base and both experts were scored once, in the earlier search.
    scored = [point["scores"] for point in document["points"] if point["id"] == "general"]
    assert scored == [point["scores"] for point in inner["points"] if point["id"] == "general"]


def test_what_was_edited_or_cannot_be_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    recipe, out = chain(tmp_path / "world", "", search("general", "safety")), tmp_path / "out"
    done = run("train", recipe, "--out", out, limit_s=LIMIT_S)
    assert done.returncode == 0, done.stderr
    assert run("train", recipe, "--out", out).stdout.startswith("nothing to train: all models are in")
    edited = next(out.glob("experts/*/config.json"))
    edited.write_text(edited.read_text() + " ")
    for command in ("train", "run"):
        refused = run(command, recipe, "--out", out)
        assert refused.returncode == 2
        assert "is not as this run made it: config.json was changed; remove the directory" in refused.stderr
    edited.write_text(edited.read_text()[:-1])
    assert run("train", recipe, "--out", out).returncode == 0
