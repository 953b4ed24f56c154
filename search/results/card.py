"""The card of an exported checkpoint: what it is made of, how it scored and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from search.experts import Model
from search.recipe import FrontPick, MergedExpert, MixFrom, Recipe, Training


def facts(
    recipe: Recipe,
    models: Sequence[Model],
    document: Mapping[str, Any],
    row: Mapping[str, Any],
    identity: Mapping[str, Any],
) -> dict[str, Any]:
    """Everything that the card states, as plain values."""
    used = [name for name, weight in row["weights"].items() if weight] if row["kind"] == "merge" else [row["id"]]
    return {
        "identity": dict(identity),
        "kind": row["kind"],
        "method": row["method"],
        "params": row["params"],
        "weights": row["weights"],
        "by_layer": row.get("by_layer", {}),
        "scores": row["scores"],
        "level": document["level"],
        "languages": row["languages"],
        "objectives": document["objectives"],
        "on_front": row["on_front"],
        "p_on_front": row["p_on_front"],
        "feasible": row["feasible"],
        "base": recipe.base,
        "seed": recipe.seed,
        "dtype": recipe.export.dtype,
        "lineage": [
            {"name": m.name, "kind": m.kind, "path": str(m.path), "hash": m.hash, "mix": _mix(recipe, m.name)}
            for m in models
            if m.kind == "base" or m.name in used
        ],
        "license": "other",
    }


def markdown(facts: Mapping[str, Any]) -> str:
    """The model card (README.md with the metadata that the hub reads)."""
    identity = facts["identity"]
    title = f"{identity['run']} {'#' if facts['kind'] == 'merge' else ''}{identity['point']}"
    head = {
        "base_model": facts["base"],
        "base_model_relation": "merge" if facts["kind"] == "merge" else "finetune",
        "language": list(facts["languages"]),
        "library_name": "transformers",
        "license": facts["license"],
        "license_name": "see-sources",
        "tags": ["merge", "mergefront"] if facts["kind"] == "merge" else ["mergefront"],
    }
    lines = ["---", yaml_text(head).rstrip(), "---", "", f"# {title}", "", _summary(facts), ""]
    lines += [
        "## Scores",
        "",
        f"| score | value | {facts['level']:.0%} interval | items | split |",
        "|---|---|---|---|---|",
    ]
    lines += [_score_line(name, score) for name, score in facts["scores"].items()]
    if facts["languages"]:
        names = list(facts["scores"])
        lines += ["", "### By language", "", "| language | " + " | ".join(names) + " |"]
        lines += ["|---|" + "---|" * len(names)]
        for language, scores in facts["languages"].items():
            cells = [f"{scores[n]['value']:.3f} ± {scores[n]['stderr']:.3f}" if n in scores else "" for n in names]
            lines.append(f"| {language} | " + " | ".join(cells) + " |")
        lines += ["", "Values are followed by one standard error."]
    lines += [
        "",
        "## Lineage",
        "",
        "| model | role | weight | content hash | data |",
        "|---|---|---|---|---|",
    ]
    for entry in facts["lineage"]:
        weight = facts["weights"].get(entry["name"])
        shown = "" if weight is None else f"{weight:g}"
        lines.append(f"| {entry['name']} | {entry['kind']} | {shown} | `{entry['hash'][:16]}` | {entry['mix']} |")
    lines += [
        "",
        "`merge.yaml` is the same merge for mergekit; `card.json` holds all of the above for programs.",
        "",
    ]
    lines += [
        "## Licence",
        "",
        "That of the base and of every model and data set above; check each before use.",
        "",
    ]
    return "\n".join(lines)


def yaml_text(mapping: Mapping[str, Any]) -> str:
    """YAML in the order given, letters of all scripts as they are."""
    return yaml.safe_dump(dict(mapping), sort_keys=False, allow_unicode=True)


def _summary(facts: Mapping[str, Any]) -> str:
    if facts["kind"] != "merge":
        return f"An unmerged model ({facts['kind']}) on the front of its run, exported as it is."
    params = ", ".join(f"{name} {value}" for name, value in facts["params"].items())
    weights = ", ".join(f"{name} {weight:g}" for name, weight in facts["weights"].items())
    if facts["by_layer"]:
        weights += "; means over groups of layers, merge.yaml has them all"
    place = "on" if facts["on_front"] else "off"
    sure = f"{facts['p_on_front']:.0%}"
    return (
        f"A `{facts['method']}` merge ({weights}{'; ' + params if params else ''}), {place} the front of its run; "
        f"the probability that it is on the front, had other items been drawn, is {sure}."
    )


def _score_line(name: str, score: Mapping[str, Any]) -> str:
    interval = f"{score['low']:.4f} to {score['high']:.4f}"
    return f"| {name} | {score['value']:.4f} | {interval} | {score['n']} | {score['split']} |"


def _mix(recipe: Recipe, name: str) -> str:
    entry = (dict(recipe.experts) | dict(recipe.baselines)).get(name)
    if isinstance(entry, MergedExpert):
        weights = ", ".join(f"{model} {weight:g}" for model, weight in entry.merge.weights.items())
        return f"{entry.merge.method} of {weights}"
    if isinstance(entry, FrontPick):
        return f"{entry.pick} of the search {entry.front}"
    if not isinstance(entry, Training):
        return ""
    start = "" if entry.from_ is None else f"from {_start(entry.from_)}: "
    if isinstance(entry.mix, MixFrom):
        return f"{start}the mixture found by {entry.mix.from_}"
    return start + ", ".join(f"{source} {share:.0%}" for source, share in entry.mix.items())


def _start(start: str | FrontPick) -> str:
    return start if isinstance(start, str) else f"{start.pick} of the search {start.front}"
