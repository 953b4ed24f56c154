"""A job as a Ray job: its files, its command, its environment."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from ..session import ENVIRONMENT
from .domain import Domain
from .jobs import Export, Job
from .ray_jobs import RayJobs
from .settings import Settings

RECIPE, LOG = "recipe.yaml", "log.txt"


def launch(job: Job, settings: Settings, domain: Domain, ray: RayJobs) -> None:
    """Submit an attempt of a job; the same attempt twice is one Ray job.

    Raises:
        ClusterGone, Rejected: see `RayJobs.submit`.
        OSError: the job's directory cannot be written.
    """
    folder = settings.job(job.id)
    folder.mkdir(parents=True, exist_ok=True)
    recipe = folder / RECIPE
    partial = recipe.with_name(".recipe.part")
    partial.write_text(job.recipe, encoding="utf-8", newline="")
    partial.replace(recipe)
    command = domain.run_command(recipe, job.directory, folder / "run", settings.elastic)
    ray.submit(job.submission, _shell(command, folder / LOG), _environment(job))


def launch_export(export: Export, settings: Settings, domain: Domain, ray: RayJobs) -> None:
    """Submit the export of a point; raises as `launch` does."""
    folder = settings.job(export.job)
    (folder / "exports").mkdir(exist_ok=True)
    command = domain.export_command(folder / "run", export.point, export_place(settings, export.job, export.point))
    ray.submit(export.submission, _shell(command, folder / "exports.txt"), ENVIRONMENT)


def export_place(settings: Settings, job: str, point: str) -> Path:
    """Where the checkpoint of a point that was asked for lies."""
    return settings.job(job) / "exports" / point


def _shell(command: tuple[str, ...], log: Path) -> str:
    # `exec`: a signal to the job reaches the run itself. A log of our own, not Ray's: it spans attempts and clusters.
    return f"exec {shlex.join(command)} >> {shlex.quote(str(log))} 2>&1"


def _environment(job: Job) -> dict[str, str]:
    kept = ("HF_HUB_OFFLINE", "HF_HOME", "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "PGPASSWORD")
    own = {name: os.environ[name] for name in kept if name in os.environ}
    # The driver writes lines and not bars; they are for a log.
    return {**ENVIRONMENT, **own, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1", "MERGEFRONT_JOB": job.id}
