"""The history of a run as the page draws it: hypervolume by candidate, training curves."""

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def hypervolume_of(
    history: Mapping[str, Any], rows: Sequence[Row], objectives: Mapping[str, str], reference: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Hypervolume after each candidate: of all models together as recorded, and of the candidate's own search.

    Args:
        history: holds `points`: `{"id", "method", "seconds", "hypervolume"}` in the order they were scored, where
            hypervolume is that of everything scored by then.
        rows: all rows (see `rows_of`), from whose search scores that of the merges of one method alone is computed.
        objectives: name -> "max" or "min".
        reference: name -> the reference point's coordinate.

    Returns:
        Records with id, method, seconds, joint (all models) and own (the feasible merges of this method so far);
        None where unknown.
    """
    points = history.get("points") or []
    own = _own([(str(point.get("id")), str(point.get("method"))) for point in points], rows, objectives, reference)
    return [
        {
            "id": str(point.get("id")),
            "method": point.get("method"),
            "seconds": point.get("seconds"),
            "joint": point.get("hypervolume"),
            "own": value,
        }
        for point, value in zip(points, own, strict=True)
    ]


def _own(
    scored: Sequence[tuple[str, str]],
    rows: Sequence[Row],
    objectives: Mapping[str, str],
    reference: Mapping[str, float],
) -> list[float | None]:
    if not objectives or any(name not in reference for name in objectives):
        return [None] * len(scored)
    import moocore  # here and not above: the page needs it for this figure only

    signs = [1.0 if direction == "min" else -1.0 for direction in objectives.values()]
    corner = [sign * reference[name] for sign, name in zip(signs, objectives, strict=True)]

    def vector(row: Row) -> list[float] | None:
        scores = row["search"] or {n: s for n, s in row["scores"].items() if s["split"] == "search"}
        if not row["feasible"] or any(name not in scores for name in objectives):
            return None
        return [sign * scores[name]["v"] for sign, name in zip(signs, objectives, strict=True)]

    vectors = {row["id"]: vector(row) for row in rows}
    best: dict[str, list[list[float]]] = {}
    volume: dict[str, float] = {}
    result: list[float | None] = []
    for identity, method in scored:
        found, kept = vectors.get(identity), best.setdefault(method, [])
        # Only a point that no earlier one covers changes the volume: most candidates cost one comparison.
        if found is not None and not any(all(o <= f for o, f in zip(old, found, strict=True)) for old in kept):
            kept[:] = [*(old for old in kept if any(o < f for o, f in zip(old, found, strict=True))), found]
            volume[method] = float(moocore.hypervolume(kept, ref=corner))
        result.append(volume.get(method, 0.0))
    return result
