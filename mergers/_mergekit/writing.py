"""A merge of ours as a file that mergekit 0.1.5 runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from .._errors import InputError
from .._schema import Method, Parameter, load_method
from .._settings import Filters, Gradient, Scalar, Setting
from .._spec import Merge, Value
from .vocabulary import METHODS, base_role, word

_SEED_NOTE = "# mergekit draws its masks from another generator: the same kind of merge, but not the same numbers.\n"
_SAMPLE_NOTE = "# mergekit estimates quartiles of tensors above a million entries from a sample; ours are exact.\n"


def to_mergekit(merge: Merge, base: str | None, experts: Sequence[str], dtype: str) -> dict[str, Any]:
    """A mapping that `mergekit-yaml` runs; its tensors equal ours, except for random masks (see `mergekit_text`).

    Args:
        merge: what was computed.
        base: the base; may be None where the method needs none.
        experts: the experts, in merge order.
        dtype: of the output. The arithmetic stays float32: mergekit would otherwise do it in the inputs' type.

    Raises:
        InputError: mergekit has no such method or parameter; a model occurs twice; the method needs a base and there
            is none.
    """
    if merge.method not in METHODS:
        raise InputError(f"mergekit has no method '{merge.method}'; it can be exported as a checkpoint only")
    merge.check(len(experts))
    method = load_method(merge.method)
    given = dict(merge.params)
    role = base_role(method)
    counts = role == "required" or (role == "optional" and bool(given.get("task_vectors", False)))
    listed = [*experts, base] if counts else list(experts)
    if len(set(listed)) != len(listed):
        raise InputError(f"mergekit merges a model once, got {listed}; remove the repeated one")
    if counts and base is None:
        raise InputError(f"{merge.method} needs a base; give one")
    models: list[dict[str, Any]] = [{"model": expert} for expert in experts]
    shared: dict[str, Any] = {}
    for parameter in method.parameters:
        value = given.get(parameter.name, parameter.default)
        if not _known(method, parameter, value):
            continue
        assert value is not None, parameter  # `Merge.check` was called
        if not parameter.per_expert:
            assert not isinstance(value, tuple), parameter
            shared[word(parameter)] = _plain(parameter, value)
            continue
        each = value if isinstance(value, tuple) else (value,) * len(experts)
        for model, setting in zip(models, each, strict=True):
            model.setdefault("parameters", {})[word(parameter)] = _plain(parameter, setting)
    mapping: dict[str, Any] = {"merge_method": merge.method, "models": models}
    if shared:
        mapping["parameters"] = shared
    if role == "first":
        mapping["base_model"] = experts[0]  # mergekit's t counts from base_model, ours from the first expert
    elif counts:
        mapping["base_model"] = base
    elif base is not None and (merge.method == "linear" or base in experts) and role == "none":
        # mergekit takes configuration and tokenizer from base_model, and to such methods an unlisted one is one more
        # input: at weight 0 it adds nothing. Where there are no weights, any model's configuration must do.
        mapping["base_model"] = base
        if base not in experts:
            models.append({"model": base, "parameters": {"weight": 0.0}})
    return mapping | {"dtype": "float32", "out_dtype": dtype}


def mergekit_text(merge: Merge, base: str | None, experts: Sequence[str], dtype: str) -> str:
    """`to_mergekit` as YAML; comments say where mergekit's numbers differ from ours by chance."""
    mapping = to_mergekit(merge, base, experts, dtype)
    note = _SEED_NOTE + f"# Ours: seed {merge.seed}.\n" if load_method(merge.method).random else ""
    if merge.method == "arcee_fusion":
        note = _SAMPLE_NOTE
    return note + yaml.safe_dump(mapping, sort_keys=False, allow_unicode=True)


def _known(method: Method, parameter: Parameter, value: Value | None) -> bool:
    """Whether mergekit has `parameter`; one that it lacks must be at the value that stands for mergekit's way."""
    if word(parameter) in METHODS[method.name]:
        return True
    if parameter.name != "task_vectors" and value != parameter.default:
        raise InputError(
            f"mergekit's {method.name} has no {parameter.name} {value!r}; it can be exported as a checkpoint only"
        )
    return False


def _plain(parameter: Parameter, setting: Setting) -> Any:
    if isinstance(setting, Gradient):
        return [_scalar(parameter, value) for value in setting.values]
    if isinstance(setting, Filters):
        return [{"filter": part, "value": _plain(parameter, value)} for part, value in setting.rules]
    return _scalar(parameter, setting)


def _scalar(parameter: Parameter, value: Scalar) -> Scalar:
    if parameter.kind == "int":
        return int(value)
    return float(value) if parameter.kind == "float" else value  # numpy's numbers are floats too; YAML knows them not
