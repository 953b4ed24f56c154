"""Whole checks over a small world of files: a sound one passes, and each thing that can be wrong is found and named."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from search.check import Report, check
from search.errors import Problem, UserError
from search.recipe import Recipe, load_recipe

RECIPE = """\
name: small
base: base
languages: [en, fr]
data:
  general: {path: json, files: data/general.jsonl}
  safety: {path: csv, files: data/safety.csv, columns: {prompt: question}}
experts:
  general: {mix: {general: 1.0}, steps: 10, batch: 4, max_length: 32, dtype: float32}
  safety: {mix: {safety: 0.5, general: 0.5}, steps: 10, batch: 4, max_length: 32, languages: [fr]}
  bought: {path: bought}
baselines:
  mixed: {mix: {general: 0.5, safety: 0.5}, batch: 4, max_length: 32}
evaluators:
  general: {kind: exact_match, data: eval/general.jsonl}
  safety: {kind: refusal, data: eval/harmful.jsonl}
search:
  methods: [linear, ties]
  objectives: {general: max, safety: max}
  candidates: 10
cluster:
  evaluators: {actors: 1, cpus: 0.5}
export: {picks: [knee, safest], dtype: bfloat16}
"""

UNPAIRED = (
    "recipe.yaml:15: evaluators.safety: nothing says how often harmless look-alikes are refused; a model that refuses "
    "everything is safe: add such an evaluator and name it in look_alikes"
)


def write_model(folder: Path, *, layers: int = 2, rows: int = 16, width: int = 4, swap: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {"model.embed_tokens.weight": np.zeros((rows, width), np.float32)}
    tensors |= {f"model.layers.{n}.w": np.zeros((width, width), np.float32) for n in range(layers)}
    save_file(tensors, folder / "model.safetensors")
    vocabulary = {f"t{n}": n for n in range(rows)}
    if swap:
        vocabulary |= {"t0": 1, "t1": 0}
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}}))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "max_position_embeddings": 64}))


def write_rows(file: Path, rows: list[dict[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def item(n: int, language: str, split: str) -> dict[str, Any]:
    return {"id": f"{n}-{language}-{split}", "prompt": f"p{n}", "answer": "a", "language": language, "split": split}


ITEMS = [item(n, language, split) for n in range(3) for language in ("en", "fr") for split in ("search", "report")]
ROWS = [{"prompt": f"q{n}", "response": "r", "language": ("en", "fr")[n % 2]} for n in range(6)]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    write_model(tmp_path / "base")
    write_model(tmp_path / "bought")
    write_rows(tmp_path / "data" / "general.jsonl", ROWS)
    (tmp_path / "data" / "safety.csv").write_text("question,response,language\np,r,en\np,r,fr\n")
    write_rows(tmp_path / "eval" / "general.jsonl", ITEMS)
    write_rows(tmp_path / "eval" / "harmful.jsonl", ITEMS)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path


def recipe_of(world: Path, *edits: tuple[str, str]) -> Recipe:
    text = RECIPE
    for old, new in edits:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (world / "recipe.yaml").write_text(text)
    return load_recipe(world / "recipe.yaml")


def problems_of(recipe: Recipe, out: Path | None = None) -> tuple[Problem, ...]:
    with pytest.raises(UserError) as caught:
        check(recipe, out=out)
    return caught.value.problems


def texts(world: Path, problems: tuple[Problem, ...]) -> list[str]:
    return [str(problem).replace(f"{world}/", "") for problem in problems]


def files_of(world: Path) -> dict[str, int]:
    return {str(file): file.stat().st_mtime_ns for file in world.rglob("*")}


def test_a_sound_recipe_passes_and_nothing_is_written(world: Path) -> None:
    before = files_of(world)
    report = check(recipe_of(world))
    before[str(world / "recipe.yaml")] = (world / "recipe.yaml").stat().st_mtime_ns
    assert files_of(world) == before
    assert texts(world, report.warnings) == [UNPAIRED]
    rows = {row.what: row.amount for row in report.estimates if row.what}
    parameters = 16 * 4 + 2 * 4 * 4
    assert rows["base"] == f"{parameters / 1e6:.4g} M parameters"
    assert rows["to train"] == "3 models, 40 steps, 160 sequences"
    assert rows["to score"] == "10 merges by 2 methods, 5 models as they are"
    assert rows["items"] == "12 for each in the search, 12 to confirm the front"
    assert rows["search cost"].startswith("180 items")
    # 1 float32 and 2 bfloat16 trainings, one resumable state of 16 bytes per parameter; 2 bfloat16 picks.
    assert (
        rows["disk"]
        == f"{parameters * (4 + 2 + 2 + 16) / 1e3:.3g} kB for experts, {parameters * 2 * 2} bytes for exports"
    )
    assert str(report).startswith("base         ")


def swap_base(world: Path) -> None:
    write_model(world / "bought", swap=True)


def cut(world: Path) -> None:
    file = world / "bought" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-8])


def pickled(world: Path) -> None:
    (world / "bought" / "model.safetensors").unlink()
    (world / "bought" / "pytorch_model.bin").write_bytes(b"\x80\x04")


MODELS: list[tuple[str, Callable[[Path], object], str, str]] = [
    ("layers", lambda w: write_model(w / "bought", layers=3), "experts.bought.path", "bought has 3 layers, the base 2"),
    ("rows", lambda w: write_model(w / "bought", rows=17), "experts.bought.path", "bought has a vocabulary of 17 rows"),
    ("width", lambda w: write_model(w / "bought", width=5), "experts.bought.path", "model.embed_tokens.weight"),
    ("swapped", swap_base, "experts.bought.path", "bought has another vocabulary than the base (token 't0' is 0 there"),
    ("cut", cut, "experts.bought.path", "is cut short"),
    ("pickle", pickled, "experts.bought.path", "holds only pickled weights, which are never loaded"),
    ("config", lambda w: (w / "bought/config.json").write_text("{"), "experts.bought.path", "no readable config.json"),
    ("tokenizer", lambda w: (w / "base/tokenizer.json").unlink(), "base", "holds no tokenizer"),
    (
        "no base",
        lambda w: (w / "base").rename(w / "other"),
        "base",
        "is neither a directory nor in the hub cache and hub",
    ),
    ("empty base", lambda w: (w / "base/model.safetensors").unlink(), "base", "holds no model.safetensors"),
]


@pytest.mark.parametrize(("spoil", "path", "message"), [row[1:] for row in MODELS], ids=[row[0] for row in MODELS])
def test_models_that_cannot_be_merged(world: Path, spoil: Callable[[Path], object], path: str, message: str) -> None:
    spoil(world)
    found = problems_of(recipe_of(world))
    assert [problem.path for problem in found] == [path]
    assert message in texts(world, found)[0]
    assert found[0].line == (2 if path == "base" else 10)


def rows_without(*columns: str) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key not in columns} for row in ROWS]


DATA: list[tuple[str, list[dict[str, Any]] | str, str]] = [
    (
        "data/general.jsonl",
        rows_without("response"),
        "recipe.yaml:5: data.general: no column for response, got 'response'",
    ),
    (
        "data/general.jsonl",
        rows_without("language"),
        "recipe.yaml:5: data.general: no column for language, got 'language'",
    ),
    ("data/general.jsonl", [], "recipe.yaml:5: data.general: holds no rows; add rows, or remove it from the mixes"),
    (
        "data/general.jsonl",
        [*ROWS, {"prompt": "p", "response": "r", "language": "fe"}],
        "recipe.yaml:5: data.general: 1 rows are in languages that the recipe does not list, got 'fe'; ",
    ),
    (
        "data/general.jsonl",
        [*ROWS, {"prompt": "p", "response": "", "language": "fr"}],
        "recipe.yaml:5: data.general: 1 rows have no response, the first is row 7; fill them in or remove them",
    ),
    (
        "data/general.jsonl",
        ROWS[::2],
        "recipe.yaml:9: experts.safety.languages: data 'general' has no rows in fr (it has en)",
    ),
    ("data/general.jsonl", "{not json\n", "recipe.yaml:5: data.general: cannot be read as json: "),
    ("eval/general.jsonl", [], "recipe.yaml:14: evaluators.general.data: eval/general.jsonl: holds no items"),
    (
        "eval/general.jsonl",
        [{**row, "language": "de"} for row in ITEMS],
        "recipe.yaml:14: evaluators.general.data: eval/general.jsonl: 12 of 12 items have a language that",
    ),
    (
        "eval/general.jsonl",
        [row for row in ITEMS if row["split"] == "search"],
        "recipe.yaml:14: evaluators.general.data: no item is in the report split; add items to it",
    ),
    (
        "eval/general.jsonl",
        [{**row, "answer": ""} for row in ITEMS],
        "recipe.yaml:14: evaluators.general.data: exact_match: 12 of 12 items have no answer",
    ),
    (
        "eval/harmful.jsonl",
        [{key: value for key, value in row.items() if key != "prompt"} for row in ITEMS],
        "recipe.yaml:15: evaluators.safety.data: eval/harmful.jsonl: no column 'prompt'",
    ),
]


@pytest.mark.parametrize(("file", "rows", "message"), DATA)
def test_data_that_cannot_be_used(world: Path, file: str, rows: list[dict[str, Any]] | str, message: str) -> None:
    if isinstance(rows, str):
        (world / file).write_text(rows)
    else:
        write_rows(world / file, rows)
    found = texts(world, problems_of(recipe_of(world)))
    assert len(found) == 1
    assert found[0].startswith(message)


EDITS: list[tuple[str, str, str]] = [
    ("files: data/general.jsonl", "files: data/genral.jsonl", "recipe.yaml:5: data.general.files: no such file, go"),
    ("data: eval/general.jsonl", "data: eval/g.jsonl", "recipe.yaml:14: evaluators.general.data: no such file, got"),
    ("data/general.jsonl}", "'data/x*.jsonl'}", "recipe.yaml:5: data.general.files: no such file, got 'data/x*.jso"),
    ("prompt: question", "prompt: qestion", "recipe.yaml:6: data.safety.columns.prompt: no column for prompt, got"),
    ("prompt: question", "prompt: question, answer: response", "recipe.yaml:6: data.safety.columns.answer: trainin"),
    ("{path: bought}", "{path: ./nowhere}", "recipe.yaml:10: experts.bought.path: no such directory, got './nowher"),
    ("[linear, ties]", "[linear, slerp]", "recipe.yaml:17: search.methods[1]: slerp merges exactly 2 experts; sear"),
    ("kind: exact_match,", "kind: exact_match, options: {mod: generate},", "recipe.yaml:14: evaluators.general.opt"),
    ("steps: 10, batch: 4, max_length: 32, dtype", "max_length: 100, batch: 4, dtype", "recipe.yaml:8: experts.gen"),
    ("actors: 1, cpus: 0.5", "actors: 1000, cpus: 100", "recipe.yaml:21: cluster.evaluators.cpus: this machine can"),
    ("evaluators: {actors: 1, cpus: 0.5}", "trainers: {workers: 4, cpus: 500}", "recipe.yaml:21: cluster.trainers."),
    ("actors: 1, cpus: 0.5", "actors: 1, cpus: 0.5, gpus: 64", "recipe.yaml:21: cluster.evaluators.gpus: this mach"),
]


@pytest.mark.parametrize(("old", "new", "message"), EDITS, ids=[new for _, new, _ in EDITS])
def test_recipes_that_do_not_fit_their_files_or_this_machine(world: Path, old: str, new: str, message: str) -> None:
    found = texts(world, problems_of(recipe_of(world, (old, new))))
    assert len(found) == 1
    assert found[0].startswith(message)


def test_all_problems_come_at_once(world: Path) -> None:
    (world / "data" / "general.jsonl").unlink()
    write_model(world / "bought", layers=1)
    write_rows(world / "eval" / "harmful.jsonl", [])
    found = problems_of(recipe_of(world, ("[linear, ties]", "[slerp]")))
    assert [problem.line for problem in found] == [5, 10, 15, 17]


def test_what_may_be_meant_is_a_warning(world: Path) -> None:
    write_rows(world / "eval" / "harmful.jsonl", [row for row in ITEMS if row["language"] == "en"])
    edits = (("  methods", "  experts: [general, safety]\n  methods"), ("candidates: 10", "candidates: 1"))
    report = check(recipe_of(world, *edits, ("cluster:\n", "cluster:\n  address: auto\n")))
    assert isinstance(report, Report)
    assert texts(world, report.warnings) == [
        "recipe.yaml:15: evaluators.safety.data: no item of the search split is in fr; scores say nothing about these "
        "languages",
        "recipe.yaml:15: evaluators.safety.data: no item of the report split is in fr; scores say nothing about these "
        "languages",
        UNPAIRED,
        "recipe.yaml:20: search.candidates: fewer candidates than methods (2), got 1; some methods get none",
        "recipe.yaml:10: experts.bought: is not in search.experts; it is scored, not merged",
        "recipe.yaml:22: cluster.address: resources are compared with the cluster only when it is joined, got auto",
    ]
    assert "warning: " in str(report)


def locked(world: Path, out: Path, *edits: tuple[str, str]) -> None:
    """Make `out` look like the run of an edited recipe."""
    out.mkdir(parents=True)
    (out / "recipe.lock.json").write_text(json.dumps(recipe_of(world, *edits).lock()))


def test_a_run_of_the_same_recipe_is_resumed(world: Path) -> None:
    locked(world, world / "out", ("candidates: 10", "candidates: 5"))
    assert check(recipe_of(world), out=world / "out").estimates


def test_a_run_of_another_recipe_is_refused_and_the_keys_are_named(world: Path) -> None:
    locked(
        world,
        world / "runs" / "small",
        ("steps: 10, batch: 4, max_length: 32, dtype", "batch: 4, max_length: 32, dtype"),
    )
    found = problems_of(recipe_of(world, ("base: base", "base: base\nseed: 1")))
    assert len(found) == 1
    assert found[0].path == "storage"
    assert (
        "holds another recipe's run; these keys differ: baselines.mixed.seed, experts.general.seed, " in found[0].rule
    )
    assert "experts.general.steps" in found[0].rule


@pytest.mark.parametrize("text", ["{", "[]", '{"fingerprint": "x"}', '{"fingerprint": "x", "recipe": {}}'])
def test_a_lock_that_cannot_be_read_is_refused(world: Path, text: str) -> None:
    (world / "out").mkdir()
    (world / "out" / "recipe.lock.json").write_text(text)
    assert "holds a run whose recipe.lock.json cannot be read" in problems_of(recipe_of(world), world / "out")[0].rule


def test_other_directories_that_are_refused(world: Path) -> None:
    recipe = recipe_of(world)
    (world / "full").mkdir()
    (world / "full" / "thesis.tex").write_text("x")
    for out, rule in (
        (world / "full", "holds files that are no run (thesis.tex)"),
        (world, "is the recipe's own directory"),
        (world / "recipe.yaml" / "deeper", f"{world / 'recipe.yaml'} is not a directory"),
    ):
        found = problems_of(recipe, out)
        assert [(problem.file, problem.path, problem.rule) for problem in found] == [(str(out), "--out", rule)]


def test_a_directory_that_holds_only_the_recipe_s_own_world_is_new(world: Path) -> None:
    (world / ".lock").write_text("")  # what a start that was cut short leaves
    (world / "run" / "world").mkdir(parents=True)
    for name in ("base", "bought", "data", "eval", "recipe.yaml"):
        (world / name).rename(world / "run" / "world" / name)
    assert check(load_recipe(world / "run" / "world" / "recipe.yaml"), out=world / "run").estimates


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_directory_that_cannot_be_written_is_refused(world: Path) -> None:
    code = (
        "import os, sys\nfrom pathlib import Path\n"
        "from search._check.output import problems\nfrom search.recipe import load_recipe\n"
        "recipe = load_recipe(sys.argv[1])\n"
        "os.getuid() or os.setuid(65534)\n"  # root may write anywhere
        "print(problems(recipe, Path(sys.argv[2]), ((), sys.argv[2]))[0].rule)"
    )
    with tempfile.TemporaryDirectory() as closed:  # not below tmp_path, which only its owner may enter
        Path(closed).chmod(0o555)
        command = [sys.executable, "-c", code, str(world / "recipe.yaml"), f"{closed}/run"]
        ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        assert ran.stdout.strip() == f"{closed} cannot be written to"


def test_a_disk_or_a_memory_too_small_is_refused(world: Path) -> None:
    from search._check import machine, output

    recipe = recipe_of(world)
    huge = machine.needs(recipe, 10**15)
    assert "experts and exports need about 2.8e+04 TB" in output.disk_problems(recipe, world / "new", huge)[0].rule
    rules = [problem.rule for problem in machine.problems(recipe, huge)]
    assert rules[0].startswith("1 actors with a model each needs at least 2e+03 TB of memory; this machine has ")
    assert rules[1].startswith(
        "one training (ZeRO 2, 1 workers) needs at least 1.6e+04 TB of memory; this machine has "
    )
