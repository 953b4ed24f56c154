"""The parts of the page that need no script: headline, tables, machine, how to read it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .rows import DASH, label_of, number, score_text, value_text
from .tags import Child, Html, join, table, tag
from .verdict import BOUND, Row, Standing, count, optimism

View = Mapping[str, Any]


def score(row: Row, name: str) -> str:
    """The row's score as text, or a dash."""
    found = row["scores"].get(name)
    return found["text"] if found else DASH


def weights_text(row: Row) -> str:
    """`general 0.40 · safety 0.62`, with the layer group where there are several."""
    return " · ".join(_pieces(row)) or DASH


def _pieces(row: Row) -> list[str]:
    return [f"{group + ' ' if group else ''}{expert} {w:.2f}" for group, expert, w in row["weights"]]


def arrow(direction: str) -> str:
    """`max ↑` or `min ↓`; a score that is no objective is shown beside one that it is the cost of."""
    if not direction:
        return "look-alikes"
    return "max\u00a0↑" if direction == "max" else "min\u00a0↓"


def facts(view: View) -> Html:
    """Hypervolume, reference point and sizes, as a list of terms."""
    front = [row for row in view["rows"] if row["front"]]
    reference = ", ".join(f"{name} {value_text(value)}" for name, value in view["reference"].items())
    merges = [row for row in view["rows"] if row["kind"] == "merge"]
    pairs = [
        ("Front", f"{len(front)} of {len(view['rows'])} models"),
        ("Merges scored", f"{len(merges)} by {len(view['methods'])} methods"),
        ("Hypervolume", volume(view)),
        ("Reference point", reference or DASH),
        ("Objectives", ", ".join(f"{name} ({arrow(way)})" for name, way in view["objectives"].items())),
    ]
    if view["items"].get("dropped"):
        spent = view["items"]
        share = f"{spent['scored'] / spent['full']:.0%} of {number(spent['full'])}"
        pairs.append(("Items scored", f"{number(spent['scored'])}, {share}: {spent['dropped']} merges dropped early"))
    if view["constraints"]:
        pairs.append(("Constraints", "; ".join(view["constraints"])))
    if view["stopped"]:
        pairs.append(("Ended by", "; ".join(f"{name}: {reason}" for name, reason in view["stopped"].items())))
    return tag("dl", (tag("div", tag("dt", term), tag("dd", text)) for term, text in pairs), class_="facts")


def volume(view: View) -> str:
    """The hypervolume as measured, and the interval for the true one of the same front."""
    text = number(view["hypervolume"])
    if not view["interval"]:
        return text
    low, high = view["interval"]
    return f"{text} as measured; true one {number(low)} to {number(high)} ({view['level']:.0%} interval)"


def command(row: Row) -> Html:
    """The command that exports the row, with a button that copies it."""
    return tag("span", _code(row["command"]), " ", _copy(row), class_="command")


def _code(text: str) -> Html:
    first, *options = text.split(" --")
    pieces = (tag("span", piece, class_="option") for piece in (first, *(f"--{option}" for option in options)))
    return tag("code", *(join(" " if i else None, piece) for i, piece in enumerate(pieces)))  # breaks between options


def _copy(row: Row) -> Html:
    return tag(
        "button",
        "Copy",
        type="button",
        class_="copy",
        data_command=row["command"],
        title=row["command"],
        aria_label=f"Copy the export command of {row['label']}",
    )


def picks(view: View) -> Html:
    """One card for each picked point, under all its names."""
    by_id = {row["id"]: row for row in view["rows"]}
    cards = []
    for identity in dict.fromkeys(view["picks"].values()):
        row = by_id.get(identity)
        if row is None:
            continue
        what = row["kind"] if row["method"] is None else f"{row['kind']}, {row['method']}"
        lines = (
            tag("div", tag("dt", f"{objective} ({arrow(way)})"), tag("dd", score(row, objective)))
            for objective, way in view["columns"].items()
        )
        cards.append(
            tag(
                "article",
                tag("h3", ", ".join(row["picks"])),
                tag("p", tag("b", row["label"]), f" {what}", class_="what"),
                tag("dl", lines),
                tag("p", weights_text(row), class_="quiet") if row["weights"] else None,
                command(row),
                class_="pick",
            )
        )
    if not cards:
        return tag("p", "This run names no picks.", class_="quiet")
    return tag("div", cards, class_="picks")


def splits_note(view: View) -> Html | None:
    """A warning where the figure shows scores of several splits side by side."""
    used = [
        row["scores"][name]["split"] for row in view["rows"] for name in view["objectives"] if name in row["scores"]
    ]
    splits = dict.fromkeys(str(split) for split in used)
    if len(splits) < 2:
        return None
    return tag(
        "p",
        f"The marks show scores of different splits ({', '.join(splits)}): models that were not confirmed stand at "
        "their search scores. The best of those tend to be too hopeful, so such a mark may lie beyond the front. "
        "“Values” below shows every model on the search split.",
        class_="quiet",
    )


def front_table(view: View) -> Html:
    """The points of the front; the script makes the columns sortable."""
    rows = [row for row in view["rows"] if row["front"]]
    if not rows:
        return tag("p", "The front is empty: no feasible model has been scored on every objective.")
    objectives = view["objectives"]

    def sortable(text: str, value: float | None, *, title: str | None = None) -> Html:
        key = "" if value is None else repr(float(value))
        return tag("td", text, class_="num", data_value=key, title=title)

    def cells(row: Row) -> Iterable[Child]:
        name = join(row["label"], (tag("span", pick, class_="badge") for pick in row["picks"]))
        splits = dict.fromkeys(row["scores"][n]["split"] for n in objectives if n in row["scores"])
        yield tag("th", name, scope="row", data_value=row["id"])
        yield row["kind"]
        yield row["method"] or DASH
        for objective in view["columns"]:
            found = row["scores"].get(objective)
            yield sortable(score(row, objective), found["v"] if found else None, title=_interval(found, view["level"]))
        yield sortable(DASH if row["p"] is None else f"{row['p']:.2f}", row["p"])
        yield ", ".join(str(split) for split in splits) or DASH
        pieces = [tag("span", piece, class_="piece") for piece in _pieces(row) or [DASH]]
        yield tag("td", *(join(" · " if i else None, piece) for i, piece in enumerate(pieces)), class_="weights")
        yield tag("td", _copy(row))

    head = ["Model", "Kind", "Method", *(f"{n} ({arrow(w)})" for n, w in view["columns"].items())]
    head += ["P(on front)", "Split", "Weights", "Export"]
    numeric = tuple(range(3, 4 + len(view["columns"])))
    caption = f"The {len(rows)} points of the front: value ± one standard error."
    merges = [row for row in rows if row["kind"] == "merge"] or rows
    example = tag("p", "Export a point (the buttons copy the command of their row): ", _code(merges[0]["command"]))
    body = (cells(row) for row in rows)
    return join(example, table(caption, head, body, numeric=numeric, class_="sortable", id="front-table"))


def _interval(found: Mapping[str, Any] | None, level: float | None) -> str | None:
    if not found or found["low"] is None or found["high"] is None or level is None:
        return None
    return f"{level:.0%} interval: {number(found['low'])} to {number(found['high'])}, {number(found['n'])} items"


def standings_table(results: Sequence[Standing]) -> Html | None:
    """How the merges stand to each model that was not merged."""
    if not any(standing.compared for standing in results):
        return None
    rows = (
        (
            standing.reference["label"],
            standing.reference["kind"],
            f"{len(standing.front_dominates)} of {len(standing.front)}",
            f"{len(standing.front_ahead)} of {len(standing.front)}",
            f"{len(standing.front_dominated)} of {len(standing.front)}",
            f"{len(standing.dominated)} of {len(standing.compared)}",
            ", ".join(standing.splits),
        )
        for standing in results
        if standing.compared
    )
    head = (
        "Not merged",
        "Kind",
        "Front merges that dominate it",
        "Front merges ahead in value only",
        "Front merges it dominates",
        "Merges it dominates, all",
        "Compared on",
    )
    return table(
        f"Feasible merges against the models that were not merged; dominance outside {BOUND:g} standard errors.",
        head,
        rows,
        numeric=(2, 3, 4, 5),
    )


def optimism_section(view: View) -> Html:
    """Search against report scores of the confirmed points."""
    objectives = view["objectives"]
    gaps = [(row, optimism(row, objectives)) for row in view["rows"]]
    gaps = [(row, found) for row, found in gaps if found]
    if not gaps:
        return tag("p", "No point has been scored on both the search and the report split yet.", class_="quiet")
    lines, body = [], []
    for name in objectives:
        known = [found[name] for _, found in gaps if name in found]
        if known:
            values = [gap for gap, _ in known]
            outside = sum(stderr is not None and abs(gap) > BOUND * stderr for gap, stderr in known)
            lines.append(
                tag(
                    "li",
                    tag("b", name),
                    f": mean gap {sum(values) / len(values):+.3f} over {len(values)} points, from {min(values):+.3f} "
                    f"to {max(values):+.3f}; {outside} outside {BOUND:g} standard errors.",
                    _gap(view, name),
                )
            )
    for row, found in gaps:
        cells: list[Child] = [row["label"], row["kind"] if row["method"] is None else row["method"]]
        for name in objectives:
            if name in found:
                gap, stderr = found[name]
                outside = stderr is not None and abs(gap) > BOUND * stderr
                text = score_text(gap, stderr)
                text = text.replace("-", "−") if gap < 0 else f"+{text}"
                cells += [
                    row["search"][name]["text"],
                    row["scores"][name]["text"],
                    f"{text}{' *' if outside else ''}",
                ]
            else:
                cells += [DASH] * 3
        body.append(cells)
    head = ["Model", "Method"] + ["search", "report", "gap"] * len(objectives)
    groups = (("", 2), *((f"{name} ({arrow(way)})", 3) for name, way in objectives.items()))
    numeric = tuple(range(2, 2 + 3 * len(objectives)))
    caption = f"Search score, report score and gap ± standard error; * marks a gap outside {BOUND:g} standard errors."
    return join(tag("ul", lines), table(caption, head, body, numeric=numeric, groups=groups))


def _gap(view: View, name: str) -> str:
    """The optimism gap over the confirmed merges with its interval."""
    gap = view["optimism"].get(name)
    if not gap:
        return ""
    return (
        f" Over the {count(gap['points'], 'confirmed merge')}: {gap['value']:+.3f}, {view['level']:.0%} interval "
        f"{gap['low']:+.3f} to {gap['high']:+.3f}."
    )


def failed_section(view: View) -> Html:
    """Candidates that failed, each with its reason."""
    failed = view["failed"]
    if not failed:
        return tag("p", "No candidate is recorded as failed.")
    rows = (
        (label_of(value_text(entry.get("id"))), value_text(entry.get("method")), value_text(entry.get("reason")))
        for entry in failed
    )
    return table(f"{count(len(failed), 'failed candidate')}.", ("Candidate", "Method", "Reason"), rows)


def timing_section(view: View) -> Html:
    """Seconds by stage."""
    timing = {stage: value for stage, value in view["timing"].items() if isinstance(value, int | float)}
    if not timing:
        return tag("p", "No timing is recorded.", class_="quiet")
    total = sum(timing.values())
    rows = [(stage, f"{value:,.1f}", f"{value / total:.0%}" if total else DASH) for stage, value in timing.items()]
    return table("Time by stage.", ("Stage", "Seconds", "Share"), rows, numeric=(1, 2))


def machine_section(view: View) -> Html:
    """The machine and the versions of what ran, nested facts flattened to `versions.torch`."""
    flat: list[tuple[str, str]] = []

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                walk(f"{prefix}.{key}" if prefix else key, item)
        else:
            flat.append((prefix, str(value) if isinstance(value, float) else value_text(value)))

    walk("", view["machine"])
    if not flat:
        return tag("p", "No facts about the machine are recorded.", class_="quiet")
    return table("Machine and versions.", ("Fact", "Value"), flat)
