"""The `search` section of a recipe: what is searched, and what for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, PlainValidator, ValidationInfo

from search._recipe import constraints
from search._recipe.constraints import Constraint, ConstraintError
from search._recipe.fields import (
    as_list,
    at_least_one,
    number,
    one_of,
    plugin,
    reference,
    refusal,
    tuple_of,
    whole,
)
from search._recipe.layer_groups import LayerGroups, as_layer_groups
from search._recipe.models import Section
from search._recipe.stop import StopSpec
from search.errors import suggestion
from search.statistics import aggregates


def _constraint(value: Any, info: ValidationInfo) -> Constraint:
    if isinstance(value, Constraint):
        return value
    if not isinstance(value, str):
        raise refusal("a constraint is text", constraints.EXAMPLE)
    try:
        constraint = constraints.parse(value)
    except ConstraintError as error:
        raise refusal(error.rule, error.remedy) from None
    _known(constraint.score.evaluator, info)
    return constraint


def _known(evaluator: str, info: ValidationInfo) -> None:
    known = (info.context or {}).get("evaluators")
    if known is not None and evaluator not in known:
        raise refusal(f"unknown evaluator '{evaluator}'", suggestion(evaluator, known))


def _objective(value: Any, info: ValidationInfo) -> str:
    """The canonical text of an aggregate; the name of an evaluator stands for the mean over all items."""
    known = (info.context or {}).get("evaluators")
    text = str(value)
    if known is None:
        return aggregates.canonical(text)
    if "(" not in text and text not in known:
        raise refusal("unknown evaluator", suggestion(text, known))
    try:
        found = aggregates.parse(text)
    except aggregates.AggregateError as error:
        raise refusal(error.rule, error.remedy, value=None) from None
    _known(found.evaluator, info)
    return str(found)


def _read_whole(value: Any) -> Any:
    """Refuse objectives that YAML cut in two, and two texts of one objective."""
    texts = [str(name) for name in value] if isinstance(value, dict) else []
    cut = next((text for text in texts if text.count("(") > text.count(")")), None)
    if cut is not None:
        raise refusal(f"cannot read '{cut}'", aggregates.QUOTED, value=None)
    names = [aggregates.canonical(text) for text in texts]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise refusal(f"{twice} is an objective twice", "keep one", value=None)
    return value


def _worst_is_worst(value: Mapping[str, str]) -> Mapping[str, str]:
    """The worst language of a score to minimise is the one with the highest."""
    for name, way in value.items():
        kind = name.partition("(")[0]
        if "(" in name and (kind, way) in (("min_language", "min"), ("max_language", "max")):
            other = "max_language" if way == "min" else "min_language"
            rule = f"{kind} is the best language of a score to {'minimise' if way == 'min' else 'maximise'}"
            raise refusal(rule, f"write {other}(...) for the worst", value=f"{name}: {way}")
    return value


def _stages(value: tuple[float, ...]) -> tuple[float, ...]:
    if list(value) != sorted(set(value)) or value[-1:] != (1.0,):
        raise refusal("stages must rise and end with 1.0", "write stages: [0.25, 1.0], or [1.0] for no race")
    return value


class SearchSpec(Section):
    """What is searched, and what for.

    Attributes:
        experts: names of experts, in the order that parameters refer to; default: all of them.
        methods: files of `mergers/`, or "package.module:function"; one Optuna study each.
        coefficients: "free" = one number per expert within the method's bounds; "simplex" = not negative, sum 1;
            "factorized" = as free, each the product of a number of the expert's objective and one of its language.
        layer_groups: which tensors have coefficients of their own; 1 = one set for the whole model.
        objectives: evaluator, or aggregate over its languages (`search.statistics.aggregates`) -> "max" or "min".
        constraints: what a point must meet to be on the front.
        sampler: file of `search/samplers/`, or "package.module:function".
        candidates: merges to score, over all methods; the base, experts and baselines come on top.
        scheduler: "asha" = methods whose hypervolume lags are stopped at 4, 8, 16, .. of their merges, and the others
            have the rest (`search.racing.method_race`); "fair" = equal shares.
        stop: further limits, see `StopSpec`; whichever comes first.
        stages: shares of the items; [1.0] = every candidate is scored on all of them. With more, such as [0.2, 1.0], a
            candidate that is clearly dominated or infeasible after a share is dropped (`racing.race`), and the last
            share is scored of those alone that are expected to add to the front (`search.racing.finals`).
        drop_above: probability of being dominated or infeasible from which a stage drops a candidate.
    """

    experts: Annotated[tuple[Annotated[str, reference("experts", "expert")], ...], tuple_of()] = ()
    methods: Annotated[tuple[Annotated[str, plugin("mergers")], ...], tuple_of()]
    coefficients: Annotated[Literal["free", "simplex", "factorized"], one_of("free", "simplex", "factorized")] = "free"
    layer_groups: Annotated[LayerGroups, BeforeValidator(as_layer_groups)] = LayerGroups(groups=1)
    objectives: Annotated[
        Mapping[
            Annotated[str, BeforeValidator(_objective)],
            Annotated[Literal["max", "min"], one_of("max", "min")],
        ],
        BeforeValidator(_read_whole),
        AfterValidator(at_least_one),
        AfterValidator(_worst_is_worst),
    ]
    constraints: Annotated[
        tuple[Annotated[Constraint, PlainValidator(_constraint), PlainSerializer(str)], ...],
        BeforeValidator(as_list),
    ] = ()
    sampler: Annotated[str, plugin("search.samplers")] = "auto"
    candidates: Annotated[int, whole(1, 10**6, "write a number of merges such as 96")] = 96
    scheduler: Annotated[Literal["asha", "fair"], one_of("asha", "fair")] = "asha"
    stop: StopSpec = Field(default_factory=StopSpec)
    stages: Annotated[tuple[Annotated[float, number(0, 1, open_low=True)], ...], AfterValidator(_stages)] = (1.0,)
    drop_above: Annotated[float, number(0.5, 1, "write a probability such as 0.9")] = 0.9
