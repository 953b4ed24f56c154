"""A configuration of mergekit-evolve as a recipe: the same models and tasks, searched by this program.

mergekit-evolve moves one vector of coefficients by CMA-ES to raise a weighted sum of lm-eval scores. A recipe states
the same question with an objective for each task; what it cannot hold is said in its comments, never dropped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import yaml

from search._recipe import yaml_text
from search._recipe.yaml_text import KeyPath
from search.errors import Problem, UserError, shown, suggestion

_METHODS = ("linear", "task_arithmetic", "ties", "dare_ties", "slerp")
_WITH_BASE = ("task_arithmetic", "ties", "dare_ties")
_NORMALIZED = ("linear", "ties", "dare_ties")  # mergekit-evolve's default; ours is the same but for dare_ties
_SPARSE = ("ties", "dare_ties")
_KINDS = {  # filters as mergekit's users write them -> `search.layer_groups`
    "self_attn": "attention",
    "attn": "attention",
    "attention": "attention",
    "mlp": "mlp",
    "embed_tokens": "embeddings",
    "lm_head": "embeddings",
}
_GENOME = (
    "models",
    "merge_method",
    "base_model",
    "tokenizer_source",
    "layer_granularity",
    "normalize",
    "allow_negative_weights",
    "filters",
    "smooth",
)
_RUN = ("limit", "num_fewshot", "shuffle", "random_init", "apply_chat_template", "fewshot_as_multiturn")
_CANDIDATES = 100  # mergekit-evolve's --max-fevals, unless the command line said otherwise
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
_WORDS = ("true", "false", "yes", "no", "on", "off", "null")


@dataclass(frozen=True)
class _Task:
    """An lm-eval task: its name there, the name of its objective here, its weight in the sum, and the metric."""

    task: str
    name: str
    weight: float
    metric: str


def recipe_text(genome_text: str, *, file: str = "genome.yaml") -> str:
    """The recipe that asks what a configuration of mergekit-evolve asks.

    The recipe loads as it is. Lines marked TODO name what only the user can give: the items of each task as files, and
    the languages.

    Args:
        genome_text: the configuration, as YAML.
        file: how messages and the recipe call it.

    Returns:
        The recipe, as YAML with comments.

    Raises:
        UserError: not such a configuration.
    """
    document = yaml_text.parse(genome_text, file)
    reader = _Reader(document)
    genome = reader.mapping(("genome",), document.value.get("genome"))
    method = reader.method(genome.get("merge_method"))
    models = reader.models(genome)
    base = None if genome.get("base_model") is None else reader.model(("genome", "base_model"), genome["base_model"])
    if base is None and method in _WITH_BASE:
        raise reader.error(("genome",), f"{method} needs base_model", None, "name what the models were fine-tuned from")
    experts = _named([model for model in models if model != base or method not in _WITH_BASE])
    if len(experts) < 2:
        raise reader.error(("genome", "models"), "at least two models besides the base are needed", None, "add one")
    tasks = reader.tasks(document.value)
    head = [f"# {text}".rstrip() for text in _head(file, document.value, genome)]
    sections = (
        head,
        _models(file, base, models[0], experts),
        _evaluators(tasks),
        _search(genome, method, list(experts), tasks),
        ["export: {dtype: bfloat16}"],
    )
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


def _models(file: str, base: str | None, first: str, experts: Mapping[str, str]) -> Iterator[str]:
    yield f"name: {_name(PurePath(file).stem) or 'genome'}"
    yield f"base: {_text(base or first)}" + ("" if base else "  # the genome names no base: its first model")
    yield "languages: [en]  # TODO: the languages of the items below"
    yield ""
    yield "experts:"
    for name, model in experts.items():
        yield f"  {name}: {{path: {_text(model)}}}{_about(model)}"


def _evaluators(tasks: Sequence[_Task]) -> Iterator[str]:
    yield "# TODO: write the items of each task as JSON lines with prompt, answer and language."
    yield "evaluators:"
    for task in tasks:
        options = ", options: {mode: generate}" if task.metric.startswith("exact_match") else ""
        yield f"  # lm-eval's {_one_line(task.task)} by {_one_line(task.metric)}"
        if not task.metric.startswith(("acc", "exact_match")):
            yield "  # TODO: exact_match is no such measure; write an evaluator, kind: package.module:function"
        yield f"  {task.name}: {{kind: exact_match, data: {_text(f'data/{task.name}.jsonl')}{options}}}"


def _search(genome: Mapping[str, Any], method: str, experts: Sequence[str], tasks: Sequence[_Task]) -> Iterator[str]:
    yield "search:"
    yield f"  experts: [{', '.join(experts)}]"
    if method == "slerp" and len(experts) > 2:
        yield "  # slerp takes two models; mergekit-evolve chose the two of largest weight for every slice"
        yield "  methods: [multislerp]"
    else:
        yield f"  methods: [{method}]"
    yield from (f"  # {_one_line(text)}" for text in _otherwise(genome, method))
    groups = _layer_groups(genome)
    if groups:
        yield f"  layer_groups: {groups}"
    if len({abs(task.weight) for task in tasks}) > 1:
        weights = ", ".join(f"{task.name} {task.weight:g}" for task in tasks)
        yield f"  # weights of the sum were {weights}; here every objective keeps an axis of its own"
    directions = (f"{task.name}: {'min' if task.weight < 0 else 'max'}" for task in tasks)
    yield f"  objectives: {{{', '.join(directions)}}}"
    yield f"  candidates: {_CANDIDATES}"


class _Reader:
    """Reads parts of the configuration; errors name file, line and key."""

    def __init__(self, document: yaml_text.Document) -> None:
        self.document = document

    def error(self, path: KeyPath, rule: str, value: str | None = None, remedy: str = "") -> UserError:
        place = ".".join(map(str, path))
        return UserError(Problem(self.document.file, self.document.line(path), place, rule, value, remedy))

    def mapping(self, path: KeyPath, value: Any) -> Mapping[str, Any]:
        if not isinstance(value, dict):
            raise self.error(path, "must hold models and merge_method", shown(value), "see mergekit's docs/evolve.md")
        return value

    def models(self, genome: Mapping[str, Any]) -> list[str]:
        written = self.listed(("genome", "models"), genome)
        return [self.model(("genome", "models", number), model) for number, model in enumerate(written)]

    def listed(self, path: KeyPath, within: Mapping[str, Any]) -> list[Any]:
        value = within.get(str(path[-1]))
        if not isinstance(value, list) or not value:
            raise self.error(path, "must be a list with at least one entry", shown(value), "list them")
        return value

    def method(self, value: Any) -> str:
        if value not in _METHODS:
            rule = "mergekit-evolve has no such method"
            raise self.error(("genome", "merge_method"), rule, shown(value), suggestion(value, _METHODS))
        return str(value)

    def model(self, path: KeyPath, value: Any) -> str:
        """A model as text: "path", "path@revision" or "path+adapter"."""
        if isinstance(value, str) and value.strip():
            return value
        if isinstance(value, dict) and isinstance(value.get("path"), str):
            revision = value.get("revision")
            return value["path"] if revision is None else f"{value['path']}@{revision}"
        if isinstance(value, dict) and "model" in value:
            adapter = value.get("lora")
            model = self.model(path, value["model"])
            return model if adapter is None else f"{model}+{self.model(path, adapter)}"
        raise self.error(path, "must be a model", shown(value), "write a path or a hub id")

    def tasks(self, fields: Mapping[str, Any]) -> list[_Task]:
        tasks: list[_Task] = []
        for number, entry in enumerate(self.listed(("tasks",), fields)):
            path: KeyPath = ("tasks", number)
            task = {"name": entry} if isinstance(entry, str) else entry
            if not isinstance(task, dict) or not isinstance(task.get("name"), str) or not task["name"].strip():
                raise self.error(path, "must be a task's name, or name, weight and metric", shown(entry), "name it")
            weight = task.get("weight", 1.0)
            if isinstance(weight, bool) or not isinstance(weight, (int, float)) or weight == 0:
                raise self.error((*path, "weight"), "must be a number other than 0", shown(weight), "change it")
            name = _unique(_name(task["name"]) or "task", [other.name for other in tasks])
            tasks.append(_Task(task["name"], name, float(weight), str(task.get("metric", "acc,none"))))
        return tasks


def _head(file: str, fields: Mapping[str, Any], genome: Mapping[str, Any]) -> Iterator[str]:
    yield f"Made from {_one_line(file)}, a configuration of mergekit-evolve. Lines marked TODO need you."
    notes = list(_left_out(fields, genome))
    if notes:
        yield ""
        yield "What a recipe does not hold:"
        yield from (f"* {_one_line(note)}" for note in notes)


def _left_out(fields: Mapping[str, Any], genome: Mapping[str, Any]) -> Iterator[str]:
    """What the configuration says that has no place in a recipe."""
    if fields.get("limit") is not None:
        yield f"limit: {fields['limit']} items of each task; put as many into its file."
    if fields.get("num_fewshot"):
        yield f"num_fewshot: {fields['num_fewshot']}; write the examples into the prompts."
    if fields.get("shuffle"):
        yield "shuffle: items are always split by chance into those of the search and those of the report."
    if fields.get("random_init"):
        yield "random_init: the sampler starts from equal weights and from every model alone."
    for key in ("apply_chat_template", "fewshot_as_multiturn"):
        if key in fields:
            yield f"{key}: {_json(fields[key])}; prompts are given to the model as the items' files have them."
    source = genome.get("tokenizer_source")
    if source not in (None, "base"):
        yield f"tokenizer_source: {source}; every model must have the tokenizer of the base."
    for section, known, where in ((genome, _GENOME, "genome."), (fields, ("genome", "tasks", *_RUN), "")):
        yield from (f"{where}{key}: unknown to mergekit-evolve too." for key in section if key not in known)


def _otherwise(genome: Mapping[str, Any], method: str) -> Iterator[str]:
    """How coefficients were searched there, where it is another way than here."""
    granularity, filters = _granularity(genome), genome.get("filters") or []
    if granularity and genome.get("smooth"):
        yield "smooth was true: weights were interpolated between groups; here each group of layers has its own"
    if filters and (granularity or not _kinds(filters)):
        why = "besides groups of layers" if granularity else "which are no kinds of tensors"
        yield f"filters were {_json(filters)}, {why}; here they share coefficients"
    if method in _SPARSE:
        yield "density was searched for each model, and for each group; here one density is searched for all"
    if genome.get("allow_negative_weights"):
        yield "allow_negative_weights was true; the search proposes weights from 0 to 1"
    normalize = genome.get("normalize")
    normalize = method in _NORMALIZED if normalize is None else normalize
    if method != "slerp" and normalize != (method in ("linear", "ties")):
        yield f"normalize was {_json(normalize)}; a search takes the method's default, {_json(not normalize)}"


def _layer_groups(genome: Mapping[str, Any]) -> str:
    """The recipe's key for what had coefficients of its own there; "" for one set for the whole model."""
    granularity = _granularity(genome)
    if granularity:
        return f"{{layers: {granularity}}}"  # embeddings go with the first group and the head with the last, as there
    kinds = _kinds(genome.get("filters") or [])
    return f"[{', '.join(kinds)}]" if kinds else ""


def _granularity(genome: Mapping[str, Any]) -> int:
    """Layers of each group; 0 for one group."""
    value = genome.get("layer_granularity")
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _kinds(filters: Any) -> tuple[str, ...]:
    """Filters as kinds of tensors; none if one of them is something else."""
    found = [_KINDS.get(str(text).strip(".")) for text in filters] if isinstance(filters, list) else []
    kinds = tuple(dict.fromkeys(kind for kind in found if kind is not None))
    return kinds if None not in found else ()


def _about(model: str) -> str:
    if "+" in model:
        return "  # TODO: fold the adapter into the model and name that directory"
    return "  # TODO: download this revision and name its directory" if "@" in model else ""


def _named(models: list[str]) -> dict[str, str]:
    """Models by the names of their experts: the last part of the path."""
    names: dict[str, str] = {}
    for model in dict.fromkeys(models):
        stem = _name(re.split(r"[+@]", model)[0].rstrip("/").rsplit("/", 1)[-1]) or "expert"
        names[_unique(stem, ["base", *names])] = model
    return names


def _unique(name: str, taken: list[str]) -> str:
    number, found = 1, name
    while found in taken:
        number += 1
        found = f"{name[:58]}-{number}"
    return found


def _name(text: str) -> str:
    """`text` as a recipe's name: letters, digits, . _ - and no YAML word."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-.")[:60]
    plain = name and name.lower() not in _WORDS and not re.fullmatch(r"[\d._-]*(?:[eE][\d._-]*)?", name)
    return name if plain or not name else f"m-{name}"


def _text(value: str) -> str:
    plain = _PLAIN.fullmatch(value) and value.lower() not in _WORDS
    return value if plain else yaml.safe_dump(value, default_style='"', allow_unicode=True, width=10**6).strip()


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _one_line(text: str) -> str:
    """`text` for a comment."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
