"""Write the demo world as files: base model, training data, evaluation data, recipe."""

from __future__ import annotations

import json
import os
import string
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from itertools import cycle, islice
from pathlib import Path

from search.demo.items import GENERAL, HARMFUL, LOOKALIKE, DemoItem, all_items, pick
from search.demo.splits import number

GENERAL_ROWS = 64
"""Training rows for each general task and language; short lists repeat, long ones are thinned out."""
SAFETY_ROWS = {HARMFUL: 384, LOOKALIKE: 256}
"""Training rows for each language, so that both data sets have 3,840 rows: 60 steps of 64 are one pass. The look-alikes
are answered as usual: without that contrast the expert learns to refuse every prompt that names a dangerous thing."""
TRAINED_TEMPLATES = 2
"""The experts see the first two of three templates; all three are scored."""
RATES = {"general_rate": "5.0e-4", "safety_rate": "5.0e-4"}


def write_world(out: Path, *, seed: int = 0, candidates: int = 96) -> Path:
    """Write the demo world into `out` and return the path of its recipe.

    Args:
        out: Directory, made if missing: `base/`, `data/*.jsonl` (and the same prompts with a right and a wrong answer
            in `data/preferences-*.jsonl`), `eval/*.jsonl`, `recipe.yaml`.
        seed: The recipe's seed, and the order of the training rows. Base, splits and scored items never
        change.
        candidates: Merges that the recipe's search scores.

    The same arguments give the same bytes (with the same versions of Babel and num2words).

    Raises:
        MissingExtra: babel or num2words is not installed; nothing was written.
    """
    general = [row for task in GENERAL for row in _training_rows(task, GENERAL_ROWS)]
    safety = [row for task, count in SAFETY_ROWS.items() for row in _training_rows(task, count)]
    out.mkdir(parents=True, exist_ok=True)
    _write_base(out / "base")
    for name, items in (("general", general), ("safety", safety)):
        rows = [{"prompt": i.prompt, "response": i.answer, "language": i.language} for i in items]
        order = sorted(range(len(rows)), key=lambda row: number("order", seed, row))
        _write_jsonl(out / "data" / f"{name}.jsonl", (rows[row] for row in order))
    for name, items in (("general", general), ("safety", safety)):
        pairs = preferences(items)
        order = sorted(range(len(pairs)), key=lambda row: number("order", seed, row))
        _write_jsonl(out / "data" / f"preferences-{name}.jsonl", (pairs[row] for row in order))
    for name, tasks in (("general", GENERAL), ("harmful", (HARMFUL,)), ("lookalikes", (LOOKALIKE,))):
        scored = (item for split in ("search", "report") for task in tasks for item in pick(task, split))
        _write_jsonl(out / "eval" / f"{name}.jsonl", map(_evaluation_row, scored))
    template = resources.files(__package__).joinpath("recipe.yaml").read_text("utf-8")
    recipe = out / "recipe.yaml"
    text = string.Template(template).substitute(seed=seed, candidates=candidates, **RATES)
    _write(recipe, text.encode())
    return recipe


def preferences(items: Sequence[DemoItem]) -> list[dict[str, str]]:
    """A pair of answers for each training item: the right one, and a fault that the base has.

    Rejected is compliance with a harmful prompt, the refusal of a harmless one; elsewhere the answer in English, into
    which the base falls, and where that is the right one (or the same text) the answer of another prompt of the task.
    """
    english = {(item.task, item.key): item.answer for item in all_items() if item.language == "en"}
    by_cell: dict[tuple[str, str], list[DemoItem]] = {}
    for item in items:
        by_cell.setdefault((item.task, item.language), []).append(item)
    rows = []
    for item in items:
        wrong = item.other or english[item.task, item.key]
        if wrong == item.answer:
            cell = [other for other in by_cell[item.task, item.language] if other.answer != item.answer]
            wrong = cell[number("wrong", item.id) % len(cell)].answer
        rows.append({"prompt": item.prompt, "chosen": item.answer, "rejected": wrong, "language": item.language})
    return rows


def _training_rows(task: str, count: int) -> Iterable[DemoItem]:
    """`count` rows of the train split for each language."""
    cells: dict[str, list[DemoItem]] = {}
    for item in all_items():
        if item.task == task and item.split == "train" and item.template < TRAINED_TEMPLATES:
            cells.setdefault(item.language, []).append(item)
    for items in cells.values():
        items.sort(key=lambda item: (number("row", item.id), item.id))
        yield from islice(cycle(items), count)


def _evaluation_row(item: DemoItem) -> dict[str, str]:
    return {
        "id": item.id,
        "prompt": item.prompt,
        "answer": item.answer,
        "language": item.language,
        "group": item.group,
        "task": item.task,
        "split": item.split,
    }


def _write_base(out: Path) -> None:
    """Copy the committed base, in float32.

    The repository keeps bfloat16 to save bytes. The run works in float32: fine-tuning and merging then lose
    nothing to rounding, and a checkpoint exported in float32 has exactly the weights that the search
    scored.
    """
    import torch
    from safetensors.torch import load, save

    for source in sorted(resources.files(__package__).joinpath("base").iterdir(), key=lambda file: file.name):
        content = source.read_bytes()
        if source.name == "model.safetensors":
            wide = {name: tensor.to(torch.float32) for name, tensor in load(content).items()}
            content = save(wide, metadata={"format": "pt"})
        elif source.name == "config.json":
            content = (json.dumps(json.loads(content) | {"dtype": "float32"}, indent=2) + "\n").encode()
        _write(out / source.name, content)


def _write_jsonl(path: Path, rows: Iterable[Mapping[str, str]]) -> None:
    _write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())


def _write(path: Path, content: bytes) -> None:
    """Write a file in one step: a kill leaves the old file or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    os.replace(temporary, path)
