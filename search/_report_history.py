"""The history of a run as the page draws it: hypervolume by candidate, training curves."""

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def hypervolume_of(
    history: Mapping[str, Any],
    rows: Sequence[Row],
    objectives: Mapping[str, str],
    reference: Mapping[str, float],
) -> list[dict[str, Any]]:
    """Hypervolume after each candidate: of its own search as recorded, and of all models together.

    Args:
        history: holds `points`: `{"id", "method", "seconds", "hypervolume"}` in the order they were scored, where
            hypervolume is that of the candidate's own search; a `joint` beside it is taken as it stands.
        rows: all rows (see `rows_of`), from which the joint value is computed where it is not recorded: on search
            scores, starting from the models that were not merged, feasible rows only.
        objectives: name -> "max" or "min".
        reference: name -> the reference point's coordinate.

    Returns:
        Records with id, method, seconds, hv (own search) and joint; None where unknown.
    """
    points = history.get("points") or []
    if any(point.get("joint") is not None for point in points):
        joint = [point.get("joint") for point in points]
    else:
        joint = _joint([str(point.get("id")) for point in points], rows, objectives, reference)
    return [
        {
            "id": str(point.get("id")),
            "method": point.get("method"),
            "seconds": point.get("seconds"),
            "hv": point.get("hypervolume"),
            "joint": whole,
        }
        for point, whole in zip(points, joint, strict=True)
    ]


def _joint(
    ids: Sequence[str], rows: Sequence[Row], objectives: Mapping[str, str], reference: Mapping[str, float]
) -> list[float | None]:
    if not objectives or any(name not in reference for name in objectives):
        return [None] * len(ids)
    import moocore  # here and not above: the page needs it only for runs that did not record the joint value

    signs = [1.0 if direction == "min" else -1.0 for direction in objectives.values()]
    corner = [sign * reference[name] for sign, name in zip(signs, objectives, strict=True)]

    def vector(row: Row) -> list[float] | None:
        scores = row["search"] or {n: s for n, s in row["scores"].items() if s["split"] == "search"}
        if not row["feasible"] or any(name not in scores for name in objectives):
            return None
        return [sign * scores[name]["v"] for sign, name in zip(signs, objectives, strict=True)]

    by_id = {row["id"]: vector(row) for row in rows}
    best: list[list[float]] = []

    def add(candidate: list[float] | None) -> bool:
        if candidate is None or any(all(o <= c for o, c in zip(old, candidate, strict=True)) for old in best):
            return False
        best[:] = [old for old in best if any(o < c for o, c in zip(old, candidate, strict=True))]
        best.append(candidate)
        return True

    for row in rows:
        if row["kind"] != "merge":
            add(by_id[row["id"]])
    value = float(moocore.hypervolume(best, ref=corner)) if best else 0.0
    result: list[float | None] = []
    for identity in ids:
        if add(by_id.get(identity)):
            value = float(moocore.hypervolume(best, ref=corner))
        result.append(value)
    return result


def training_of(history: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Training by model: name, steps and loss (of one length, points without a loss left out), seconds, tokens."""
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
                "seconds": curve.get("seconds"),
                "tokens": curve.get("tokens"),
            }
        )
    return found
