"""A fork keeps what a changed recipe still stands for, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from cluster.local import LocalPool
from search import experts
from search.demo.world import write_world
from search.errors import UserError
from search.experts import Model
from search.recipe import Recipe, load_recipe
from search.run.fork import Carried, fork
from search.run.items import items_file, write_items
from search.run.rundir import Run, open_run
from search.scoring.objective import AS_IT_IS, Job
from search.stopping import Rules
from search.study import SearchPlan, run_search

from .landscape import Landscape, graders, plan

METHODS = ("linear", "ties")


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    file = write_world(tmp_path / "world")
    text = re.sub(r"  objectives: .*", "  objectives: {general: max, safety: max}", file.read_text("utf-8"))
    file.write_text(re.sub(r"  methods: .*", f"  methods: [{', '.join(METHODS)}]", text), encoding="utf-8")
    return load_recipe(file)


def changed(recipe: Recipe, edit: Callable[[str], str]) -> Recipe:
    file = Path(recipe.file).with_name("changed.yaml")
    file.write_text(edit(Path(recipe.file).read_text("utf-8")), encoding="utf-8")
    return load_recipe(file)


def wanted(run: Run, models: Sequence[Model], method: str, candidates: int) -> SearchPlan:
    hashes = tuple(model.hash for name in ("general", "safety") for model in models if model.name == name)
    return plan(run.path, method, hashes=hashes, rules=Rules(candidates), in_flight=1)


def scored_run(recipe: Recipe, path: Path) -> None:
    """A run as it lies after its search, over the known landscape."""
    hashes = experts.input_hashes(recipe)
    with open_run(recipe, path, hashes) as run:
        models = experts.models(recipe, run.experts, hashes)
        landscape = Landscape()
        for model in models:
            if model.spec is not None:
                model.path.mkdir()
                (model.path / "training.json").write_text("{}")
            if model.name in ("base", "general", "safety"):
                run.store.add_model(model.name, model.kind, f"{model.kind}:{model.name}:{model.hash}")
                results = landscape.score(Job(AS_IT_IS, (model.name,), "search"))
                write_items(run.items, model.name, "search", results, graders())
                scores = dict(next(s for name, s in plan(path).unmerged if name == model.name))
                run.store.finish(model.name, 1.0, "search", scores)
        for method in METHODS:
            run_search(wanted(run, models, method, 10), LocalPool(Landscape(raise_above=0.8)), run.store)


def forked(recipe: Recipe, source: Path, out: Path, log: Path | None = None) -> Carried:
    """Fork, then go on with both searches; counts what is scored anew in `log`."""
    hashes = experts.input_hashes(recipe)
    with open_run(recipe, out, hashes) as run:
        models = experts.models(recipe, run.experts, hashes)
        carried = fork(run, models, hashes, source)
        if log is not None:
            for method in METHODS:
                run_search(wanted(run, models, method, 12), LocalPool(Landscape(log=str(log))), run.store)
            points = [point for point in run.store.points() if point.kind == "merge"]
            assert {point.state for point in points} == {"COMPLETE"}
            assert len({point.key for point in points}) == len(points) == 24
            assert all(items_file(run.items, point.id, "search").is_file() for point in points)
    return carried


def test_other_objectives_keep_every_score(recipe: Recipe, tmp_path: Path) -> None:
    scored_run(recipe, tmp_path / "old")
    other = changed(
        recipe, lambda text: text.replace("general: max, safety: max", "safety: max, general: max, over_refusal: min")
    )
    log = tmp_path / "scored.log"
    carried = forked(other, tmp_path / "old", tmp_path / "new", log)
    with open_run(recipe, tmp_path / "old", experts.input_hashes(recipe)) as old:
        complete = [p for p in old.store.points() if p.kind == "merge" and p.state == "COMPLETE"]
    assert len(complete) < 20, "some must have failed"
    assert carried.models == 3
    assert carried.merges == len(complete)
    assert carried.experts == sum(
        model.spec is not None for model in experts.models(other, tmp_path, experts.input_hashes(other))
    )
    assert carried.changed == ("search.objectives.over_refusal",)
    assert len(log.read_text().splitlines()) == 24 - len(complete)
    again = forked(other, tmp_path / "old", tmp_path / "new")
    assert (again.experts, again.models, again.merges) == (0, 0, 0)


@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [
        ("methods: [linear, ties]", "methods: [ties]", "half"),
        ("coefficients: free", "coefficients: simplex", "models"),
        ("over_refusal: {kind: refusal", "new_name: {kind: refusal", "nothing"),
        ("seed: 0", "seed: 5", "nothing"),
    ],
)
def test_what_a_change_leaves_valid(recipe: Recipe, tmp_path: Path, before: str, after: str, kept: str) -> None:
    scored_run(recipe, tmp_path / "old")
    assert before in Path(recipe.file).read_text("utf-8"), before
    carried = forked(changed(recipe, lambda text: text.replace(before, after)), tmp_path / "old", tmp_path / "new")
    assert carried.changed
    assert (carried.models == 3) == (kept in ("half", "models"))
    assert (carried.merges > 0) == (kept == "half")
    assert carried.merges <= 10


def test_a_run_is_not_forked_into_itself(recipe: Recipe, tmp_path: Path) -> None:
    scored_run(recipe, tmp_path / "old")
    with pytest.raises(UserError, match="cannot be forked into its own directory"):
        forked(recipe, tmp_path / "old", tmp_path / "old")
    with pytest.raises(UserError, match="there is no such directory"):
        forked(recipe, tmp_path / "none", tmp_path / "new")
