"""Plain text for a terminal: the front, scores, and what can be named."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows as aligned columns, the first one a header."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def front_table(document: Mapping[str, Any], *, every: bool = False) -> str:
    """The front, best on the first objective first, with one standard error behind each score."""
    objectives: Mapping[str, str] = document["objectives"]
    first, direction = next(iter(objectives.items()))
    points = [point for point in document["points"] if every or point["on_front"]]
    if not points:
        return "no point is on the front yet"
    points = sorted(points, key=lambda p: p["scores"][first]["value"], reverse=direction == "max")
    picks: dict[str, list[str]] = {}
    for pick, point in document["picks"].items():
        picks.setdefault(point, []).append(pick)
    header = [
        "id",
        "kind",
        *(f"{name} ({way})" for name, way in objectives.items()),
        "P(front)",
        "made of",
        "pick",
    ]
    rows = [header]
    for point in points:
        name = f"#{point['id']}" if point["kind"] == "merge" else point["id"]
        scores = [_score(point["scores"][objective]) for objective in objectives]
        mark = "" if point["on_front"] else " (off the front)" if point["feasible"] else " (infeasible)"
        made = _made(point) + mark
        rows.append(
            [
                name,
                point["kind"],
                *scores,
                f"{point['p_on_front']:.2f}",
                made,
                ", ".join(picks.get(point["id"], [])),
            ]
        )
    count = sum(point["on_front"] for point in document["points"])
    split = (
        "confirmed on the report split" if document["split"] == "report" else "on the search split, not confirmed yet"
    )
    tail = (
        f"{count} points on the front, {split}; hypervolume {document['hypervolume']:.4f}; value ± one standard error"
    )
    return "\n".join(line for line in (columns(rows), tail, gap_line(document)) if line)


def gap_line(document: Mapping[str, Any]) -> str:
    """How much better the merges looked to the search than on items it never saw; "" before the confirmation."""
    merges = [point for point in document["points"] if point["kind"] == "merge" and "search_scores" in point]
    if not merges:
        return ""
    gaps = []
    for name, direction in document["objectives"].items():
        differences = [p["search_scores"][name]["value"] - p["scores"][name]["value"] for p in merges]
        sign = 1.0 if direction == "max" else -1.0
        gaps.append(f"{name} {100 * sign * sum(differences) / len(differences):+.1f}")
    return (
        f"optimism of the search, mean over its {len(merges)} confirmed merges (+: it promised more than the report "
        f"split kept), points: {', '.join(gaps)}"
    )


def score_table(scores: Mapping[str, Any]) -> str:
    """Scores of one checkpoint: all languages, then each."""
    languages = list(scores["languages"])
    rows = [["score", "all", *languages]]
    for name, score in scores["scores"].items():
        by_language = [scores["languages"][language].get(name) for language in languages]
        rows.append([name, _score(score), *("" if cell is None else _score(cell) for cell in by_language)])
    return columns(rows)


def methods_table() -> str:
    """Everything that a recipe can name, with parameters and their bounds."""
    from evaluators._schema import load_kind, options_of
    from mergers._schema import load_method

    from . import plugins

    lines = ["merge methods (search.methods)"]
    for name in plugins.choices("mergers"):
        method = load_method(name)
        one = method.max_experts == method.min_experts
        count = f"{method.min_experts}{'' if one else '+'} expert{'s' * (not one or method.min_experts > 1)}"
        base = ", base" if method.needs_base else ", base or none" if method.optional_base else ""
        lines.append(f"  {name:<18}{count}{base}: {_first_line(method.function)}")
        lines += [f"      {_parameter(parameter)}" for parameter in method.parameters]
    lines += ["", "trainers (experts.NAME.trainer)", *(f"  {name}" for name in plugins.choices("trainers"))]
    lines += ["", "evaluators (evaluators.NAME.kind)"]
    for name in plugins.choices("evaluators"):
        factory = load_kind(name)
        options = ", ".join(f"{o.name}={o.default!r}" for o in options_of(factory))
        lines.append(f"  {name:<18}{_first_line(factory)}" + (f" [{options}]" if options else ""))
    from .samplers import NAMES

    lines += ["", "samplers (search.sampler)", f"  {', '.join(NAMES)}"]
    return "\n".join(lines)


def _parameter(parameter: Any) -> str:
    if parameter.kind == "bool":
        return f"{parameter.name}: true or false, default {str(parameter.default).lower()}"
    if parameter.kind == "text":
        return f"{parameter.name}: {' or '.join(parameter.options)}, default {parameter.default}"
    each = ", one per expert" if parameter.per_expert else ""
    given = "none" if parameter.default is None else f"{parameter.default:g}"
    default = "required" if parameter.required else f"default {given}"
    searched = f", searched in [{parameter.search[0]:g}, {parameter.search[1]:g}]" if parameter.search else ""
    free = math.isinf(parameter.low) and math.isinf(parameter.high)
    bounds = "any number" if free else f"in [{parameter.low:g}, {parameter.high:g}]"
    return f"{parameter.name}: {bounds}{each}, {default}{searched}"


def _first_line(thing: Any) -> str:
    return (thing.__doc__ or "").strip().splitlines()[0]


def _score(score: Mapping[str, Any]) -> str:
    return f"{100 * score['value']:.1f} ± {100 * score['stderr']:.1f}"


def _made(point: Mapping[str, Any]) -> str:
    if point["kind"] != "merge":
        return ""
    weights = " ".join(f"{name} {weight:.2f}" for name, weight in point["weights"].items())
    params = " ".join(f"{name} {value:.2f}" for name, value in point["params"].items() if name != "t")
    return f"{point['method']}: {weights}" + (f"; {params}" if params else "")
