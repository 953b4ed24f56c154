"""The machine as this process may use it: containers show the whole one's figures and enforce their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

SHM_LEAST = 2**30
_CGROUP = Path("/sys/fs/cgroup")


def lines() -> Iterator[str]:
    """CPUs, memory, limits, disks, GPUs."""
    import psutil

    from search._check.machine import machine_cpus, machine_memory, size

    memory = psutil.virtual_memory()
    yield f"cpus: {machine_cpus()} usable of {os.cpu_count()}; load {os.getloadavg()[0]:.1f}"
    yield f"memory: {size(memory.available)} free of {size(machine_memory())}"
    yield f"container: {', '.join(_limits()) or 'no limits'}"
    for name, folder in disks().items():
        yield f"disk {name}: {size(shutil.disk_usage(folder).free)} free in {folder}"
    yield from _gpus()


def warnings() -> Iterator[str]:
    """What is too small to go well."""
    from search._check.machine import size

    shm = Path("/dev/shm")
    if shm.is_dir() and (room := shutil.disk_usage(shm).total) < SHM_LEAST:
        remedy = "start the container with --shm-size=2g (Kubernetes: an emptyDir with medium: Memory)"
        yield f"/dev/shm has {size(room)}; Ray's object store then lies on disk: {remedy}"
    for name, folder in disks().items():
        usage = shutil.disk_usage(folder)
        if usage.free < 0.05 * usage.total:
            yield f"disk {name} ({folder}) is {1 - usage.free / usage.total:.0%} full; Ray stops taking work at 95 %"


def disks() -> dict[str, Path]:
    """Where a run writes: here, Ray's sessions, fetched checkpoints."""
    from cluster.files import cache_folder

    cache = cache_folder()
    while not cache.exists():
        cache = cache.parent
    return {"here": Path.cwd(), "temporary": Path(tempfile.gettempdir()), "cache": cache}


def _limits() -> list[str]:
    """Limits of the control group (version 2) around this process."""
    names = {"memory.max": "memory", "cpu.max": "cpu quota and period", "pids.max": "processes"}
    found = []
    for file, name in names.items():
        try:
            text = (_CGROUP / file).read_text().strip()
        except OSError:
            continue
        if not text.startswith("max"):
            found.append(f"{name} {text}")
    return found


def _gpus() -> Iterator[str]:
    import torch

    count = torch.cuda.device_count()
    names = ", ".join(torch.cuda.get_device_name(index) for index in range(count))
    cuda = torch.version.cuda or "none"
    yield f"gpus: {count}{f' ({names})' if names else ''}; torch {torch.__version__}, CUDA {cuda}"
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=index,driver_version,memory.used,memory.total", "--format=csv,noheader"]
        try:
            told = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout
        except (OSError, subprocess.SubprocessError) as error:
            yield f"nvidia-smi fails: {type(error).__name__}"
        else:
            yield from (f"gpu {line}" for line in told.splitlines())
