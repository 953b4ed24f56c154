"""A new run that begins with what another one found: trained experts, and scores that the new recipe still stands for.

A score stands while base, seed, languages, evaluators with their items, data type and engine are the same. The unmerged
models carry theirs over by name and content; merges theirs where experts, coefficients and layer groups are the same
too, since only then do the sampler's numbers mean the same. Objectives, constraints, sampler, methods and limits may
change: all scores of a point are kept, not those that were aimed at. What failed is tried again.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from search._recipe.lock import differences
from search._training.model import MADE, RECORD, Model
from search.errors import Problem, UserError
from search.recipe import LOCK
from search.store import Point, Scores, Store

from .items import items_file
from .rundir import Run, log, read_run

SPLITS = ("search", "report")
# The seed too: it orders items, and a merge with random masks is another one.
_SCORES = ("base", "seed", "languages", "evaluators", "cluster.evaluators", "export.dtype")
_SPACE = ("search.experts", "search.coefficients", "search.layer_groups")


@dataclass(frozen=True)
class Carried:
    """What a fork took over, and why not more.

    Attributes:
        experts: trained checkpoints.
        models: scores of unmerged models.
        merges: scored merges.
        changed: keys at which the recipes differ, and inputs whose content does.
    """

    experts: int
    models: int
    merges: int
    changed: tuple[str, ...]

    def __str__(self) -> str:
        """One line."""
        kept = f"{self.experts} experts, scores of {self.models} models and {self.merges} merges taken over"
        return f"{kept}; changed: {', '.join(self.changed) or 'nothing'}"


def fork(
    run: Run, models: Sequence[Model], contents: Mapping[str, str], source: Path, *, merges: bool = True
) -> Carried:
    """Take over what is still valid; done again after a kill, it goes on.

    Args:
        run: the new run, open.
        models: its base, experts and baselines.
        contents: its inputs' content hashes (`experts.input_hashes`).
        source: directory of the run to start from; not changed.
        merges: whether scored merges are taken over too.

    Raises:
        UserError: no run directory, or the new run's own.
    """
    if source.resolve() == run.path.resolve():
        rule = "a run cannot be forked into its own directory"
        raise UserError(Problem(str(source), None, "--fork", rule, None, "name a new directory with --out"))
    with read_run(source) as old:
        held = json.loads((source / LOCK).read_text("utf-8"))
        dump = run.recipe.model_dump(mode="json")
        inputs = {name for name in (*held["contents"], *contents) if held["contents"].get(name) != contents.get(name)}
        changed = tuple(sorted({*differences(held["recipe"], dump), *inputs}))
        experts = sum(_expert(old.experts / model.path.name, model.path) for model in models if model.made != "given")
        kept_models = kept_merges = 0
        if not _any(changed, _SCORES):
            points, scores = old.store.points(), {split: old.store.scores(split) for split in SPLITS}
            keys = {f"{model.kind}:{model.name}:{model.hash}" for model in models}
            for point in points:
                if point.key in keys and point.state == "COMPLETE":
                    kept_models += _model(run, old, point, scores)
            methods = run.recipe.search.methods
            if merges and not _any(changed, _SPACE) and _same_experts(run, points, models):
                known = [p for p in points if p.kind == "merge" and p.search in methods and p.state == "COMPLETE"]
                kept_merges = sum(_merge(run, old, point, scores) for point in known)
    carried = Carried(experts, kept_models, kept_merges, changed)
    run.store.log("forked", source=str(source), line=str(carried))
    log(run, "forked", source=str(source), line=str(carried))
    return carried


def _any(changed: Sequence[str], keys: Sequence[str]) -> bool:
    return any(name == key or name.startswith(f"{key}.") for name in changed for key in keys)


def _same_experts(run: Run, points: Sequence[Point], models: Sequence[Model]) -> bool:
    known = {point.key for point in points}
    return all(f"expert:{m.name}:{m.hash}" in known for m in models if m.name in run.recipe.search.experts)


def _expert(old: Path, new: Path) -> bool:
    """A checkpoint by hard links where the disk allows: it is addressed by its content and never written to."""
    if new.exists() or not any((old / record).is_file() for record in (RECORD, MADE)):
        return False
    unfinished = new.with_name(f".{new.name}.{os.getpid()}.part")
    new.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.copytree(old, unfinished, copy_function=_link)
    unfinished.replace(new)
    return True


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk
        shutil.copy2(source, target)


def _model(run: Run, old: Run, point: Point, scores: Mapping[str, Mapping[str, Scores]]) -> bool:
    run.store.add_model(point.id, point.kind, point.key)
    return _finished(run.store, point.id, point, scores, partial(_copy_items, run, old, point.id, point.id))


def _merge(run: Run, old: Run, point: Point, scores: Mapping[str, Mapping[str, Scores]]) -> bool:
    assert point.search is not None
    assert point.method is not None
    entered, _ = run.store.add_candidate(point.key, point.search, point.method, point.params)
    if entered.state != "RUNNING":
        return False
    copy = partial(_copy_items, run, old, point.id, entered.id)
    return _finished(run.store, entered.id, point, scores, copy)


def _finished(
    store: Store, name: str, point: Point, scores: Mapping[str, Mapping[str, Scores]], copy: Callable[[str], None]
) -> bool:
    """Items first, the row last: a kill in between leaves a point under way, which the next fork completes."""
    for split in SPLITS:
        if point.id in scores[split]:
            copy(split)
    done = store.finish(name, point.seconds or 0.0, "search", scores["search"][point.id], tokens=point.tokens or 0)
    if done and point.id in scores["report"]:
        store.add_scores(name, "report", scores["report"][point.id])
    return done


def _copy_items(run: Run, old: Run, before: str, after: str, split: str) -> None:
    source, target = items_file(old.items, before, split), items_file(run.items, after, split)
    unfinished = target.with_suffix(f".{os.getpid()}.part")
    shutil.copy2(source, unfinished)
    unfinished.replace(target)
