"""Stated 95 % intervals of aggregates over languages, in simulation."""

from __future__ import annotations

import numpy as np
import pytest

from evaluators._stats import score_of, student
from search.statistics.aggregates import parse, score

LANGUAGES = ("en", "hi", "ar", "fr", "es", "ru")
RATES = np.array([0.9, 0.45, 0.6, 0.85, 0.8, 0.7])
GROUPS = 60


@pytest.mark.parametrize("text", ["cvar(g, 1.0)", "cvar(g, 0.5)", "min_language(g)"])
def test_intervals_over_languages_cover(text: str) -> None:
    aggregate = parse(text)
    worst = np.sort(RATES)
    truth = {"cvar(g, 1.0)": RATES.mean(), "cvar(g, 0.5)": worst[:3].mean(), "min_language(g)": worst[0]}[text]
    draw = np.random.default_rng(5)
    runs = hit = 0
    half = student(0.975, GROUPS - 1)
    names = [str(group) for group in range(GROUPS)]
    for _ in range(800):
        # A template in six languages: an easy one is easy in all of them.
        easy = draw.normal(0, 0.04, (GROUPS, 1))
        chance = np.clip(RATES + easy, 0, 1)
        values = draw.binomial(1, chance).astype(float)
        scores = {("g", language): score_of(values[:, place], names) for place, language in enumerate(LANGUAGES)}
        scores["g", ""] = score_of(values.ravel(), np.repeat(names, len(LANGUAGES)).tolist())
        found = score(aggregate, scores, True)
        hit += abs(found.value - truth) <= half * found.stderr
        runs += 1
    assert 0.93 <= hit / runs <= 0.97
