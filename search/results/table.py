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
    from search.statistics.relative import relative_line

    from .partners import columns as beside

    objectives: Mapping[str, str] = document["objectives"]
    shown = beside(objectives, document.get("look_alikes") or {})
    first, direction = next(iter(objectives.items()))
    points = [point for point in document["points"] if every or point["on_front"]]
    if not points:
        return nothing_line(document)
    points = sorted(points, key=lambda p: p["scores"][first]["value"], reverse=direction == "max")
    picks: dict[str, list[str]] = {}
    for pick, point in document["picks"].items():
        picks.setdefault(point, []).append(pick)
    header = [
        "id",
        "kind",
        *(f"{name} ({way or 'look-alikes'})" for name, way in shown.items()),
        "P(front)",
        "made of",
        "pick",
    ]
    rows = [header]
    for point in points:
        label = f"#{point['id']}" if point["kind"] == "merge" else point["id"]
        scores = [_score(point["scores"][name]) if name in point["scores"] else "" for name in shown]
        off = " (scored in part)" if point["state"] == "PRUNED" else " (off the front)"
        mark = "" if point["on_front"] else off if point["feasible"] else " (infeasible)"
        made = _made(point) + mark
        rows.append(
            [
                label,
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
    tail = f"{count} points on the front, {split}; value ± one standard error"
    lines = (
        columns(rows),
        tail,
        relative_line(document),
        volume_line(document),
        gap_line(document),
        saving_line(document),
        ended_line(document),
    )
    return "\n".join(line for line in lines if line)


def nothing_line(document: Mapping[str, Any]) -> str:
    """Why the front is empty: nothing was scored, or nothing keeps the constraints, and then what comes closest."""
    from search._study.least import least_infeasible, missed

    scored = [point for point in document["points"] if point["state"] == "COMPLETE"]
    if not scored or any(point["feasible"] for point in scored):
        return "no point is on the front yet"
    least = scored[least_infeasible([point["violations"] for point in scored])]
    name = f"#{least['id']}" if least["kind"] == "merge" else least["id"]
    return f"no point keeps all constraints; the least infeasible, {name}, misses {missed(least['violations'])}"


def ended_line(document: Mapping[str, Any]) -> str:
    """Why the searches ended; "" while none has."""
    searches: dict[str, list[str]] = {}
    for search, reason in document.get("stopped", {}).items():
        searches.setdefault(reason, []).append(search)
    parts = [f"{', '.join(names)}: {reason}" for reason, names in searches.items()]
    return f"searches ended by: {'; '.join(parts)}" if parts else ""


def volume_line(document: Mapping[str, Any]) -> str:
    """The hypervolume as measured, and the interval for the true one of the same front."""
    low, high = document["hypervolume_interval"]
    measured, optimism = document["hypervolume"], document["hypervolume_optimism"]
    return (
        f"hypervolume {measured:.4f} as measured, on average {optimism:.4f} too large; "
        f"true one {low:.4f} to {high:.4f} ({document['level']:.0%} interval)"
    )


def gap_line(document: Mapping[str, Any]) -> str:
    """How much better the merges looked to the search than on items it never saw; "" before the confirmation."""
    gaps: Mapping[str, Mapping[str, Any]] = document["optimism"]
    if not gaps:
        return ""
    texts = [f"{n} {100 * g['value']:+.1f} ({100 * g['low']:+.1f} to {100 * g['high']:+.1f})" for n, g in gaps.items()]
    merges = next(iter(gaps.values()))["points"]
    return (
        f"optimism of the search, mean over its {merges} confirmed merges (+: it promised more than the report split "
        f"kept), points and {document['level']:.0%} interval: {', '.join(texts)}"
    )


def saving_line(document: Mapping[str, Any]) -> str:
    """What races saved; "" where none dropped a merge."""
    spent = document["items"]
    if not spent["dropped"]:
        return ""
    share = spent["scored"] / spent["full"]
    return (
        f"races dropped {spent['dropped']} merges before their last item: {spent['scored']:,} items scored, "
        f"{share:.0%} of {spent['full']:,}"
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
    from search import plugins
    from trainers._schema import load_trainer
    from trainers._schema import options_of as trainer_options

    lines = ["merge methods (search.methods)"]
    for name in plugins.choices("mergers"):
        method = load_method(name)
        one = method.max_experts == method.min_experts
        count = f"{method.min_experts}{'' if one else '+'} expert{'s' * (not one or method.min_experts > 1)}"
        base = ", base" if method.needs_base else ", base or none" if method.optional_base else ""
        lines.append(f"  {name:<18}{count}{base}: {_first_line(method.function)}")
        lines += [f"      {_parameter(parameter)}" for parameter in method.parameters]
    lines += ["", "trainers (experts.NAME.trainer)"]
    for name in plugins.choices("trainers"):
        lines.append(f"  {name:<18}{_first_line(load_trainer(name))}")
        lines += [f"      {_option(option)}" for option in trainer_options(name)]
    lines += ["", "evaluators (evaluators.NAME.kind)"]
    for name in plugins.choices("evaluators"):
        factory = load_kind(name)
        options = ", ".join(o.name if o.required else f"{o.name}={o.default!r}" for o in options_of(factory))
        lines.append(f"  {name:<21} {_first_line(factory)}" + (f" [{options}]" if options else ""))
    from search.samplers import NAMES

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


def _option(option: Any) -> str:
    default = "required" if option.required else f"default {option.default}"
    return f"{option.name}: {option.rule}, {default.lower() if option.kind == 'bool' else default}"


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
