"""A point of the front as a checkpoint directory: weights, config, tokenizer, merge.yaml and a card."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mergers._spec import Merge
from search._space.stored import to_json
from search.errors import Problem, UserError
from search.experts import Model
from search.run.rundir import Run, log, write_atomic
from search.scoring.objective import AS_IT_IS

from . import card
from .document import merge_of


def resolve_picks(document: Mapping[str, Any], picks: Sequence[str]) -> dict[str, str]:
    """Pick -> point id: `knee`, `safest`, `best-OBJECTIVE`, or the id of any scored point, with or without `#`.

    Raises:
        UserError: one problem for each pick that names nothing.
    """
    ids = [point["id"] for point in document["points"]]
    found, problems = {}, []
    for name in picks:
        if name in document["picks"]:
            found[name] = document["picks"][name]
        elif name.lstrip("#") in ids:
            found[name] = name.lstrip("#")
        else:
            named = ", ".join(document["picks"]) or "none yet: the front is empty"
            remedy = (
                f"named points: {named}; or an id that `mergefront front` lists, such as '#{ids[-1] if ids else 1}'"
            )
            problems.append(Problem("", None, f"--pick {name}", "no point of this run is called that", remedy=remedy))
    if problems:
        raise UserError(problems)
    return found


def export(
    run: Run, models: Sequence[Model], document: Mapping[str, Any], point: str, out: Path, *, replace: bool = False
) -> None:
    """Write one point as a directory that `transformers` loads; it appears whole or not at all.

    Args:
        run: of the point.
        models: base, experts and baselines.
        document: the front document.
        point: id.
        out: directory to make; must not exist, unless it is an earlier export of the same point.
        replace: put the new export in the place of another point's (a pick of a run that went on).

    Raises:
        UserError: `out` holds something else.
    """
    row = next(row for row in document["points"] if row["id"] == point)
    merge, experts = recipe_of(run, models, point)
    identity = {"run": run.recipe.name, "point": point, "key": _key(run, point)}
    if out.exists():
        if _identity(out) == identity:
            _write_texts(run, models, document, row, identity, out)
            return
        if replace and _identity(out) is not None:
            _write(run, models, document, row, identity, out, merge, experts)
            return
        rule = "the directory exists and is not an export of this point"
        raise UserError(Problem(str(out), None, "--out", rule, remedy="give a directory that does not exist yet"))
    _write(run, models, document, row, identity, out, merge, experts)


def copied(run: Run, point: str, out: Path) -> bool:
    """Copy a point that the run has exported already, where its base is not here to merge from; False if it cannot be.

    The point's weights are those of the export; nothing is made anew.
    """
    if out.exists() or Path(run.recipe.resolve(run.recipe.base)).is_dir():
        return False
    identity = {"run": run.recipe.name, "point": point, "key": _key(run, point)}
    for folder in sorted((run.path / "exports").glob("*")):
        if not folder.name.startswith(".") and _identity(folder) == identity:
            partial = out.with_name(f".{out.name}.part")
            shutil.rmtree(partial, ignore_errors=True)
            out.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(folder, partial)
            partial.rename(out)
            return True
    return False


def _write(
    run: Run,
    models: Sequence[Model],
    document: Mapping[str, Any],
    row: Mapping[str, Any],
    identity: Mapping[str, Any],
    out: Path,
    merge: Merge,
    experts: tuple[str, ...],
) -> None:
    from mergers._merge import Sources, merge_to_directory

    base = str(models[0].path)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial, old = (out.with_name(f".{out.name}.{end}") for end in ("part", "old"))
    for left_over in (partial, old):
        shutil.rmtree(left_over, ignore_errors=True)
    dtype, shard = run.recipe.export.dtype, run.recipe.export.shard
    merge_to_directory(merge, Sources(base, experts), partial, dtype=dtype, shard_bytes=shard)
    write_atomic(partial / "merge.yaml", _merge_yaml(merge, base, experts, dtype))
    _write_texts(run, models, document, row, identity, partial)
    if out.exists():
        out.rename(old)
    partial.rename(out)
    shutil.rmtree(old, ignore_errors=True)
    log(run, "exported", point=row["id"], out=str(out))


def recipe_of(run: Run, models: Sequence[Model], point: str) -> tuple[Merge, tuple[str, ...]]:
    """The merge that makes a point, and the checkpoints it reads; an unmerged model is a merge of itself."""
    stored = next(p for p in run.store.points() if p.id == point)
    by_name = {model.name: model.reference for model in models}
    if stored.kind != "merge":
        return AS_IT_IS, (by_name[stored.id],)
    return merge_of(stored), tuple(by_name[name] for name in run.recipe.search.experts)


def _merge_yaml(merge: Merge, base: str, experts: Sequence[str], dtype: str) -> str:
    """The merge for mergekit; where mergekit has no such method, the same facts with a word that it cannot run them."""
    from mergers._errors import InputError
    from mergers._mergekit import mergekit_text

    try:
        return mergekit_text(merge, base, experts, dtype)
    except InputError as reason:
        facts = {"merge_method": merge.method, "base_model": base, "experts": list(experts)}
        return f"# {reason}\n" + card.yaml_text(facts | {"parameters": to_json(merge)})


def _key(run: Run, point: str) -> str:
    return next(p.key for p in run.store.points() if p.id == point)


def _identity(out: Path) -> Any:
    file = out / "card.json"
    return json.loads(file.read_text(encoding="utf-8"))["identity"] if file.is_file() else None


def _write_texts(
    run: Run,
    models: Sequence[Model],
    document: Mapping[str, Any],
    row: Mapping[str, Any],
    identity: Mapping[str, Any],
    folder: Path,
) -> None:
    facts = card.facts(run.recipe, models, document, row, identity)
    write_atomic(folder / "card.json", json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    write_atomic(folder / "README.md", card.markdown(facts))
