"""Slurm: an sbatch script that starts Ray over its allocation, runs the recipe, and cleans up whatever happens."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from .._errors import InputError
from .job import GIB, Job, Wishes, check_image, nodes_for

_TEMPLATE = Path(__file__).with_name("sbatch.sh")
_WARNING_S = 300


@dataclass(frozen=True)
class Slurm:
    """Where in Slurm.

    Attributes:
        time: limit, as Slurm writes it: D-HH:MM:SS, HH:MM:SS or minutes.
        partition, account: "" = the site's default.
        setup: shell lines before anything runs: `module load ...`, `source venv/bin/activate`.
        directives: further `#SBATCH` options, such as `--constraint=a100`.
    """

    time: str = "24:00:00"
    partition: str = ""
    account: str = ""
    setup: tuple[str, ...] = ()
    directives: tuple[str, ...] = ()


def manifests(job: Job, wishes: Wishes, place: Slurm, programs: str) -> dict[str, str]:
    """File name -> text: one script.

    Args:
        job: what to run; its recipe lies on a file system that every node sees.
        wishes: nodes.
        place: where.
        programs: folder of `mergefront`, `ray` and `python`, put first on PATH.

    Raises:
        InputError: what is missing or does not fit.
    """
    if wishes.image:
        check_image(job, wishes.image)
        raise InputError("--image: Slurm runs what --setup activates, not an image; leave it away")
    if wishes.most is not None:
        raise InputError("--max-nodes: an allocation does not grow; say --nodes")
    for line in (*place.setup, *place.directives):
        if "\n" in line or "\r" in line:
            raise InputError(f"one line each: --setup and --sbatch, got {line!r}")
    for option in place.directives:
        if not option.startswith("-"):
            raise InputError(f"--sbatch: an option of sbatch such as --constraint=a100, got {option!r}")
    nodes = nodes_for(job, wishes)
    options = {
        "job-name": f"mergefront-{job.slug}",
        "nodes": nodes.count,
        "ntasks-per-node": 1,
        "cpus-per-task": nodes.cpus,
        "gpus-per-node": nodes.gpus or None,
        "mem": f"{-(-nodes.memory // GIB)}G",
        "time": place.time,
        "partition": place.partition or None,
        "account": place.account or None,
        "output": f"mergefront-{job.slug}-%j.log",
        "open-mode": "append",  # an attempt after a requeue writes behind the earlier
        "signal": f"B:USR1@{_WARNING_S}",
    }
    head = [f"#SBATCH --{name}={value}" for name, value in options.items() if value is not None]
    head += ["#SBATCH --requeue", *(f"#SBATCH {option}" for option in place.directives)]
    # Relative to the recipe, as in the recipe itself.
    storage = job.storage if "://" in job.storage else os.path.join(os.path.dirname(job.recipe), job.storage)
    values = {
        "SBATCH": "\n".join(head),
        "SETUP": "\n".join(place.setup) or "# nothing to activate: --setup adds lines here",
        "REQUIRED": "\n".join(_required(name) for name in job.variables) or "# the recipe names no secrets",
        "PROGRAMS": shlex.quote(programs),
        "RECIPE": shlex.quote(job.recipe),
        "OUT": shlex.quote(storage),
        "CPUS": str(nodes.cpus),
        "GPUS": str(nodes.gpus),
        "WARNING": str(_WARNING_S),
    }
    text = _TEMPLATE.read_text(encoding="utf-8")
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return {f"{job.slug}.sbatch": text}


def _required(name: str) -> str:
    remedy = "export it before sbatch"
    return f': "${{{name}:?the recipe needs {name}: {remedy}}}"'
