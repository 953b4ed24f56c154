"""The `search` section of a recipe: what is searched, and what for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, PlainValidator, ValidationInfo

from search._recipe import constraints
from search._recipe.constraints import Constraint, ConstraintError
from search._recipe.fields import (
    as_list,
    at_least_one,
    not_yet,
    number,
    one_of,
    plugin,
    reference,
    refusal,
    tuple_of,
    whole,
    whole_number,
)
from search._recipe.models import Section
from search.errors import suggestion


def _constraint(value: Any, info: ValidationInfo) -> Constraint:
    if isinstance(value, Constraint):
        return value
    if not isinstance(value, str):
        raise refusal("a constraint is text", constraints.EXAMPLE)
    try:
        constraint = constraints.parse(value)
    except ConstraintError as error:
        raise refusal(error.rule, error.remedy) from None
    known = (info.context or {}).get("evaluators")
    if known is not None and constraint.evaluator not in known:
        raise refusal(f"unknown evaluator '{constraint.evaluator}'", suggestion(constraint.evaluator, known))
    return constraint


def _objective(value: Any) -> str:
    text = str(value)
    if "(" in text:
        raise not_yet("objectives over aggregates", "name an evaluator; bound an aggregate with a constraint")
    return text


def _layer_groups(value: Any) -> Any:
    if isinstance(value, (list, dict)) and value:
        raise not_yet("named layer groups", "write layer_groups: 1")
    whole_number(value, 1, None, "write layer_groups: 1")
    if value != 1:
        raise not_yet("several layer groups", "write layer_groups: 1")
    return value


def _stages(value: tuple[float, ...]) -> tuple[float, ...]:
    if list(value) != sorted(set(value)) or value[-1:] != (1.0,):
        raise refusal("stages must rise and end with 1.0", "write stages: [1.0]")
    if value != (1.0,):
        raise not_yet("several stages", "write stages: [1.0]")
    return value


class SearchSpec(Section):
    """What is searched, and what for.

    Attributes:
        experts: names of experts, in the order that parameters refer to; default: all of them.
        methods: files of `mergers/`, or "package.module:function"; one Optuna study each.
        coefficients: "free" = one number per expert within the method's bounds; "simplex" = not negative, sum 1.
        layer_groups: 1 = one set of coefficients for the whole model.
        objectives: evaluator -> "max" or "min".
        constraints: what a point must meet to be on the front.
        sampler: how candidates are proposed; "auto" lets the product choose.
        candidates: merges to score, over all methods; the base, experts and baselines come on top.
        stages: shares of the items; 1.0 = every candidate is scored on all of them.
    """

    experts: Annotated[tuple[Annotated[str, reference("experts", "expert")], ...], tuple_of()] = ()
    methods: Annotated[tuple[Annotated[str, plugin("mergers")], ...], tuple_of()]
    coefficients: Annotated[
        Literal["free", "simplex"],
        one_of("free", "simplex", later=("factorized",), what="coefficients:"),
    ] = "free"
    layer_groups: Annotated[int, BeforeValidator(_layer_groups)] = 1
    objectives: Annotated[
        Mapping[
            Annotated[str, BeforeValidator(_objective), reference("evaluators", "evaluator")],
            Annotated[Literal["max", "min"], one_of("max", "min")],
        ],
        AfterValidator(at_least_one),
    ]
    constraints: Annotated[
        tuple[Annotated[Constraint, PlainValidator(_constraint), PlainSerializer(str)], ...],
        BeforeValidator(as_list),
    ] = ()
    sampler: Annotated[
        Literal["auto", "tpe", "nsga2", "random", "qmc", "gp"],
        one_of(
            *("auto", "tpe", "nsga2", "random", "qmc", "gp"),
            later=("nsga3", "cmaes", "map"),
            later_pattern=r"[\w.]+:\w+",
            what="sampler",
        ),
    ] = "auto"
    candidates: Annotated[int, whole(1, 10**6, "write a number of merges such as 96")] = 96
    stages: Annotated[tuple[Annotated[float, number(0, 1, open_low=True)], ...], AfterValidator(_stages)] = (1.0,)
