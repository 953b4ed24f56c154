from __future__ import annotations

from search.statistics.repeats import FEW, deserving


def test_the_front_comes_first_then_the_likeliest_others_at_most_as_many_again() -> None:
    shown = [True, False, False, True, False, False]
    chance = [0.1, 0.5, 0.29, 1.0, 0.9, 0.5]
    assert deserving(shown, chance) == (0, 3, 4, 1, 5), "a few, however small the front is"
    many = deserving([True] * (FEW + 1) + [False] * 40, [1.0] * (FEW + 41))
    assert len(many) == 2 * (FEW + 1), "then as many as the front holds"
    assert deserving([True, False, False], [1.0, 0.0, 0.1]) == (0,)
    assert deserving([False, False], [0.9, 0.9]) == (), "no front, nothing to confirm"
