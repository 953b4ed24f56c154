"""A sampler's history: what is told twice is what a resume would be told once."""

from __future__ import annotations

import numpy as np
import pytest
from optuna.distributions import BaseDistribution, FloatDistribution

from search._study.proposals import Asked, Observation, Proposals, Values, proposals
from search.samplers import NAMES, Problem

SPACE: dict[str, BaseDistribution] = {name: FloatDistribution(0.0, 1.0) for name in "abc"}
PROBLEM = Problem(3, ("max", "min"), reference=(0.0, 2.0))
QUICK = tuple(name for name in NAMES if name != "gp")  # Optuna's GP takes seconds a point


def told(stderr: float, shift: float = 0.0) -> list[tuple[Values, Observation]]:
    rows = []
    for x in np.random.default_rng(4).random((24, 3)):
        values = (float(x[0] - x[1] ** 2) + shift, float(x[0] ** 2 + abs(x[2] - 0.3)))
        rows.append((dict(zip("abc", map(float, x), strict=True)), Observation(values, (stderr, stderr), {})))
    return rows


def next_points(made: Proposals) -> list[Values]:
    found = [made.propose(lambda _: False) for _ in range(2)]
    return [asked.values for asked in found if asked is not None]


@pytest.mark.parametrize("name", QUICK)
def test_a_revised_point_is_as_if_it_had_been_told_once(name: str) -> None:
    first, second = proposals(name, PROBLEM, SPACE, 3), proposals(name, PROBLEM, SPACE, 3)
    part, full = told(0.05, shift=0.3), told(0.01)
    for number, (values, observation) in enumerate(part):
        first.enter(values, observation)
        second.enter(values, full[number][1] if number in (2, 20) else None if number == 7 else observation)
    for number in (20, 2):
        first.revise(Asked(number, full[number][0]), full[number][1])
    first.revise(Asked(7, part[7][0]), None)  # the rest of its items could not be scored
    found = next_points(first)
    assert len(found) == 2
    assert found == next_points(second)


def test_what_is_under_way_stays_so_when_another_point_is_revised() -> None:
    for name in ("random", "tpe"):
        made = proposals(name, PROBLEM, SPACE, 3)
        rows = told(0.05)
        for values, observation in rows[:12]:
            made.enter(values, observation)
        asked = made.propose(lambda _: False)
        assert asked is not None
        made.revise(Asked(3, rows[3][0]), rows[3][1])
        made.tell(asked, rows[13][1])
        again = made.propose(lambda _: False)
        assert again is not None
        assert again.number == asked.number + 1
