from __future__ import annotations

from importlib import resources

import numpy as np

from evaluators._types import Item
from search.scoring.objective import AS_IT_IS, Grader, Job, ScorerFactory

SUMS = {
    "2 + 1": "3",
    "5 + 3": "8",
    "9 + 4": "13",
    "8 + 4": "12",
    "6 + 8": "14",
    "9 + 3": "12",
    "6 + 7": "13",
    "9 + 0": "9",
}


def test_a_job_scores_the_items_that_it_names_and_they_score_what_they_score_among_all() -> None:
    base = str(resources.files("search.demo") / "base")
    items = tuple(
        Item(f"{split}{i}", prompt, answer, "en", f"g{i}", "", split)
        for split in ("search", "report")
        for i, (prompt, answer) in enumerate(SUMS.items())
    )
    graders = tuple(Grader(name, "exact_match", (), items) for name in ("a", "b"))
    score = ScorerFactory(base, graders, "float32")()
    answer = score(Job(AS_IT_IS, (base,), "search"))
    every = answer.results
    assert {name: row.shape for name, row in every.items()} == {"a": (8,), "b": (8,)}
    some = score(Job(AS_IT_IS, (base,), "search", (("a", 2, 5), ("b", 8, 8)))).results
    np.testing.assert_array_equal(some["a"], every["a"][2:5])
    assert some["b"].shape == (0,)
    # Every item is scored by two evaluators; what one item costs does not depend on the others.
    alone = [score(Job(AS_IT_IS, (base,), "search", (("a", i, i + 1),))).tokens for i in range(len(SUMS))]
    assert answer.tokens == 2 * sum(alone)
    assert min(alone) >= 5
    assert list(score(Job(AS_IT_IS, (base,), "search", (("b", 0, 1),))).results) == ["b"]
