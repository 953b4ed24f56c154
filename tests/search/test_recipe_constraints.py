import pytest
from hypothesis import given
from hypothesis import strategies as st

from search._recipe.constraints import Constraint, ConstraintError, aggregated, margin, parse


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("over_refusal >= base - 0.02", Constraint("mean", "over_refusal", ">=", "base", -0.02)),
        ("over_refusal>=base-0.02", Constraint("mean", "over_refusal", ">=", "base", -0.02)),
        ("min_language(general) >= base", Constraint("min_language", "general", ">=", "base", 0.0)),
        ("min_language( general )>=0.5", Constraint("min_language", "general", ">=", None, 0.5)),
        ("harm <= 0.1", Constraint("mean", "harm", "<=", None, 0.1)),
        ("harm <= 1e-1", Constraint("mean", "harm", "<=", None, 0.1)),
        ("mean(x.y-z) <= base + .5", Constraint("mean", "x.y-z", "<=", "base", 0.5)),
        ("x >= -1", Constraint("mean", "x", ">=", None, -1.0)),
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
        ("cvar(general) >= base", "not available yet: constraints on cvar", "use min_language(NAME)"),
        ("general >= 1e999", "the bound must be finite", "write it as"),
        ("", "a constraint compares a score with a bound, once", "write it as"),
    ],
)
def test_what_is_no_constraint(text: str, rule: str, remedy: str) -> None:
    with pytest.raises(ConstraintError) as caught:
        parse(text)
    assert caught.value.rule == rule
    assert caught.value.remedy.startswith(remedy)


CONSTRAINTS = st.builds(
    Constraint,
    st.sampled_from(["mean", "min_language"]),
    st.from_regex(r"\A[A-Za-z_][A-Za-z0-9_.-]{0,10}\Z"),
    st.sampled_from([">=", "<="]),
    st.sampled_from([None, "base"]),
    st.floats(allow_nan=False, allow_infinity=False),
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
    ],
)
def test_margins_by_hand(text: str, value: float, base: float, expected: float) -> None:
    assert margin(parse(text), value, base) == pytest.approx(expected, abs=1e-12)


@given(st.integers(0, 1000), st.integers(0, 1000))
def test_a_value_on_the_bound_is_feasible_whatever_rounding_does(base: int, offset: int) -> None:
    constraint = Constraint("mean", "x", ">=", "base", -offset / 1000)
    assert margin(constraint, (base - offset) / 1000, base / 1000) <= 0


def test_the_lowest_language_is_what_min_language_bounds() -> None:
    languages = {"en": 0.9, "hi": 0.4}
    assert aggregated(parse("min_language(x) >= base"), 0.65, languages) == 0.4
    assert aggregated(parse("x >= base"), 0.65, languages) == 0.65
