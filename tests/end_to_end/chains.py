"""Recipes with chains on the demo world: trainings of a few steps, an eighth of the items."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from search.demo.world import write_world

THINNED = 6  # every so many items are kept; languages take turns, so each stays

HEAD = """\
name: chain
base: base
languages: ["en", "hi", "ar", "fr", "es", "ru"]
data:
  general: {path: json, files: data/general.jsonl}
  safety: {path: json, files: data/safety.jsonl}
  pairs: {path: json, files: data/preferences-safety.jsonl}
experts:
  general: &sft
    mix: {general: 1.0}
    steps: 6
    batch: 16
    learning_rate: 5.0e-4
    max_length: 64
    save_every: 2
    dtype: float32
  safety: {<<: *sft, mix: {safety: 1.0}}
"""
TAIL = """\
evaluators:
  general: {kind: exact_match, data: eval/general.jsonl}
  safety: {kind: refusal, data: eval/harmful.jsonl}
  over_refusal: {kind: refusal, data: eval/lookalikes.jsonl}
cluster:
  evaluators: {actors: 1, cpus: 0.9}
  trainers: {workers: 1, cpus: 1, zero: 0}
export: {picks: [knee], dtype: float32}
"""


def search(*experts: str, candidates: int = 3) -> str:
    """The search section over these experts."""
    return (
        f"search:\n  experts: [{', '.join(experts)}]\n  methods: [linear]\n"
        f"  objectives: {{general: max, safety: max}}\n  candidates: {candidates}\n"
    )


def chain(folder: Path, experts: str, rest: str) -> Path:
    """Write the world with a recipe of `general`, `safety` and further `experts`; the recipe's path."""
    write_world(folder)
    for file in (folder / "eval").glob("*.jsonl"):
        rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
        groups = sorted({(row["split"], row["language"]) for row in rows})
        kept = [row for group in groups for row in _of(rows, group)[::THINNED]]
        file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept), "utf-8")
    recipe = folder / "chain.yaml"
    recipe.write_text(HEAD + experts + rest + TAIL, "utf-8")
    return recipe


def _of(rows: list[dict[str, Any]], group: tuple[str, str]) -> list[dict[str, Any]]:
    return [row for row in rows if (row["split"], row["language"]) == group]


def events(out: Path) -> list[dict[str, Any]]:
    """What a run logged."""
    return [json.loads(line) for line in (out / "log.jsonl").read_text("utf-8").splitlines()]


def made(out: Path) -> list[str]:
    """Names of models in the order in which they were made."""
    return [event["name"] for event in events(out) if event["event"] in ("trained", "merged", "tuned")]
