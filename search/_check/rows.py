"""A recipe's training data, looked at through `datasets`: columns, languages, and whether there is anything in it."""

from __future__ import annotations

import glob
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from search._recipe.yaml_text import KeyPath
from search.errors import Problem, shown, suggestion
from search.recipe import DataSource, Recipe, TrainedBaseline, TrainedExpert

ROWS = 20_000  # rows read of each source: enough to see its languages, quick for any size


@dataclass
class _Seen:
    """What the first rows of a source show; `whole` if they are all its rows."""

    languages: Counter[str] = field(default_factory=Counter)
    whole: bool = True


def missing_files(recipe: Recipe, path: KeyPath, source: DataSource) -> list[Problem]:
    """Files of a data source that are not there; a glob must match something."""
    problems = []
    for i, (written, file) in enumerate(zip(source.files, recipe.source(source).files, strict=True)):
        found = glob.glob(file) if glob.has_magic(file) else [file]
        if "://" not in written and not (found and all(Path(name).is_file() for name in found)):
            remedy = "check the path; it is relative to the recipe"
            place = next((p for p in ((*path, "files", i), (*path, "files")) if recipe.states(p)), path)
            problems.append(recipe.problem(place, "no such file", shown(written), remedy))
    return problems


def problems(recipe: Recipe) -> tuple[Problem, ...]:
    """What is wrong with the data that experts and baselines are trained on."""
    trainings = [
        ((section, name), model)
        for section, models in (("experts", recipe.experts), ("baselines", recipe.baselines))
        for name, model in models.items()
        if isinstance(model, (TrainedExpert, TrainedBaseline))
    ]
    found: list[Problem] = []
    used: dict[str, list[str]] = {}
    for (_, name), model in trainings:
        for data, share in recipe.mixture(name).items():
            if share > 0 and model.trainer not in used.setdefault(data, []):
                used[data].append(model.trainer)
    seen: dict[str, _Seen] = {}
    for name, source in recipe.data.items():
        absent = missing_files(recipe, ("data", name), source)
        found += absent
        if name in used and not absent:
            seen[name] = _Seen()
            found += _read(recipe, name, source, seen[name], used[name])
    for path, model in trainings:
        for data, share in recipe.mixture(path[1]).items():
            if share > 0 and data in seen and seen[data].whole and seen[data].languages:
                found += _untrainable(recipe, path, model, data, seen[data])
    return tuple(found)


def _untrainable(
    recipe: Recipe, path: KeyPath, model: TrainedExpert | TrainedBaseline, data: str, seen: _Seen
) -> list[Problem]:
    """Languages of a training for which one of its sources has no row."""
    stated = recipe.states((*path, "languages"))
    if not stated and any(seen.languages[language] for language in model.languages):
        return []  # by default a source may lack some of the recipe's languages, not all
    empty = [language for language in model.languages if not seen.languages[language]]
    if not empty:
        return []
    has = ", ".join(seen.languages)
    rule = f"data '{data}' has no rows in {', '.join(empty)} (it has {has})"
    return [recipe.problem((*path, "languages") if stated else path, rule, None, "change languages, or the mix")]


def _read(recipe: Recipe, name: str, source: DataSource, seen: _Seen, trainers: Sequence[str]) -> list[Problem]:
    """Look at the first rows of one source for all trainers that read it, noting its languages in `seen`."""
    from trainers._schema import columns_of

    path = ("data", name)
    wanted = {trainer: columns_of(trainer) for trainer in trainers}
    known = tuple(dict.fromkeys([*(c for w in wanted.values() for each in w.needs for c in each), "language"]))
    foreign = [ours for ours in source.columns if ours not in known]
    if foreign and not any(w.others for w in wanted.values()):
        rule = f"training data for {', '.join(trainers)} has {', '.join(known)}"
        return [recipe.problem((*path, "columns", foreign[0]), rule, shown(foreign[0]), "remove the column")]
    try:
        rows = list(itertools.islice(rows_of(recipe, source), ROWS + 1))
    except Exception as error:  # parsers, hub and file systems share no base class; the remedy is the same for all
        cause = error.__cause__ or error
        text = (str(cause).strip() or type(cause).__name__).splitlines()[0]
        return [recipe.problem(path, f"cannot be read as {source.path}: {text}", None, "check the file and its format")]
    seen.whole = len(rows) <= ROWS
    if not rows:
        return [recipe.problem(path, "holds no rows", None, "add rows, or remove it from the mixes")]
    present = tuple(dict.fromkeys(column for row in rows[:100] for column in row))
    found: list[Problem] = []
    read: dict[str, None] = {}
    for trainer, columns in wanted.items():
        chosen, lacking = _columns(source, columns.needs, present)
        read |= dict.fromkeys(chosen)
        for ours in lacking:
            problem = _no_column(recipe, path, source, ours, source.columns.get(ours, ours), present, trainer)
            found += [problem] if problem not in found else []
    if found:
        return found
    for ours in (column for column in read if column != "language"):
        empty = [i for i, row in enumerate(rows, 1) if not row.get(source.columns.get(ours, ours))]
        if empty:
            rule = f"{len(empty)} rows have no {source.columns.get(ours, ours)}, the first is row {empty[0]}"
            found.append(recipe.problem(path, rule, None, "fill them in or remove them"))
    seen.languages.update(str(row[source.columns.get("language", "language")]) for row in rows)
    unknown = [language for language in seen.languages if language not in recipe.languages]
    if unknown:
        count = sum(seen.languages[language] for language in unknown)
        listed = ", ".join(repr(language) for language in unknown[:5])
        rule = f"{count} rows are in languages that the recipe does not list"
        remedy = f"{suggestion(unknown[0], recipe.languages)}; add them to languages, or remove the rows"
        found.append(recipe.problem(path, rule, listed, remedy))
    return found


def _columns(
    source: DataSource, needs: Sequence[Sequence[str]], present: Sequence[str]
) -> tuple[tuple[str, ...], list[str]]:
    """The alternative of columns that a source has, and what it lacks of the one that it comes nearest to."""

    def lacking(columns: Sequence[str]) -> list[str]:
        return [ours for ours in (*columns, "language") if source.columns.get(ours, ours) not in present]

    chosen = min(needs, key=lambda columns: len(lacking(columns)))
    return (*chosen, "language"), lacking(chosen)


def _no_column(
    recipe: Recipe, path: KeyPath, source: DataSource, ours: str, theirs: str, present: tuple[str, ...], trainer: str
) -> Problem:
    where = (*path, "columns", ours) if ours in source.columns else path
    remedy = f"{suggestion(theirs, present)}; map it with columns: {{{ours}: NAME}}"
    rule = (
        f"no column for {ours}" if ours in ("prompt", "response", "language") else f"no column for {ours} ({trainer})"
    )
    return recipe.problem(where, rule, shown(theirs), remedy)


def rows_of(recipe: Recipe, source: DataSource) -> Iterator[Mapping[str, Any]]:
    """The rows of a source, one after the other, as `datasets` reads them."""
    from datasets import load_dataset

    resolved = recipe.source(source)
    files = [name for file in resolved.files for name in (sorted(glob.glob(file)) if glob.has_magic(file) else [file])]
    options: dict[str, Any] = {"data_files": files} if files else {}
    if files and all(Path(file).stat().st_size == 0 for file in files):
        return iter(())  # the readers disagree on whether an empty file is an error
    return iter(load_dataset(resolved.path, split=source.split, streaming=True, **options))
