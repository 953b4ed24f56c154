"""What the page shows of trainings: curves, costs, what they were trained on, what was tried, what leaked."""

from collections.abc import Mapping, Sequence
from typing import Any

from .rows import DASH, number, value_text
from .tags import Html, join, table, tag

View = Mapping[str, Any]
COSTS = ("trainer", "seconds", "cpu_seconds", "gpu_seconds", "tokens", "flops", "peak_rss_bytes", "peak_device_bytes")


def training_of(history: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Training by model: name, steps and loss (of one length, points without a loss left out), and costs."""
    found = []
    for name, curve in (history.get("training") or {}).items():
        pairs = [
            (step, loss)
            for step, loss in zip(curve.get("steps") or [], curve.get("loss") or [], strict=False)
            if step is not None and loss is not None
        ]
        found.append(
            {
                "name": name,
                "steps": [step for step, _ in pairs],
                "loss": [loss for _, loss in pairs],
                "curves": {
                    key: values
                    for key, values in (curve.get("curves") or {}).items()
                    if len(values) == len(pairs) and all(value is not None for value in values)
                },
                **{key: curve.get(key) for key in COSTS},
            }
        )
    return found


def costs_of(history: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Id of a scored model -> training FLOPs of it and all that it is made of; those that nobody knows left out."""
    spent = history.get("spent") or {}
    found = {row["id"]: spent.get("" if row["kind"] == "merge" else row["id"]) for row in rows}
    return {identity: value for identity, value in found.items() if value is not None}


def section(view: View) -> Html:
    """All tables of the section, those that have something to say."""
    parts = (training_table(view), _matches(view), _tokens(view), _tunings(view), _contamination(view))
    return join(*(part for part in parts if part is not None))


def training_table(view: View) -> Html | None:
    """What each training cost."""
    if not view["training"]:
        return None
    gpus = any(curve["gpu_seconds"] for curve in view["training"])
    rows = []
    for curve in view["training"]:
        cells = [
            curve["name"],
            value_text(curve["trainer"]) if curve["trainer"] else DASH,
            number(curve["steps"][-1]) if curve["steps"] else DASH,
            number(curve["loss"][-1]) if curve["loss"] else DASH,
            number(curve["seconds"]),
            number(curve["cpu_seconds"]),
        ]
        cells += [number(curve["gpu_seconds"])] if gpus else []
        cells += [number(curve["tokens"]), _flops(curve["flops"]), _bytes(curve["peak_rss_bytes"])]
        cells += [_bytes(curve["peak_device_bytes"])] if gpus else []
        rows.append(cells)
    head = ["Model", "Trainer", "Last step", "Last loss", "Seconds", "CPU s", *(["GPU s"] if gpus else [])]
    head += ["Tokens", "FLOPs", "Peak memory", *(["Peak device"] if gpus else [])]
    caption = "Trainings: length and cost. FLOPs are estimated from matrix sizes; memory is that of the largest worker."
    return table(caption, tuple(head), rows, numeric=tuple(range(2, len(head))))


def _matches(view: View) -> Html | None:
    rows = [
        (row["name"], _flops(row["flops"]), _flops(row["experts"]), f"{row['ratio']:.2f}") for row in view["matches"]
    ]
    if not rows:
        return None
    caption = "Matched baselines: training FLOPs with all that they are made of, against the experts of the search."
    return table(caption, ("Baseline", "Its FLOPs", "The experts\u2019", "Ratio"), rows, numeric=(1, 2, 3))


def _tokens(view: View) -> Html | None:
    rows = view["tokens"]
    if not rows:
        return None
    parts = []
    for what, caption in (
        ("data", "Trained tokens by data, with each source\u2019s exact share."),
        ("language", "Trained tokens by language."),
    ):
        mine = [row for row in rows if row["by"] == what]
        names = list(dict.fromkeys(row["name"] for row in mine))
        models = list(dict.fromkeys(row["model"] for row in mine))
        held = {(row["model"], row["name"]): row["tokens"] for row in mine}
        body = []
        for model in models:
            total = sum(held.get((model, name), 0) for name in names)
            cells = [_share(held.get((model, name)), total) for name in names]
            body.append([model, *cells, number(total)])
        if body:
            head = ("Model", *names, "All")
            parts.append(table(caption, head, body, numeric=tuple(range(1, len(head)))))
    return join(*parts)


def _tunings(view: View) -> Html | None:
    parts = []
    for name, tuning in view["tunings"].items():
        settings = list(tuning["space"])
        rows = []
        for trial in tuning["trials"]:
            mark = " (chosen)" if trial["number"] == tuning["best"] else ""
            rungs = ", ".join(f"{value:.4g} at {step}" for step, value in trial["rungs"].items())
            state = trial["state"].lower() + (f": {trial['reason']}" if trial["reason"] else "")
            state += f" (as #{trial['same_as']})" if trial["same_as"] else ""
            settled = [value_text(trial["params"].get(key)) for key in settings]
            rows.append([f"#{trial['number']}{mark}", *settled, number(trial["metric"]), rungs or DASH, state])
        way = "lowest" if tuning["direction"] == "min" else "highest"
        caption = f"Trials of {name}: the {way} {tuning['metric']} was chosen."
        head = ("Trial", *settings, tuning["metric"], "At rungs", "End")
        parts.append(table(caption, head, rows, numeric=tuple(range(1, 2 + len(settings)))))
    return join(*parts) if parts else None


def _contamination(view: View) -> Html | None:
    found = view["contamination"]
    if not found:
        return None
    hits = [row for row in found if row["same"] or row["near"]]
    compared = sum({row["data"]: row["rows"] for row in found}.values())
    if not hits:
        text = f"None of {compared:,} training prompts is an evaluation item, or nearly one."
        return tag("p", text, class_="quiet")
    rows = [
        (r["data"], r["evaluator"], r["split"], number(r["same"]), number(r["near"]), number(r["items"])) for r in hits
    ]
    head = ("Data", "Evaluator", "Split", "Rows that are items", "Nearly", "Items seen in training")
    caption = "Training prompts that are evaluation items, or nearly: scores on these say what was memorised."
    return table(caption, head, rows, numeric=(3, 4, 5))


def _share(count: int | None, total: int) -> str:
    return DASH if not count else f"{count:,} ({count / total:.1%})"


def _flops(value: float | None) -> str:
    return DASH if value is None else f"{value:.2e}"


def _bytes(value: float | None) -> str:
    return DASH if not value else f"{value / 1e9:.2f} GB"
