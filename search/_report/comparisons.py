"""Many comparisons at once: what remains of the differences between front merges and unmerged models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import NormalDist

from evaluators._stats import holm

from .tags import Html, tag
from .verdict import BOUND, Paired, Row, difference, shared_split

ALPHA = 0.05


def comparisons_note(rows: Sequence[Row], objectives: Mapping[str, str], paired: Paired) -> Html | None:
    """How many differences lie outside the bound, how many would by chance alone, how many survive Holm's correction.

    Args:
        rows: see `rows_of`.
        objectives: name -> "max" or "min".
        paired: see `verdict.paired_of`.
    """
    merges = [row for row in rows if row["kind"] == "merge" and row["feasible"] and row["front"]]
    others = [row for row in rows if row["kind"] != "merge"]
    chances = []
    for merge in merges:
        for other in others:
            split = shared_split(merge, other, tuple(objectives))
            if split is None:
                continue
            for name in objectives:
                value, stderr = difference(merge, other, name, split, paired)
                if stderr is not None and stderr > 0:
                    chances.append(2 * NormalDist().cdf(-abs(value) / stderr))
    if len(chances) < 2:
        return None
    beyond = 2 * NormalDist().cdf(-BOUND)
    outside = sum(chance < beyond for chance in chances)
    kept = sum(chance <= ALPHA for chance in holm(chances))
    text = (
        f"These are {len(chances)} differences, {outside} of them outside {BOUND:g} standard errors. If no two models "
        f"differed, about {len(chances) * beyond:.1f} would be outside by chance. Corrected for their number (Holm), "
        f"{kept} remain at {ALPHA:.0%}."
    )
    return tag("p", text, class_="quiet", id="comparisons")
