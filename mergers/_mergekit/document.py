"""One document of a merge file, read key by key; no model is looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .._errors import InputError, nearest
from .._schema import Method, load_method, method_names
from .reference import path_of, reference
from .settings import Scope, scope

_KEYS = (
    "name",
    "merge_method",
    "models",
    "slices",
    "modules",
    "base_model",
    "parameters",
    "dtype",
    "out_dtype",
    "tokenizer_source",
    "tokenizer",
    "chat_template",
)
WORDS = ("same", "base", "union")
"""Vocabularies that are no model; a merge cannot be named so."""

_TYPES = ("float32", "bfloat16", "float16")
_NATIVE = ("linear", "slerp", "passthrough")  # in mergekit too, their arithmetic does not depend on dtype


@dataclass(frozen=True)
class Source:
    """One input of a slice.

    Attributes:
        model: as the file calls it: "path" or "path+adapter".
        layers: from (inclusive) and to (exclusive); None: all.
        params: settings that stand beside it.
    """

    model: str
    layers: tuple[int, int] | None
    params: Scope


@dataclass(frozen=True)
class Slice:
    """A run of layers of the output.

    Attributes:
        sources: inputs in the file's order.
        base: replaces the document's base_model.
        params: settings of the slice.
    """

    sources: tuple[Source, ...]
    base: str | None
    params: Scope


@dataclass(frozen=True)
class Document:
    """What one document asks for.

    Attributes:
        name: of a merge that others may use; None for a last one.
        method: its merge method.
        slices: one, of whole models, if `whole`.
        whole: whether `models` was written.
        base: base_model.
        scopes: settings of the module and of the document, in order of precedence.
        dtype: of the output; None: that of the inputs.
        vocabulary: `same`, `base`, `union` or a model.
        chat_template: Jinja text to put in place of that of the tokenizer.
        notes: what is read and has no effect, or another one than in mergekit.
    """

    name: str | None
    method: Method
    slices: tuple[Slice, ...]
    whole: bool
    base: str | None
    scopes: tuple[Scope, ...]
    dtype: str | None
    vocabulary: str
    chat_template: str | None
    notes: tuple[str, ...]

    def models(self) -> tuple[str, ...]:
        """Every model it names, the base first."""
        named = [self.base, *(m for part in self.slices for m in (part.base, *(s.model for s in part.sources)))]
        return tuple(dict.fromkeys(model for model in named if model is not None))


def read_document(fields: Mapping[str, Any]) -> Document:
    """Read one mapping with a `merge_method`.

    Raises:
        InputError: an unknown or unsupported key, method, parameter or value.
    """
    for key in fields:
        if key == "out_path":
            raise InputError("out_path is not supported; write name, and use that name in other documents")
        if key not in _KEYS:
            raise InputError(f"unknown key '{key}' in the merge file; {nearest(str(key), _KEYS)}")
    method = _method(str(fields["merge_method"]))
    module, where = _module(fields)
    name = _optional_text(fields, "name")
    if name in WORDS or (name is not None and set(name) & set("/\\+@")):
        raise InputError(f"name must be a plain word, not {', '.join(WORDS)}, got '{name}'; rename it")
    everywhere, notes = scope(method, fields.get("parameters"), "parameters")
    of_module, more = scope(method, module.get("parameters"), f"parameters of {where}") if where else ({}, ())
    whole = module.get("models") is not None
    slices, most = (_models if whole else _slices)(method, module)
    dtype, arithmetic = _types(fields, method)
    return Document(
        name=name,
        method=method,
        slices=slices,
        whole=whole,
        base=None if fields.get("base_model") is None else reference(fields["base_model"]),
        scopes=(of_module, everywhere),
        dtype=dtype,
        vocabulary=_vocabulary(fields),
        chat_template=_chat_template(fields),
        notes=tuple(dict.fromkeys((*notes, *more, *most, *arithmetic))),
    )


def _method(name: str) -> Method:
    if ":" not in name and name not in method_names():
        raise InputError(f"unknown merge method '{name}'; {nearest(name, method_names())}")
    return load_method(name)


def _module(fields: Mapping[str, Any]) -> tuple[Mapping[str, Any], str]:
    """What holds `models` or `slices`: the document itself, or its one module, with that module's name."""
    given = [key for key in ("models", "slices", "modules") if fields.get(key) is not None]
    if len(given) != 1:
        raise InputError(f"a merge has one of models, slices or modules, got {', '.join(given) or 'none'}; write one")
    if given != ["modules"]:
        return {key: value for key, value in fields.items() if key in ("models", "slices")}, ""
    modules = fields["modules"]
    if not isinstance(modules, Mapping) or len(modules) != 1:
        names = ", ".join(map(str, modules)) if isinstance(modules, Mapping) else repr(modules)
        raise InputError(f"modules of several parts are not supported ({names}); write models or slices, or one module")
    ((name, module),) = modules.items()
    where = f"module {name}"
    if not isinstance(module, Mapping) or set(module) - {"models", "slices", "parameters"}:
        raise InputError(f"{where} holds models or slices, and parameters, got {module!r}; write it so")
    if (module.get("models") is None) == (module.get("slices") is None):
        raise InputError(f"{where} has one of models or slices; write one of them")
    return module, where


def _models(method: Method, module: Mapping[str, Any]) -> tuple[tuple[Slice, ...], tuple[str, ...]]:
    sources, notes = _sources(method, module["models"], "models", ("model", "parameters"))
    return (Slice(sources, None, {}),), notes


def _slices(method: Method, module: Mapping[str, Any]) -> tuple[tuple[Slice, ...], tuple[str, ...]]:
    written = module["slices"]
    if not isinstance(written, list) or not written:
        raise InputError(f"slices must be a list with at least one slice, got {written!r}; list them")
    slices: list[Slice] = []
    notes: list[str] = []
    for number, entry in enumerate(written, 1):
        where = f"slice {number}"
        keys = ("sources", "base_model", "parameters", "residual_weight")
        if not isinstance(entry, Mapping) or "sources" not in entry or set(entry) - set(keys):
            raise InputError(f"{where} holds sources, base_model and parameters, got {entry!r}; write it so")
        if entry.get("residual_weight") is not None:
            notes.append(f"residual_weight has no effect ({where})")
        sources, found = _sources(method, entry["sources"], where, ("model", "layer_range", "parameters"))
        params, more = scope(method, entry.get("parameters"), f"parameters of {where}")
        base = None if entry.get("base_model") is None else reference(entry["base_model"])
        slices.append(Slice(sources, base, params))
        notes += [*found, *more]
    return tuple(slices), tuple(notes)


def _sources(
    method: Method, written: Any, where: str, keys: tuple[str, ...]
) -> tuple[tuple[Source, ...], tuple[str, ...]]:
    if not isinstance(written, list) or not written:
        raise InputError(f"{where} must be a list with at least one model, got {written!r}; list them")
    sources: list[Source] = []
    notes: list[str] = []
    for entry in written:
        if not isinstance(entry, Mapping) or "model" not in entry or set(entry) - set(keys):
            raise InputError(f"an entry of {where} holds {' and '.join(keys)}, got {entry!r}; write it so")
        model = reference(entry["model"])
        layers = _layer_range(entry.get("layer_range"), model, where) if "layer_range" in keys else None
        beside = f"parameters of {path_of(model)}"
        params, found = scope(method, entry.get("parameters"), beside, of_one_model=True)
        sources.append(Source(model, layers, params))
        notes += found
    names = [source.model for source in sources]
    if len(set(names)) != len(names):
        raise InputError(f"a model may be listed once ({where}), got {', '.join(names)}; remove the repeated one")
    return tuple(sources), tuple(notes)


def _layer_range(written: Any, model: str, where: str) -> tuple[int, int]:
    if (
        not isinstance(written, list)
        or len(written) != 2
        or any(isinstance(number, bool) or not isinstance(number, int) for number in written)
        or not 0 <= written[0] <= written[1]
    ):
        raise InputError(f"layer_range of {model} ({where}) must be [first, last + 1], got {written!r}; correct it")
    return written[0], written[1]


def _types(fields: Mapping[str, Any], method: Method) -> tuple[str | None, tuple[str, ...]]:
    """The output's type, and a note if mergekit would have computed in another one than float32."""
    names = {}
    for key in ("dtype", "out_dtype"):
        name = _optional_text(fields, key)
        names[key] = None if name is None else name.removeprefix("torch.")
        if names[key] not in (None, *_TYPES):
            raise InputError(f"{key} must be one of {', '.join(_TYPES)}, got {name!r}; choose one of them")
    if names["dtype"] == "float32" or method.name in _NATIVE:
        return names["out_dtype"] or names["dtype"], ()
    other = names["dtype"] or "the inputs' type"
    note = f"the arithmetic is float32, rounded once at the end (mergekit 0.1.5 would compute in {other})"
    return names["out_dtype"] or names["dtype"], (note,)


def _vocabulary(fields: Mapping[str, Any]) -> str:
    source, block = fields.get("tokenizer_source"), fields.get("tokenizer")
    if source is not None and block is not None:
        raise InputError("a merge has one of tokenizer and tokenizer_source, got both; remove one of them")
    if block is not None:
        if not isinstance(block, Mapping) or set(block) - {"source", "tokens", "pad_to_multiple_of"}:
            raise InputError(f"tokenizer holds source, tokens and pad_to_multiple_of, got {block!r}; write it so")
        if block.get("tokens"):
            tokens = ", ".join(map(str, block["tokens"])) if isinstance(block["tokens"], Mapping) else block["tokens"]
            raise InputError(f"tokenizer.tokens is not supported ({tokens}); name only a source")
        if block.get("pad_to_multiple_of"):
            raise InputError("tokenizer.pad_to_multiple_of is not supported; leave it out: padded rows are kept")
        source = block.get("source", "union")
    return "same" if source is None else reference(source)


def _chat_template(fields: Mapping[str, Any]) -> str | None:
    text = _optional_text(fields, "chat_template")
    if text is not None and "{" not in text:  # a name of one of mergekit's own templates, or `auto`
        raise InputError(f"chat_template '{text}' is not supported; give the template's text, or keep the base's")
    return text


def _optional_text(fields: Mapping[str, Any], key: str) -> str | None:
    value = fields.get(key)
    if value is not None and (not isinstance(value, str) or not value.strip()):
        raise InputError(f"{key} must be text, got {value!r}; quote it")
    return value
