"""Merges by value, and the schema that methods' signatures state."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys
from dataclasses import FrozenInstanceError

import pytest

from mergers._errors import InputError
from mergers._schema import Parameter, load_method, method_names
from mergers._spec import Merge, Value, weights


def merge(method: str, **params: Value) -> Merge:
    return Merge(method, tuple(params.items()))


def test_methods_are_the_public_files() -> None:
    names = method_names()
    assert names == tuple(sorted(names))
    assert {"linear", "slerp", "task_arithmetic", "ties", "dare_ties"} <= set(names)
    assert not any(name.startswith("_") for name in names)


def test_schema_of_ties() -> None:
    method = load_method("ties")
    assert (method.needs_base, method.random, method.min_experts, method.max_experts) == (True, False, 1, None)
    inf = math.inf
    assert method.parameters == (
        Parameter("weight", "float", True, -inf, inf, (0.0, 1.0), None, True),
        Parameter("density", "float", True, 0.0, 1.0, (6 / 64, 1.0), 1.0, False, step=1 / 64),
        Parameter("normalize", "bool", False, 0.0, 1.0, None, True, False),
        Parameter("rescale", "bool", False, 0.0, 1.0, None, False, False),
        Parameter("lambda_", "float", False, -inf, inf, None, 1.0, False),
        Parameter("convention", "text", False, 0.0, 0.0, None, "mergekit", False, options=("mergekit", "paper")),
    )
    assert method.plan is not None


def test_schema_of_the_others() -> None:
    slerp, dare, linear = load_method("slerp"), load_method("dare_ties"), load_method("linear")
    assert (slerp.needs_base, slerp.min_experts, slerp.max_experts) == (False, 2, 2)
    assert (dare.needs_base, dare.random) == (True, True)
    assert {p.name: p.default for p in dare.parameters if p.kind == "bool"} == {"normalize": False, "rescale": True}
    assert "draw" not in {parameter.name for parameter in dare.parameters}
    assert [p.divides_by for p in linear.parameters] == [None, "weight"]


def test_a_method_from_outside() -> None:
    method = load_method("mergers.ties:ties")
    assert method.parameters == load_method("ties").parameters
    merge("mergers.ties:ties", weight=1.0).check(3)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("tis", "did you mean 'ties'"),
        ("_merge", "unknown merge method '_merge'"),
        ("", "unknown merge method ''"),
        ("no_such_package.x:f", "No module named"),
        ("mergers.ties:tie", "has no attribute"),
        ("mergers.ties:", "cannot load"),
        (":ties", "cannot load"),
        ("mergers._errors:nearest", "no argument 'experts'"),
        ("tests.mergers.test_spec:unbounded", "'strength' needs bounds"),
    ],
)
def test_unknown_methods_are_refused(name: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        load_method(name)


def unbounded(experts: list[float], *, strength: float) -> float:
    """A method whose parameter states no bounds."""
    return experts[0] * strength


@pytest.mark.parametrize(
    ("given", "experts", "says"),
    [
        (merge("linear", weight=(0.5, 0.5, 0.5)), 2, r"weight needs one value per expert \(2\), got 3"),
        (merge("linear", weight=(1.0, -1.0)), 2, r"divides by the sum of weight, which is 0 .*normalize to false"),
        (merge("linear", weight=0.0), 2, "sum of weight"),
        (merge("linear", weight=(0.1, 0.2, -0.3)), 3, "sum of weight"),
        (merge("task_arithmetic", weight=(1.0, -1.0), normalize=True), 2, "sum of weight"),
        (merge("linear", weight=math.nan), 2, "must be finite, got nan"),
        (merge("linear", weight=(1.0, math.inf)), 2, "must be finite, got inf for expert 2"),
        (merge("linear"), 2, "linear needs parameter 'weight'"),
        (merge("linear", weigth=1.0), 2, "did you mean 'weight'"),
        (merge("linear", weight=1.0), 0, "at least 1 expert"),
        (merge("linear", weight=1.0, normalize=1.0), 2, "must be true or false, got 1.0"),
        (merge("linear", weight=True), 2, "must be a number, got True"),
        (merge("linear", weight="0.5"), 2, "must be a number, got '0.5'"),
        (merge("ties", weight=1.0, density=1.5), 2, r"density must lie in \[0, 1\], got 1.5"),
        (merge("ties", weight=1.0, density=(0.5, -0.1)), 2, r"\[0, 1\], got -0.1 for expert 2"),
        (merge("ties", weight=1.0, lambda_=(1.0, 1.0)), 2, "one value for all experts"),
        (merge("slerp", t=1.01), 2, r"t must lie in \[0, 1\]"),
        (merge("slerp", t=0.5), 3, r"exactly 2 expert\(s\), got 3"),
        (merge("slerp", t=0.5), 1, "exactly 2"),
        (merge("tis", weight=1.0), 2, "unknown merge method"),
    ],
)
def test_bad_merges_are_refused_in_one_line(given: Merge, experts: int, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        given.check(experts)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_status == 2
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is InputError
    assert str(again) == str(caught.value)


@pytest.mark.parametrize(
    ("given", "experts"),
    [
        (merge("linear", weight=(1.0,)), 1),
        (merge("linear", weight=(1.0, -1.0), normalize=False), 2),
        (merge("ties", weight=(1.0, -1.0)), 2),  # divided entry by entry, not by this sum
        (merge("ties", weight=(0.0, 0.0), density=0), 2),
        (merge("task_arithmetic", weight=0.3), 4),
        (merge("slerp", t=0), 2),
        (merge("dare_ties", weight=(0.5, 1), density=(0.1, 1.0)), 2),
    ],
)
def test_good_merges_pass(given: Merge, experts: int) -> None:
    given.check(experts)


def test_merges_compare_by_value() -> None:
    first = Merge("ties", (("weight", (0.5, 0.5)), ("density", 0.3)), 1)
    second = Merge("ties", (("density", 0.3), ("weight", (0.5, 0.5))), 1)
    assert first == second
    assert hash(first) == hash(second)
    assert pickle.loads(pickle.dumps(first)) == first
    assert first != Merge("ties", first.params, 2)
    with pytest.raises(FrozenInstanceError):
        first.seed = 4  # type: ignore[misc]  # that it cannot be set is the test


def test_effective_weights() -> None:
    assert weights(merge("linear", weight=(1.0, 3.0)), 2) == (0.25, 0.75)
    assert weights(merge("linear", weight=(1.0, 3.0), normalize=False), 2) == (1.0, 3.0)
    assert weights(merge("slerp", t=0.25), 2) == (0.75, 0.25)
    assert weights(merge("task_arithmetic", weight=0.5, lambda_=2.0), 3) == (1.0, 1.0, 1.0)
    assert weights(merge("ties", weight=(1.0, 1.0)), 2) == (0.5, 0.5)
    assert weights(merge("dare_ties", weight=(0.7, 0.7)), 2) == (0.7, 0.7)


def test_no_torch_for_names_values_and_headers() -> None:
    code = (
        "import sys, mergers._spec, mergers._schema, mergers._checkpoint.checkpoint, mergers._mergekit;"
        "mergers._schema.method_names(); mergers._spec.Merge('ties', (('weight', 1.0),));"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
