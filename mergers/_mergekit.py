"""mergekit's YAML, both ways: a merge as a file that mergekit 0.1.5 runs, and such a file as a merge.

Imports no torch until a method is looked up.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from ._errors import InputError, nearest
from ._schema import Method, load_method
from ._spec import Merge, Value
from ._types import per_expert

METHODS = ("linear", "slerp", "task_arithmetic", "ties", "dare_ties")
"""Methods that mergekit has under the same name and in the same convention."""

_SEED_NOTE = "# mergekit draws its masks from another generator: the same kind of merge, but not the same numbers.\n"
_KEYS = ("merge_method", "models", "base_model", "parameters", "dtype", "out_dtype", "tokenizer_source")
_LATER = ("slices", "modules", "tokenizer", "chat_template")
_IGNORED = {"int8_mask": METHODS, "density": ("task_arithmetic",)}  # accepted by mergekit, without effect on results


@dataclass(frozen=True)
class MergeFile:
    """What a mergekit file asks for.

    Attributes:
        merge: method and parameters, per-expert values in the order of `experts`.
        base: model that configuration and tokenizer come from, and that methods with a base count from.
        experts: models, in merge order.
        dtype: type of the output; None: that of the base. The arithmetic is float32 whatever the file says.
    """

    merge: Merge
    base: str
    experts: tuple[str, ...]
    dtype: str | None


def to_mergekit(merge: Merge, base: str | None, experts: Sequence[str], dtype: str) -> dict[str, Any]:
    """A mapping that `mergekit-yaml` runs; its tensors equal ours, except for random masks (see `mergekit_text`).

    Args:
        merge: what was computed.
        base: the base; may be None where the method needs none.
        experts: the experts, in merge order.
        dtype: of the output. The arithmetic stays float32: mergekit would otherwise do it in the inputs' type.

    Raises:
        InputError: mergekit has no such method; a model occurs twice; the method needs a base and there is none.
    """
    if merge.method not in METHODS:
        raise InputError(f"mergekit has no method '{merge.method}'; it can be exported as a checkpoint only")
    merge.check(len(experts))
    method = load_method(merge.method)
    counted = [*experts, base] if method.needs_base else list(experts)
    if len(set(counted)) != len(counted):
        raise InputError(f"mergekit merges a model once, got {counted}; remove the repeated one")
    if method.needs_base and base is None:
        raise InputError(f"{merge.method} needs a base; give one")
    models: list[dict[str, Any]] = [{"model": expert} for expert in experts]
    shared: dict[str, Any] = {}
    given = dict(merge.params)
    for parameter in method.parameters:
        value = given.get(parameter.name, parameter.default)
        name = parameter.name.rstrip("_")
        if parameter.per_expert:
            assert value is not None, parameter
            for model, number in zip(models, per_expert(value, len(experts)), strict=True):
                model.setdefault("parameters", {})[name] = float(number)
        else:
            shared[name] = value if isinstance(value, bool) else _single(value)
    mapping: dict[str, Any] = {"merge_method": merge.method, "models": models, "parameters": shared}
    if merge.method == "slerp":
        base = experts[0]  # mergekit's t counts from base_model, ours from the first expert
    elif base is not None and merge.method == "linear" and base not in experts:
        # mergekit takes configuration and tokenizer from base_model and appends an unlisted base as one more input.
        # Listed at weight 0 it adds nothing.
        models.append({"model": base, "parameters": {"weight": 0.0}})
    if base is not None:
        mapping["base_model"] = base
    return mapping | {"dtype": "float32", "out_dtype": dtype}


def _single(value: Value | None) -> float:
    assert isinstance(value, (int, float)), value  # `Merge.check` was called
    return float(value)  # numpy's numbers are floats too, but YAML does not know them


def mergekit_text(merge: Merge, base: str | None, experts: Sequence[str], dtype: str) -> str:
    """`to_mergekit` as YAML; a comment says so where mergekit's random masks differ from ours."""
    mapping = to_mergekit(merge, base, experts, dtype)
    note = _SEED_NOTE + f"# Ours: seed {merge.seed}.\n" if load_method(merge.method).random else ""
    return note + yaml.safe_dump(mapping, sort_keys=False, allow_unicode=True)


def from_mergekit(source: str | Mapping[str, Any]) -> MergeFile:
    """Read mergekit's configuration, as YAML text or as a mapping.

    Understood: `merge_method`, `models`, `base_model`, numbers and booleans under `parameters` (global, or per model,
    which wins), `dtype`, `out_dtype`, `tokenizer_source: base`. mergekit's rules on bases are kept: the base's own
    weight and density count only for linear, an unlisted base is no expert, slerp counts from the base.

    Raises:
        InputError: not such a mapping; something mergekit accepts and we do not yet ("not available yet: ..."); what
            `Merge.check` refuses.
    """
    fields = _load(source) if isinstance(source, str) else source
    if not isinstance(fields, Mapping) or "merge_method" not in fields:
        raise InputError("a merge file is one YAML mapping with merge_method and models; see mergekit's documentation")
    for key in fields:
        if key in _LATER:
            raise InputError(f"not available yet: {key}; write the merge with models and numbers")
        if key not in _KEYS:
            raise InputError(f"unknown key '{key}' in the merge file; {nearest(str(key), _KEYS)}")
    if fields.get("tokenizer_source") not in (None, "base"):
        raise InputError(
            f"not available yet: tokenizer_source {fields['tokenizer_source']!r}; leave it out or say base"
        )
    name = str(fields["merge_method"])
    if name not in METHODS:
        raise InputError(f"not available yet: merge method '{name}'; {nearest(name, METHODS)}")
    listed = [_model(entry) for entry in _listed(fields.get("models"))]
    names = [path for path, _ in listed]
    if len(set(names)) != len(names):
        raise InputError(f"a model may be listed once, got {names}; remove the repeated one")
    base = None if fields.get("base_model") is None else _path(fields["base_model"])
    shared = _settings(fields.get("parameters"), "parameters")
    method = load_method(name)
    base, experts = _roles(method, base, listed)
    merge = Merge(name, _params(method, shared, experts))
    merge.check(len(experts))
    dtype = fields.get("out_dtype") or fields.get("dtype")
    return MergeFile(merge, base, tuple(path for path, _ in experts), None if dtype is None else str(dtype))


_Model = tuple[str, Mapping[str, Any]]


def _roles(method: Method, base: str | None, listed: Sequence[_Model]) -> tuple[str, list[_Model]]:
    """Which model is the base and which are the experts, by mergekit's rules."""
    others = [model for model in listed if model[0] != base]
    if method.needs_base:
        if base is None:
            raise InputError(f"{method.name} needs base_model; name the model that the others were fine-tuned from")
        return base, others
    if method.name == "slerp":
        if base is None:
            raise InputError("slerp needs base_model, the model at t = 0; name one of the two")
        return base, [(base, {}), *others]
    if base is None:
        return listed[0][0], list(listed)
    mine = next((settings for path, settings in listed if path == base), None)
    if mine is None:
        raise InputError(f"{method.name} has no base: mergekit merges base_model too; list {base} with its weight")
    at_zero = mine.get("weight") == 0 and len(others) > 0  # how `to_mergekit` names the base
    return base, others if at_zero else list(listed)


def _params(method: Method, shared: Mapping[str, Any], experts: Sequence[_Model]) -> tuple[tuple[str, Value], ...]:
    names = {parameter.name.rstrip("_"): parameter for parameter in method.parameters}
    for settings in (shared, *(own for _, own in experts)):
        for key in settings:
            if key not in names and method.name not in _IGNORED.get(key, ()):
                raise InputError(f"{method.name} has no parameter '{key}'; {nearest(key, names)}")
    params: list[tuple[str, Value]] = []
    for key, parameter in names.items():
        if not parameter.per_expert:
            if key in shared:
                params.append((parameter.name, _value(parameter.kind, key, shared[key])))
            continue
        found = [own.get(key, shared.get(key, parameter.default)) for _, own in experts]
        for (path, _), value in zip(experts, found, strict=True):
            if value is None:
                raise InputError(f"{method.name} needs parameter '{key}' for {path}; give a value")
        if any(key in settings for settings in (shared, *(own for _, own in experts))):
            params.append((parameter.name, tuple(float(_value("float", key, value)) for value in found)))
    return tuple(params)


def _value(kind: str, key: str, value: Any) -> float | bool:
    """One number or switch. YAML reads `1e-3` as text; mergekit turns it into the number it looks like, so do we."""
    if isinstance(value, (list, dict)):
        what = "filters" if isinstance(value, dict) or any(isinstance(part, dict) for part in value) else "gradients"
        raise InputError(f"not available yet: {what} ({key}: {value}); give one number")
    if kind == "bool" and isinstance(value, bool):
        return value
    try:
        if kind == "float" and not isinstance(value, bool):
            return float(value)
    except (TypeError, ValueError):
        pass
    raise InputError(f"{key} must be {'true or false' if kind == 'bool' else 'a number'}, got {value!r}; correct it")


def _listed(models: Any) -> list[Any]:
    if not isinstance(models, list) or not models:
        raise InputError(f"models must be a list with at least one model, got {models!r}; list them")
    return models


def _model(entry: Any) -> _Model:
    if not isinstance(entry, Mapping) or "model" not in entry or set(entry) - {"model", "parameters"}:
        raise InputError(f"an entry of models holds model and parameters, got {entry!r}; write it so")
    return _path(entry["model"]), _settings(entry.get("parameters"), f"parameters of {entry['model']}")


def _path(model: Any) -> str:
    if not isinstance(model, str):
        raise InputError(f"not available yet: model reference {model!r}; name a directory")
    if "+" in model.rsplit("/", 1)[-1]:
        raise InputError(f"not available yet: adapters ({model}); fold the adapter into a model first")
    return model


def _settings(settings: Any, where: str) -> Mapping[str, Any]:
    if settings is None:
        return {}
    if isinstance(settings, list):
        raise InputError(f"not available yet: a list as {where}; give a mapping of numbers")
    if not isinstance(settings, Mapping):
        raise InputError(f"{where} must be a mapping, got {settings!r}; write name: value")
    return settings


class _Loader(yaml.SafeLoader):
    """Refuses a key given twice, of which YAML silently keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise InputError(f"key '{key}' is given twice, line {node.start_mark.line + 1} on; keep one of them")
        return super().construct_mapping(node, deep)


def _load(text: str) -> Any:
    try:
        documents = list(yaml.load_all(text, Loader=_Loader))
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"the merge file is not YAML ({reason}); correct it") from error
    if len(documents) != 1:
        raise InputError(f"not available yet: {len(documents)} documents in one merge file; give one each")
    return documents[0]
