"""What a tuned training tries next, who lags and who is best, as functions of the events alone."""

from typing import Any

import pytest

from search._training.model import Tuning
from search._training.tuner import Trial, ask, best_of, lags, trials_of, twin
from search._training.worker import rungs_of

SPACE = (
    ("learning_rate", ("range", (1e-5, 1e-3, True))),
    ("batch", ("choices", (8, 16))),
    ("lora.r", ("whole", (2, 8, False))),
)
TUNING = Tuning(SPACE, 12, True, "loss", "min", 0, 0.1, False)


def event(number: int, **detail: Any) -> dict[str, Any]:
    return {"expert": "abc", "number": number, **detail}


EVENTS = [
    event(1, state="RUNNING", params={"learning_rate": 1e-4, "batch": 8, "lora.r": 4}),
    {**event(1, state="RUNNING", params={}), "expert": "another"},
    event(2, state="RUNNING", params={"learning_rate": 2e-4, "batch": 16, "lora.r": 2}),
    event(1, rung=4, metric=2.5),
    event(2, rung=4, metric=2.7),
    event(2, state="STOPPED", reason="lagged at step 4", seconds=3.0),
    event(1, state="COMPLETE", metric=1.9, reason="", seconds=9.0),
    event(3, state="RUNNING", params={"learning_rate": 9e-4, "batch": 8, "lora.r": 8}),
    event(3, state="FAILED", reason="TrainingError: the loss is nan", seconds=1.0),
    event(4, state="RUNNING", params={"learning_rate": 3e-4, "batch": 8, "lora.r": 3}),
]


def test_trials_are_read_from_their_events() -> None:
    found = trials_of(EVENTS, "abc")
    assert [trial.state for trial in found] == ["COMPLETE", "STOPPED", "FAILED", "RUNNING"]
    assert (found[0].metric, found[0].rungs, found[0].seconds) == (1.9, {4: 2.5}, 9.0)
    assert (found[1].metric, found[1].reason) == (None, "lagged at step 4")
    assert found[2].reason == "TrainingError: the loss is nan"


def test_the_next_settings_are_in_the_space_and_a_function_of_the_events() -> None:
    known = trials_of(EVENTS, "abc")
    asked = ask(TUNING, known, 0, "safety")
    assert 1e-5 <= asked["learning_rate"] <= 1e-3
    assert asked["batch"] in (8, 16)
    assert isinstance(asked["lora.r"], int)
    assert 2 <= asked["lora.r"] <= 8
    assert ask(TUNING, trials_of(EVENTS, "abc"), 0, "safety") == asked
    assert ask(TUNING, known, 1, "safety") != asked
    assert ask(TUNING, known, 0, "general") != asked


@pytest.mark.parametrize(("direction", "side"), [("max", 1e-4), ("min", 1e-3)])
def test_it_goes_where_trials_were_good(direction: Any, side: float) -> None:
    """The metric is the rate: a search for the highest ends at the upper end, one for the lowest at the lower."""
    space = (("learning_rate", ("range", (1e-5, 1e-2, True))),)
    tuning = Tuning(space, 40, False, "safety", direction, 0, 0.0, False)
    known: list[Trial] = []
    for number in range(1, 21):
        params = ask(tuning, known, 7, "x")
        known.append(Trial(number, params, "COMPLETE", metric=params["learning_rate"]))
    late = [trial.params["learning_rate"] for trial in known[12:]]
    above = sum(rate > side for rate in late)
    assert above >= 6 if direction == "max" else above <= 2


def test_the_better_half_of_those_that_came_to_a_rung_goes_on() -> None:
    places = {number: {4: 0, 8: 1} for number in range(1, 5)}

    def lagging(number: int, values: dict[int, float], tuning: Tuning = TUNING) -> bool:
        return lags(tuning, [Trial(n, {}, rungs={4: value}) for n, value in values.items()], number, places)

    assert not lagging(1, {1: 2.5}), "nobody to compare with"
    assert lagging(2, {1: 2.5, 2: 2.7})
    assert not lagging(2, {1: 2.5, 2: 2.3})
    assert not lagging(3, {1: 2.5, 2: 2.7, 3: 2.6}), "second of three"
    assert lagging(3, {1: 2.5, 2: 2.7, 3: 2.9})
    higher = Tuning(SPACE, 12, True, "safety", "max", 0, 0.0, False)
    assert not lagging(2, {1: 2.5, 2: 2.7}, higher)
    fifo = Tuning(SPACE, 12, False, "loss", "min", 0, 0.1, False)
    assert not lagging(2, {1: 2.5, 2: 2.7}, fifo)


def test_rungs_of_trials_with_other_numbers_of_steps_are_compared_by_place() -> None:
    trials = [Trial(1, {}, rungs={4: 2.0}), Trial(2, {}, rungs={8: 2.1, 16: 1.5}), Trial(3, {}, rungs={2: 2.2})]
    places = {1: {4: 0, 8: 1}, 2: {8: 0, 16: 1}, 3: {2: 0, 4: 1}}
    assert not lags(TUNING, trials, 2, places), "alone at its second rung"
    assert lags(TUNING, trials, 3, places)


def test_rungs() -> None:
    assert rungs_of(100) == (25, 50)
    assert rungs_of(3) == (1, 2)
    assert rungs_of(2) == (1,)
    assert rungs_of(1) == ()


def test_the_best_is_complete_and_trained() -> None:
    known = [
        Trial(1, {}, "STOPPED", rungs={4: 0.1}),
        Trial(2, {}, "COMPLETE", metric=1.5),
        Trial(3, {}, "COMPLETE", metric=1.4),
        Trial(4, {}, "COMPLETE", metric=1.4, same_as=3),
        Trial(5, {}, "FAILED", reason="x"),
    ]
    found = best_of(TUNING, known)
    assert found is not None
    assert found.number == 3
    assert best_of(TUNING, known[:1]) is None


def test_settings_that_were_tried_are_known() -> None:
    known = trials_of(EVENTS, "abc")
    again = twin(known, {"learning_rate": 1e-4, "batch": 8, "lora.r": 4})
    assert again is not None
    assert again.number == 1
    assert twin(known, {"learning_rate": 3e-4, "batch": 8, "lora.r": 3}) is None, "still under way"
