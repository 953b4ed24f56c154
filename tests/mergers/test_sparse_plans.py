"""The plans of the task-vector methods say the same merges as their references, and what those refuse they refuse."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mergers._errors import InputError
from mergers._execution.statistics import Statistics
from mergers._maths.draw import Draw
from mergers._plan import Band, Blocks, Everything, Nothing, Plan, Random, Ranked, Sparse
from tests.mergers.strategies import Case
from tests.mergers.test_oracle_sparse import (
    CONVENTIONS,
    ELECTING,
    EXAMPLES,
    FUNCTIONS,
    PAPER,
    RANDOM,
    clear,
    close,
    deltas,
    parameters,
    problems,
    sparsified,
)
from tests.oracles import plans, sparse

DRAW = Draw(3, "w")


def planned(
    method: str, shape: tuple[int, ...], vectors: Sequence[Sequence[float]], keywords: dict[str, Any]
) -> Plan | None:
    """The plan of `method`; it asks slow answers in place of the measured ones."""
    questions = cast(Statistics, plans.Answers(vectors, shape))
    defaults = {"convention": "mergekit"} if method in PAPER else {}
    drawn = {"draw": DRAW} if method in RANDOM else {}
    plan: Plan | None = importlib.import_module(f"mergers.{method}").plan(questions, **defaults | keywords | drawn)
    return plan


@pytest.mark.parametrize(("method", "convention"), CONVENTIONS)
@EXAMPLES
@given(data=st.data())
def test_a_plan_is_the_reference(method: str, convention: str, data: st.DataObject) -> None:
    case, setting = data.draw(problems(method, st.just(torch.float64)))
    paper = convention == "paper"
    keywords = parameters(method, case, setting) | ({"convention": "paper"} if paper else {})
    drawn = {"draw": DRAW} if method in RANDOM else {}
    reference = FUNCTIONS[method](case.base, case.experts, **keywords, **drawn)
    plan = planned(method, tuple(case.base.shape), deltas(case), keywords)
    if plan is None:
        assert method.startswith("della")
        assert case.base.ndim > 2
    elif isinstance(plan, Blocks):
        assert torch.equal(by_rows(plan, case, data.draw(st.integers(1, 5))), reference)
    else:
        assert isinstance(plan, Sparse)
        masks, factors = sparsified(
            method, case, setting, lambda i, j: sparse.bits(DRAW.seed, DRAW.name, i, j), paper=paper
        )
        where = torch.ones_like(case.base, dtype=torch.bool)
        if method in ELECTING:
            kept = [
                [d * f * m for d, f, m in zip(*rows, strict=True)]
                for rows in zip(deltas(case), factors, masks, strict=True)
            ]
            where = clear(case, kept, (1.0,) * len(kept) if paper else case.weight)
        base, *experts = (tensor.flatten().tolist() for tensor in (case.base, *case.experts))
        result = torch.tensor(plans.run(plan, base, experts, case.base.shape), dtype=torch.float64)
        close(result.view(case.base.shape), reference, case.tolerance, where)


def by_rows(plan: Blocks, case: Case, rows: int) -> Tensor:
    """Carried out on stretches of `rows` rows, as the caller would."""
    assert plan.whole_rows
    columns = case.base.shape[-1]
    base, *experts = (tensor.view(-1, columns) for tensor in (case.base, *case.experts))
    pieces = [
        plan.apply(base[i : i + rows], [expert[i : i + rows] for expert in experts], i * columns)
        for i in range(0, base.shape[0], rows)
    ]
    return torch.cat(pieces).view(case.base.shape)


def defaults(method: str, density: float) -> dict[str, Any]:
    found: dict[str, Any] = {"weight": (1.0,), "normalize": False, "lambda_": 1.0}
    if method != "task_arithmetic":
        found |= {"density": (density,), "rescale": False}
    if method.startswith("breadcrumbs"):
        found["gamma"] = (0.25,)
    if method.startswith("della"):
        found["epsilon"] = (0.15,)
    return found


def test_masks_are_as_simple_as_they_can_be() -> None:
    """A search meets densities 0 and 1 often: they must cost nothing."""
    delta = [(1.0, -4.0, 3.0, 2.0)]
    for method in FUNCTIONS:
        whole = planned(method, (4,), delta, defaults(method, 1.0))
        assert isinstance(whole, Sparse)
        assert whole.masks == (Everything(),)
        if method != "task_arithmetic":
            nothing = planned(method, (4,), delta, defaults(method, 0.0))
            assert isinstance(nothing, Sparse)
            assert nothing.masks == (Nothing(),)
    kinds = {"ties": Band, "breadcrumbs": Band, "dare_linear": Random, "della": Ranked}
    for method, kind in kinds.items():
        some = planned(method, (4,), delta, defaults(method, 0.5))
        assert isinstance(some, Sparse)
        assert [type(mask) for mask in some.masks] == [kind]


@pytest.mark.parametrize("method", ["della", "della_linear"])
@pytest.mark.parametrize("density", [0.9, 0.1, 0.85, 0.15])
def test_probabilities_outside_the_unit_interval_are_refused(method: str, density: float) -> None:
    keywords = defaults(method, density)
    refusal = rf"between 0 and 1, got {density:g} and 0\.15; choose an epsilon below {min(density, 1 - density):g}, or"
    tensor = torch.ones(4)
    with pytest.raises(InputError, match=refusal):
        FUNCTIONS[method](tensor, [tensor], **keywords, draw=DRAW)
    with pytest.raises(InputError, match=refusal):
        planned(method, (4,), [(1.0, 2.0, 3.0, 4.0)], keywords)
