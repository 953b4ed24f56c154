"""Addresses, seals and the graph of models; no training is run."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from search._training.inputs import file_hash
from search._training.model import MADE, RECORD, Model, is_made, missing, needed
from search._training.plan import plan
from search._training.queue import with_mixture
from search._training.seal import SEAL, STAMPS, check_seals, seal
from search.errors import UserError
from search.recipe import Recipe, parse_recipe
from tests.search.test_recipe_trainings import CHAINS

FILES = ("general.jsonl", "a.jsonl", "b.jsonl")


class Hashes(dict[str, str]):
    """A content hash for every input that is asked for: its name."""

    def __missing__(self, key: str) -> str:
        return f"<{key.partition(':')[0]}>"


def recipe_in(folder: Path, old: str = "", new: str = "") -> Recipe:
    (folder / "data").mkdir(exist_ok=True)
    for name in (*FILES, "../p.jsonl"):
        (folder / "data" / name).write_text("{}\n")
    assert not old or CHAINS.count(old) == 1, old
    return parse_recipe(CHAINS.replace(old, new) if old else CHAINS, directory=folder)


def addresses(folder: Path, old: str = "", new: str = "", **hashes: str) -> dict[str, str]:
    return {model.name: model.hash for model in plan(recipe_in(folder, old, new), folder / "experts", Hashes(hashes))}


def changed(folder: Path, old: str = "", new: str = "", **hashes: str) -> set[str]:
    before, after = addresses(folder), addresses(folder, old, new, **hashes)
    return {name for name in before if after.get(name) != before[name]}


def test_what_is_made_of_something_else_has_another_address(tmp_path: Path) -> None:
    assert changed(tmp_path) == set()
    # general is merged into soup, which aligned starts from; both searches' experts hold it.
    below_general = {"general", "soup", "aligned", "point", "first:knee", "first:best-safety", "late"}
    assert changed(tmp_path, "steps: 60, batch: 64", "steps: 61, batch: 64") == {*below_general, "mixed"}, "and match"
    assert changed(tmp_path, "{general: 0.4, safety: 0.6}", "{general: 0.5, safety: 0.5}") == {"soup", "aligned"}
    assert changed(tmp_path, "beta: 0.2", "beta: 0.3") == {"aligned"}
    assert changed(tmp_path, "{trainer: remix, mix", "{trainer: remix, options: {eta: 0.3}, mix") == {"weighed", "late"}
    assert changed(tmp_path, "candidates: 4}", "candidates: 5}") == {"point", "first:knee", "first:best-safety", "late"}
    assert changed(tmp_path, "high: 1e-3, log", "high: 2e-3, log") == {"tuned"}
    assert changed(tmp_path, base="other") == set(addresses(tmp_path))


def test_how_and_where_it_is_done_is_no_part_of_an_address(tmp_path: Path) -> None:
    cluster = "actors: 2}\n  trainers: {workers: 2, zero: 3, micro_batch: 2, activation_checkpointing: true}"
    assert changed(tmp_path, "actors: 2}", cluster) == set()
    assert changed(tmp_path, "log: true}}", "log: true}, }, concurrency: 2, keep: all, save_every: 5") == set()
    assert changed(tmp_path, "candidates: 10", "candidates: 11") == set(), "of the last search"


def test_scores_that_decide_are_part_of_an_address(tmp_path: Path) -> None:
    metric = ("log: true}}", "log: true}}, metric: safety")
    before = addresses(tmp_path, *metric, **{"evaluators.safety": "one"})
    after = addresses(tmp_path, *metric, **{"evaluators.safety": "two"})
    differ = {name for name in before if before[name] != after[name]}
    assert differ == {"tuned", "point", "first:knee", "first:best-safety", "late"}


def test_the_graph(tmp_path: Path) -> None:
    models = plan(recipe_in(tmp_path), tmp_path / "experts", Hashes())
    by_name = {model.name: model for model in models}
    assert models[0].name == "base"
    assert (by_name["weighed"].kind, by_name["first:best-safety"].kind) == ("step", "step")
    assert (by_name["late"].parents, by_name["late"].mixture) == (("first:best-safety",), "weighed")
    late = [model.name for model in needed(models, ["late"])]
    assert late == ["general", "safety", "weighed", "first:best-safety", "late"] or set(late) == {
        "general",
        "safety",
        "weighed",
        "first:best-safety",
        "late",
    }
    assert [model.name for model in needed(models, ["tuned"])] == ["tuned"]
    tuned = by_name["tuned"].tuning
    assert tuned is not None
    assert tuned.space == (("learning_rate", ("range", (1e-5, 1e-3, True))),)


def test_an_adapter_stands_on_what_it_was_trained_from(tmp_path: Path) -> None:
    lora = ("options: {beta: 0.2}", "options: {beta: 0.2}, lora: {r: 4}")
    models = {m.name: m for m in plan(recipe_in(tmp_path, *lora), tmp_path / "experts", Hashes())}
    assert models["aligned"].reference == f"{models['soup'].path}+{models['aligned'].path}"
    assert models["general"].reference == str(models["general"].path)
    chained = ("beta: 0.2}}", "beta: 0.2}, lora: {r: 4}}\n  more: {from: aligned, mix: {general: 1.0}, lora: {}}")
    models = {m.name: m for m in plan(recipe_in(tmp_path, *chained), tmp_path / "experts", Hashes())}
    assert models["more"].parents == ("aligned/full",)
    assert models["aligned/full"].parents == ("aligned",)
    assert models["more"].spec is not None
    assert models["more"].spec.base == str(models["aligned/full"].path)


def test_an_adapter_that_existed_is_folded_before_a_training_goes_on_from_it(tmp_path: Path) -> None:
    (tmp_path / "bought").mkdir()
    (tmp_path / "bought" / "adapter_config.json").write_text("{}")
    there = (
        "  soup:",
        "  bought: {path: bought}\n  more: {from: bought, mix: {general: 1.0}, lora: {}, dtype: float32}\n  soup:",
    )
    models = {m.name: m for m in plan(recipe_in(tmp_path, *there), tmp_path / "experts", Hashes())}
    assert models["more"].parents == ("bought/full",)
    assert models["bought/full"].parents == ("bought",)
    assert models["bought/full"].dtype == "float32"
    assert models["more"].reference == f"{models['bought/full'].path}+{models['more'].path}"


def test_a_mixture_that_was_found_is_taken(tmp_path: Path) -> None:
    models = {m.name: m for m in plan(recipe_in(tmp_path), tmp_path / "experts", Hashes())}
    spec, found = models["late"].spec, models["weighed"]
    assert spec is not None
    found.path.mkdir(parents=True)
    domains = [
        {"source": "safety", "languages": ["fr"], "probability": 0.7},
        {"source": "general", "languages": [], "probability": 0.3},
        {"source": "general", "languages": ["en"], "probability": 0.0},
    ]
    (found.path / "mixture.json").write_text(json.dumps({"domains": domains}))
    taken = with_mixture(spec, found).sources
    assert [(s.name, s.languages, s.probability) for s in taken] == [("safety", ("fr",), 0.7), ("general", (), 0.3)]


def made(folder: Path, name: str = "x", record: str = RECORD) -> Model:
    path = folder / name
    path.mkdir()
    (path / record).write_text("{}")
    (path / "model.safetensors").write_bytes(b"weights")
    return Model(name, "expert", path, name, "trained" if record == RECORD else "merged")


def test_what_is_there_is_made_and_what_is_not_is_missing(tmp_path: Path) -> None:
    trained, merged = made(tmp_path), made(tmp_path, "y", MADE)
    absent = Model("z", "expert", tmp_path / "z", "z", "trained")
    twin = Model("zz", "baseline", tmp_path / "z", "z", "trained")
    assert is_made(trained)
    assert is_made(merged)
    assert missing([trained, merged, absent, twin]) == [twin]


def test_a_sealed_checkpoint_may_be_copied_and_not_changed(tmp_path: Path) -> None:
    model = made(tmp_path)
    check_seals([model])  # a kill may come between a training and its seal
    assert (model.path / SEAL).is_file()
    sealed = (model.path / SEAL).read_bytes()
    os.utime(model.path / "model.safetensors", (1, 1))
    check_seals([model])
    elsewhere = shutil.copytree(model.path, tmp_path / "elsewhere", ignore=shutil.ignore_patterns(".*"))
    check_seals([replace(model, path=elsewhere)])
    assert (model.path / SEAL).read_bytes() == (elsewhere / SEAL).read_bytes() == sealed, "the same on every machine"
    for change, what in (
        (lambda: (model.path / "model.safetensors").write_bytes(b"Weights"), "model.safetensors was changed"),
        (lambda: (model.path / "model.safetensors").unlink(), "model.safetensors is gone"),
        (lambda: (model.path / "more.json").write_text("{}"), "more.json was added"),
    ):
        change()
        with pytest.raises(UserError) as caught:
            check_seals([model])
        assert what in str(caught.value)
        assert caught.value.exit_status == 2
        (model.path / "more.json").unlink(missing_ok=True)
        (model.path / "model.safetensors").write_bytes(b"weights")
        seal(model.path)


def test_what_was_looked_at_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = made(tmp_path)
    seal(model.path)
    read: list[Path] = []

    def noted(file: Path) -> str:
        read.append(file)
        return file_hash(file)

    monkeypatch.setattr("search._training.seal.file_hash", noted)
    check_seals([model])
    assert read == []
    (model.path / STAMPS).unlink()  # as on another machine
    check_seals([model])
    assert len(read) == 2
    check_seals([model])
    assert len(read) == 2
    # A seal of an earlier version: time of change in between.
    held = json.loads((model.path / SEAL).read_text())
    (model.path / SEAL).write_text(json.dumps({name: [size, 5, digest] for name, (size, digest) in held.items()}))
    check_seals([model])
