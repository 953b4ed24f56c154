"""Recipes and runs for tests of the service: two existing experts, nothing to train."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from cluster.service import store
from cluster.service.tables import JOBS
from search.store import SCHEMA_VERSION
from tests.search.test_document import RECIPE, run_in

OBJECTIVES = "{general: max, safety: max}"


def world(folder: Path, candidates: int = 4) -> Path:
    """A folder that a service can be allowed to read: base, two experts, items; the recipe's path."""
    from search.demo.world import write_world

    folder.mkdir(parents=True, exist_ok=True)
    write_world(folder, candidates=candidates)
    for seed, name in enumerate(("one", "two")):
        _shifted(folder / "base", folder / name, seed)
    for items in (folder / "eval").iterdir():
        items.write_text("".join(items.read_text().splitlines(keepends=True)[::3]))
    recipe = folder / "small.yaml"
    recipe.write_text(
        f"""\
name: small
base: base
languages: ["en", "hi", "ar", "fr", "es", "ru"]
experts:
  one: {{path: one}}
  two: {{path: two}}
evaluators:
  general: {{kind: exact_match, data: eval/general.jsonl}}
  safety: {{kind: refusal, data: eval/harmful.jsonl}}
search:
  experts: [one, two]
  methods: [linear]
  objectives: {{general: max, safety: max}}
  candidates: {candidates}
cluster:
  evaluators: {{actors: 1, cpus: 0.9}}
export: {{picks: [knee], dtype: float32}}
"""
    )
    return recipe


def _shifted(base: Path, out: Path, seed: int) -> None:
    """The base with a little noise on every weight: an expert that scores otherwise."""
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(base, out)
    generator = torch.Generator().manual_seed(seed)
    tensors = load_file(out / "model.safetensors")
    moved = {name: t * (1 + 0.03 * torch.randn(t.shape, generator=generator)) for name, t in tensors.items()}
    save_file(moved, out / "model.safetensors", metadata={"format": "pt"})


def finished_job(state: Path, engine: sa.Engine, owner: str = "operator", *, exports: tuple[str, ...] = ()) -> str:
    """A job that is DONE, with a front of known scores in its run directory; its id."""
    job = store.new_id()
    run = state / "jobs" / job / "run"
    run.mkdir(parents=True)
    recipe, study = run_in(run, confirmed=True)
    study.log("finished", candidates=5)
    study.close()
    text = RECIPE.replace("OBJECTIVES", OBJECTIVES)
    (run / "recipe.yaml").write_text(text)
    lock = {**recipe.lock(), "schema": SCHEMA_VERSION, "contents": {}}
    (run / "recipe.lock.json").write_text(json.dumps(lock))
    (run.parent / "log.txt").write_text("experts: none to train\nfront: 5 points\n")
    for name in exports:
        (run / "exports" / name).mkdir(parents=True)
        (run / "exports" / name / "config.json").write_text('{"model_type": "llama"}')
        (run / "exports" / name / "model.safetensors").write_bytes(bytes(range(256)) * 40)
    values: dict[str, Any] = {"id": job, "owner": owner, "name": "small", "recipe": text, "directory": str(run.parent)}
    values |= {"digest": "0" * 64, "idempotency": None, "priority": 0, "cpus": 1.0, "gpus": 0.0, "candidates": 5}
    made = store.add_job(engine, values)
    done = {"stage": "finished", "scored": 8, "of": 8, "trained": 0, "to_train": 0, "share": 1.0}
    store.keep_progress(engine, made, done)
    store.change(engine, made, "DONE")
    with engine.begin() as connection:
        connection.execute(sa.update(JOBS).where(JOBS.c.id == job).values(attempt=1, started=made.created))
    return job
