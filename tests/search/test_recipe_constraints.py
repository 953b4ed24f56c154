import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluators._types import Score
from search._recipe.constraints import Constraint, ConstraintError, margin, parse
from search.statistics.aggregates import Aggregate
from search.statistics.feasible import feasible, margin_errors, margins


def mean(name: str) -> Aggregate:
    return Aggregate("mean", name)


def lowest(name: str) -> Aggregate:
    return Aggregate("min_language", name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("over_refusal >= base - 0.02", Constraint(mean("over_refusal"), ">=", "base", -0.02)),
        ("over_refusal>=base-0.02", Constraint(mean("over_refusal"), ">=", "base", -0.02)),
        ("min_language(general) >= base", Constraint(lowest("general"), ">=", "base", 0.0)),
        ("min_language( general )>=0.5", Constraint(lowest("general"), ">=", None, 0.5)),
        ("harm <= 0.1", Constraint(mean("harm"), "<=", None, 0.1)),
        ("harm <= 1e-1", Constraint(mean("harm"), "<=", None, 0.1)),
        ("mean(x.y-z) <= base + .5", Constraint(mean("x.y-z"), "<=", "base", 0.5)),
        ("x >= -1", Constraint(mean("x"), ">=", None, -1.0)),
        ("x <= base * 1.1", Constraint(mean("x"), "<=", "base", 0.0, 1.1)),
        ("x >= base*0.9-.01", Constraint(mean("x"), ">=", "base", -0.01, 0.9)),
        ("max_language(x) <= base * 1 + 0.02", Constraint(Aggregate("max_language", "x"), "<=", "base", 0.02)),
        ("cvar(x,0.3) >= base", Constraint(Aggregate("cvar", "x", 0.3), ">=", "base", 0.0)),
    ],
)
def test_forms(text: str, expected: Constraint) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("text", "rule", "remedy"),
    [
        ("general", "a constraint compares a score with a bound, once", "write it as"),
        ("0 <= general <= 1", "a constraint compares a score with a bound, once", "write it as"),
        ("general > base", "'>' is not a comparison of constraints", "use >= or <="),
        ("general == base", "'==' is not a comparison of constraints", "use >= or <="),
        ("general >= base - 2%", "cannot read 'base - 2%'", "write a share, such as 0.02 for 2 %"),
        ("0.5 <= general", "cannot read '0.5'", "write it as"),
        ("general >= bas", "'bas' is not a bound", "compare with base or with a number"),
        ("min_languages(general) >= base", "unknown aggregate 'min_languages'", "did you mean 'min_language'?"),
        (
            "cvar(general) >= base",
            "cvar takes an evaluator and a share of the languages above 0 and at most 1",
            "write cvar(general, 0.3)",
        ),
        ("general >= base * -1", "cannot read 'base * -1'", "write it as"),
        ("general >= base * 0", "base * 0 is no bound relative to the base", "compare with a number"),
        ("general >= 1.1 * base", "cannot read '1.1 * base'", "write it as"),
        ("general >= 1e999", "the bound must be finite", "write it as"),
        ("", "a constraint compares a score with a bound, once", "write it as"),
    ],
)
def test_what_is_no_constraint(text: str, rule: str, remedy: str) -> None:
    with pytest.raises(ConstraintError) as caught:
        parse(text)
    assert caught.value.rule == rule
    assert caught.value.remedy.startswith(remedy)


NAMES = st.from_regex(r"\A([0-9]{0,2}z|[A-Za-z_])[A-Za-z0-9_.-]{0,10}\Z")
SCORES = st.one_of(
    st.builds(Aggregate, st.sampled_from(["mean", "min_language", "max_language"]), NAMES),
    st.builds(Aggregate, st.just("cvar"), NAMES, st.floats(0, 1, exclude_min=True)),
)
BOUNDS = st.one_of(
    st.tuples(st.none(), st.floats(allow_nan=False, allow_infinity=False), st.just(1.0)),
    st.tuples(st.just("base"), st.floats(allow_nan=False, allow_infinity=False), st.floats(1e-3, 1e3)),
)
CONSTRAINTS = st.builds(
    lambda score, op, bound: Constraint(score, op, *bound), SCORES, st.sampled_from([">=", "<="]), BOUNDS
)


@given(CONSTRAINTS)
def test_the_text_of_a_constraint_reads_back_as_itself(constraint: Constraint) -> None:
    assert parse(str(constraint)) == constraint


@given(CONSTRAINTS, st.floats(0, 1), st.floats(0, 1), st.floats(0.001, 1))
def test_a_better_value_has_a_smaller_margin(constraint: Constraint, value: float, base: float, gain: float) -> None:
    better = value + gain if constraint.op == ">=" else value - gain
    assert margin(constraint, better, base) <= margin(constraint, value, base)


@pytest.mark.parametrize(
    ("text", "value", "base", "expected"),
    [
        ("x >= base - 0.02", 0.90, 0.95, 0.03),
        ("x >= base - 0.02", 0.96, 0.95, -0.03),
        ("x <= 0.1", 0.3, 0.9, 0.2),
        ("x <= base", 0.3, 0.9, -0.6),
        ("x >= base", 0.7, 0.7, 0.0),
        ("x <= base * 1.1", 0.56, 0.5, 0.01),
        ("x >= base * 0.9 - 0.1", 0.3, 0.5, 0.05),
    ],
)
def test_margins_by_hand(text: str, value: float, base: float, expected: float) -> None:
    assert margin(parse(text), value, base) == pytest.approx(expected, abs=1e-12)


@given(st.integers(0, 1000), st.integers(0, 1000))
def test_a_value_on_the_bound_is_feasible_whatever_rounding_does(base: int, offset: int) -> None:
    constraint = Constraint(mean("x"), ">=", "base", -offset / 1000)
    assert margin(constraint, (base - offset) / 1000, base / 1000) <= 0


def test_aggregates_are_bounded_against_the_same_aggregate_of_the_base() -> None:
    def scores(en: float, hi: float) -> dict[tuple[str, str], Score]:
        both = {"en": Score(en, 0.02, 100), "hi": Score(hi, 0.04, 100)}
        overall = Score((en + hi) / 2, (0.02**2 + 0.04**2) ** 0.5 / 2, 200)
        return {("x", ""): overall, **{("x", language): score for language, score in both.items()}}

    point, base = scores(0.9, 0.4), scores(0.5, 0.5)
    texts = ("x >= base", "min_language(x) >= base - 0.02", "cvar(x, 1.0) >= base", "max_language(x) <= 0.8")
    found = margins([parse(text) for text in texts], point, base)
    assert list(found) == list(texts)
    assert list(found.values()) == pytest.approx([-0.15, 0.08, -0.15, 0.1])
    assert not feasible([parse(texts[1])], point, base)
    assert feasible([parse(texts[0])], point, base)
    errors = margin_errors([parse(text) for text in texts], point)
    assert list(errors.values()) == pytest.approx([0.02236, 0.04, 0.02236, 0.02], rel=0.03)
