"""A whole merge file: its documents as blueprints, in an order in which each finds what it uses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath

from .._errors import InputError
from .._parts import Blueprint, Part
from .document import WORDS, Document, read_document
from .headers import Headers, Planned, single_stack, stacks
from .reference import adapter_of, path_of
from .slices import lay_out
from .text import mappings

Open = Callable[[str], Headers]


@dataclass(frozen=True)
class NamedBlueprint:
    """One document of a merge file.

    Attributes:
        name: under which other documents use it; None for a final merge.
        blueprint: what to write.
        chat_template: Jinja text to write in place of the tokenizer's; None: that stays.
    """

    name: str | None
    blueprint: Blueprint
    chat_template: str | None = None


def read_merges(text: str, *, resolve: Open, folder: str | PurePath = ".", seed: int = 0) -> tuple[NamedBlueprint, ...]:
    """Read a merge file in mergekit's YAML, one document or several.

    All of it is read before anything is written: a document that uses an earlier one is laid out over what that one
    will hold.

    Args:
        text: YAML.
        resolve: opens a model ("path" or "path+adapter") by its headers. It is not asked for outputs of this file.
        folder: where named outputs are written; a model that is called by such a name is `folder/name`.
        seed: of random masks.

    Returns:
        The documents, each after those that it uses.

    Raises:
        InputError: what mergekit would refuse too, or what is not supported.
    """
    documents = _ordered([read_document(fields) for fields in mappings(text)])
    places = {document.name: str(PurePath(folder) / document.name) for document in documents if document.name}
    known: dict[str, Headers] = {}
    read = []
    for document in documents:
        placed = _placed(document, places)
        for model in placed.models():
            if model not in known:  # an adapter leaves names and types of a planned model as they are
                written = path_of(model) in places.values()
                known[model] = known[path_of(model)] if written else resolve(model)
        opened = {model: known[model] for model in placed.models()}
        blueprint = _blueprint(placed, opened, seed)
        read.append(NamedBlueprint(document.name, blueprint, document.chat_template))
        if document.name:
            known[places[document.name]] = _planned(blueprint, opened)
    return tuple(read)


def _ordered(documents: Sequence[Document]) -> tuple[Document, ...]:
    """The documents, each after those that it uses, else in the file's order."""
    names = Counter(document.name for document in documents)
    twice = next((name for name, count in names.items() if count > 1), "")
    if twice is None:
        raise InputError("only one document of a merge file may go without a name; name the others")
    if twice:
        raise InputError(f"two documents of the merge file are named '{twice}'; rename one")
    waiting, ordered = list(documents), list[Document]()
    while waiting:
        open_names = {document.name for document in waiting}
        ready = next((document for document in waiting if not _uses(document) & open_names), None)
        if ready is None:
            names_left = ", ".join(str(document.name or "the final one") for document in waiting)
            raise InputError(f"documents of the merge file use each other in a circle: {names_left}; break it")
        waiting.remove(ready)
        ordered.append(ready)
    return tuple(ordered)


def _uses(document: Document) -> frozenset[str | None]:
    return frozenset(path_of(model) for model in (*document.models(), document.vocabulary))


def _placed(document: Document, places: Mapping[str, str]) -> Document:
    """`document` with the names of other documents replaced by where these write."""

    def moved(model: str) -> str:
        if model in WORDS:
            return model
        adapter = adapter_of(model)
        place = places.get(path_of(model), path_of(model))
        return place if adapter is None else f"{place}+{adapter}"

    return replace(
        document,
        base=None if document.base is None else moved(document.base),
        vocabulary=moved(document.vocabulary),
        slices=tuple(
            replace(
                part,
                base=None if part.base is None else moved(part.base),
                sources=tuple(replace(source, model=moved(source.model)) for source in part.sources),
            )
            for part in document.slices
        ),
    )


def _blueprint(document: Document, opened: Mapping[str, Headers], seed: int) -> Blueprint:
    models = document.models()  # the base comes first: configuration and tokenizer are its
    layout = lay_out(document, opened, {model: number for number, model in enumerate(models)}, seed)
    layers = layout.layers
    if layers is not None and layers == len(single_stack(stacks(opened[models[0]]), models[0]).layers):
        layers = None
    return Blueprint(
        models=models,
        parts=layout.parts,
        dtype=document.dtype or _usual_type(layout.parts, models, opened),
        config=0,
        layers=layers,
        vocabulary=document.vocabulary,
        notes=(*document.notes, *layout.notes),
    )


def _usual_type(parts: Sequence[Part], models: Sequence[str], opened: Mapping[str, Headers]) -> str:
    """What most floating-point parts become where the file names no type: their inputs' common one, else float32."""
    counted: Counter[str] = Counter()
    for part in parts:
        places = part.inputs if part.base is None else (part.base, *part.inputs)
        types = {opened[models[index]].dtype(name) for index, name in places}
        if all("float" in name for name in types):
            counted[types.pop() if len(types) == 1 else "float32"] += 1
    usual = counted.most_common(1)[0][0] if counted else "float32"
    return usual if usual in ("bfloat16", "float16") else "float32"


def _planned(blueprint: Blueprint, opened: Mapping[str, Headers]) -> Planned:
    types = {}
    for part in blueprint.parts:
        index, name = part.base or part.inputs[0]
        stored = opened[blueprint.models[index]].dtype(name)
        types[part.name] = blueprint.dtype if "float" in stored else stored
    heads = {headers.head for headers in opened.values()}
    embeddings = {headers.embedding for headers in opened.values()}
    return Planned(
        names=tuple(types),
        head=next((name for name in types if name in heads), None),
        embedding=next((name for name in types if name in embeddings), None),
        types=types,
    )
