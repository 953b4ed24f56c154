"""Stage 1: the models that get merged or compared, trained where they do not exist yet.

Each trained model is content-addressed: its directory is named by the hash of the base, the data and the settings that
its weights depend on. What is there is not trained again, whatever recipe asked for it first.
"""

from __future__ import annotations

import glob
import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from trainers._schema import check_options
from trainers._types import DEFAULT, Placement, Source, TrainSpec

from .errors import Problem, UserError
from .progress import Display
from .recipe import DataSource, ExistingExpert, Recipe, TrainedBaseline, TrainedExpert
from .rundir import Run, log

SECONDS_PER_STEP_LIMIT = 600.0  # a step that takes longer than ten minutes is taken for hung
START_LIMIT_S = 900.0


class TrainingFailed(RuntimeError):
    """Trainings that failed, one line each; what was trained is kept."""


@dataclass(frozen=True)
class Model:
    """One unmerged point: `kind` is base, expert or baseline; `spec` is None where nothing is trained."""

    name: str
    kind: str
    path: Path
    hash: str
    trainer: str | None = None
    spec: TrainSpec | None = None
    placement: Placement = DEFAULT


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checkpoint_hash(path: str) -> str:
    """Content hash of a checkpoint's weights."""
    from mergers._checkpoint.checkpoint import open_checkpoint

    return open_checkpoint(path).digest()


def input_hashes(recipe: Recipe) -> dict[str, str]:
    """Name of each input of the recipe (base, existing expert, data file) -> content hash."""
    found = {"base": checkpoint_hash(recipe.resolve(recipe.base))}
    for name, expert in (dict(recipe.experts) | dict(recipe.baselines)).items():
        if isinstance(expert, ExistingExpert):
            found[f"experts.{name}"] = checkpoint_hash(recipe.resolve(expert.path))
    for name, source in recipe.data.items():
        found |= {_input("data", name, file): file_hash(Path(file)) for file in local_files(recipe, source)}
    for name, evaluator in recipe.evaluators.items():
        files = local_files(recipe, evaluator.data) if evaluator.data is not None else ()
        found |= {_input("evaluators", name, file): file_hash(Path(file)) for file in files}
    return found


def models(recipe: Recipe, folder: Path, hashes: Mapping[str, str]) -> tuple[Model, ...]:
    """Base, experts and baselines, in the recipe's order, each with the directory that it lies or will lie in.

    Args:
        recipe: the recipe.
        folder: of trained checkpoints.
        hashes: as made by `input_hashes`.
    """
    found = [Model("base", "base", Path(recipe.resolve(recipe.base)), hashes["base"])]
    specs: dict[str, TrainSpec] = {}
    for kind, entries in (("expert", recipe.experts), ("baseline", recipe.baselines)):
        for name, entry in entries.items():
            if isinstance(entry, ExistingExpert):
                found.append(Model(name, kind, Path(recipe.resolve(entry.path)), hashes[f"experts.{name}"]))
                continue
            specs[name] = _spec(recipe, name, entry)
            digest = _digest(entry.trainer, specs[name], hashes)
            placement = _placement(recipe, entry)
            found.append(Model(name, kind, folder / digest, digest, entry.trainer, specs[name], placement))
    return tuple(found)


def train(run: Run, missing: Sequence[Model], display: Display) -> None:
    """Train models, each as one Ray Tune trial around a Ray Train worker group.

    Raises:
        TrainingFailed: naming each model that failed and why; the others are kept.
    """
    from cluster.trials import run_trials

    trainers = run.recipe.cluster.trainers
    per_trial = {"CPU": trainers.cpus * trainers.workers, "GPU": trainers.gpus * trainers.workers}
    bars = {}
    with display.bars():
        for index, model in enumerate(missing):
            assert model.spec is not None
            bars[index] = display.bar(model.name, model.spec.steps)

        def live(index: int, metrics: Mapping[str, Any]) -> None:
            if "step" in metrics and "loss" in metrics:
                bars[index].update(metrics["step"], f"loss {metrics['loss']:.3f}")

        outcomes = run_trials(
            partial(_trial, storage=str(run.scratch / "train"), placement=trainers.model_dump()),
            [_config(run, model) for model in missing],
            name="experts",
            storage=fresh(run.scratch / "tune"),
            resources=[{}],
            concurrency=_concurrency(per_trial),
            on_report=live,
            time_limit_s=START_LIMIT_S + sum(m.spec.steps * SECONDS_PER_STEP_LIMIT for m in missing if m.spec),
        )
    failed = []
    for model, outcome in zip(missing, outcomes, strict=True):
        if outcome.error is not None:
            failed.append(f"{model.name}: {outcome.error}")
        log(
            run,
            "trained" if outcome.error is None else "training failed",
            name=model.name,
            error=outcome.error,
        )
    if failed:
        raise TrainingFailed("\n".join(failed))


def training_record(model: Model) -> dict[str, Any] | None:
    """What the training left about itself: loss by step, tokens by source, seconds; None for what was not trained."""
    file = model.path / "training.json"
    if model.spec is None or not file.is_file():
        return None
    record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return record


def is_trained(model: Model) -> bool:
    """Whether the model lies where it should: `training.json` is in a directory that appears whole or not at all."""
    return model.spec is None or (model.path / "training.json").is_file()


def missing(models: Iterable[Model]) -> list[Model]:
    """The models that do not exist yet; two of the same content are one."""
    by_path = {model.path: model for model in models if not is_trained(model)}
    return list(by_path.values())


def fresh(folder: Path) -> Path:
    """The folder, emptied: Tune would take what an earlier run of the same name left there for its own state."""
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def _config(run: Run, model: Model) -> dict[str, Any]:
    assert model.spec is not None
    work = run.scratch / "checkpoints" / model.hash
    return {
        "name": model.name,
        "trainer": model.trainer,
        "spec": asdict(model.spec),
        "placement": asdict(model.placement),
        "out": str(model.path),
        "work": str(work),
    }


def _trial(config: dict[str, Any], report: Any, *, storage: str, placement: dict[str, Any]) -> None:
    """The body of one Tune trial: a worker group that trains one model."""
    from cluster.training import run_workers

    run_workers(
        _loop,
        config,
        name=Path(config["out"]).name,
        storage=Path(storage),
        workers=placement["workers"],
        cpus=placement["cpus"],
        gpus=placement["gpus"],
        report=report,
    )


def _loop(config: dict[str, Any], report: Any) -> None:
    """The body of every worker."""
    from trainers._schema import run_trainer
    from trainers._types import placement_from_dict, spec_from_dict

    run_trainer(
        config["trainer"],
        spec_from_dict(config["spec"]),
        out=config["out"],
        work=config["work"],
        report=report,
        placement=placement_from_dict(config["placement"]),
    )


def _concurrency(per_trial: Mapping[str, float]) -> int:
    """As many trainings at once as the cluster holds: Tune does not see what the worker groups take (Ray docs)."""
    import ray

    have = ray.cluster_resources()
    fits = [int(have.get(kind, 0.0) / amount + 1e-9) for kind, amount in per_trial.items() if amount > 0]
    return max(1, min(fits, default=1))


def _spec(recipe: Recipe, name: str, entry: TrainedExpert | TrainedBaseline) -> TrainSpec:
    mix = [(data, share) for data, share in entry.mix.items() if share > 0]
    sources = tuple(_source(recipe, data, recipe.data[data], share) for data, share in mix)
    return TrainSpec(
        base=recipe.resolve(recipe.base),
        sources=sources,
        languages=tuple(entry.languages),
        steps=recipe.steps(name),
        batch=entry.batch,
        learning_rate=entry.learning_rate,
        warmup=entry.warmup,
        schedule=entry.schedule,
        weight_decay=entry.weight_decay,
        max_length=entry.max_length,
        dtype=entry.dtype,
        seed=entry.seed,
        options=check_options(entry.trainer, {}),
    )


def _placement(recipe: Recipe, entry: TrainedExpert | TrainedBaseline) -> Placement:
    return Placement(zero=recipe.cluster.trainers.zero, save_every=entry.save_every)


def _source(recipe: Recipe, name: str, source: DataSource, share: float) -> Source:
    path = recipe.source(source).path
    return Source(name, path, local_files(recipe, source), tuple(source.columns.items()), share, source.split)


def local_files(recipe: Recipe, source: DataSource) -> tuple[str, ...]:
    """Absolute files of a data source, globs expanded in sorted order; () for a data set on the hub.

    Raises:
        UserError: a file that is not there.
    """
    found: list[str] = []
    for pattern in recipe.source(source).files:
        matched = sorted(glob.glob(pattern)) if glob.has_magic(pattern) else [pattern]
        if not matched or not all(Path(file).is_file() for file in matched):
            raise UserError(Problem(recipe.file, None, "", "there is no such file", pattern))
        found += matched
    return tuple(found)


def _input(section: str, name: str, file: str) -> str:
    return f"{section}.{name}: {file}"


def _digest(trainer: str, spec: TrainSpec, hashes: Mapping[str, str]) -> str:
    """Hash of what the weights depend on: contents instead of paths, and not where or how it is trained."""
    neutral = asdict(replace(spec, base=hashes["base"]))
    for source in neutral["sources"]:
        source["files"] = [hashes[_input("data", source["name"], file)] for file in source["files"]]
    content = json.dumps([trainer, neutral], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()[:16]
