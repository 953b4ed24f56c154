"""The sbatch script: linted, and run with real Ray processes where `srun` and `scontrol` are stand-ins."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from cluster._errors import InputError
from cluster.deploy.job import GIB, Group, Job, Wishes
from cluster.deploy.slurm import Slurm, manifests

from ...end_to_end.world import ENVIRONMENT, small_world
from .jobs import CPU, GPU
from .stubs import write_stubs

LIMIT_S = 280.0
WISHES, PLACE = Wishes(), Slurm()


def script(job: Job = GPU, wishes: Wishes = WISHES, place: Slurm = PLACE) -> str:
    (text,) = manifests(job, wishes, place, "/opt/our env/bin").values()
    return text


@pytest.mark.parametrize("job", [GPU, CPU], ids=lambda job: job.name)
def test_a_shell_and_its_linter_accept_it(job: Job, tmp_path: Path) -> None:
    file = tmp_path / "x.sbatch"
    file.write_text(script(job, place=Slurm(setup=("module load cuda",), directives=("--constraint=a100",))))
    assert "@" not in re.sub(
        r"[$]{HOSTS\[@\]\S*|[$]{#HOSTS\[@\]}|[$]{steps\[@\]}|B:USR1@300|[$]@", "", file.read_text()
    )
    subprocess.run(["bash", "-n", str(file)], check=True, timeout=60)
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run(["shellcheck", str(file)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


def test_directives_come_from_the_recipe() -> None:
    found = dict(
        re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", script(place=Slurm("2-00:00:00", "gpu", "us")), re.MULTILINE)
    )
    assert found == {
        "job-name": "mergefront-six-languages",
        "nodes": "2",
        "ntasks-per-node": "1",
        "cpus-per-task": "65",
        "gpus-per-node": "8",
        "mem": "278G",
        "time": "2-00:00:00",
        "partition": "gpu",
        "account": "us",
        "output": "mergefront-six-languages-%j.log",
        "open-mode": "append",
        "signal": "B:USR1@300",
        "requeue": "",
    }
    assert "gpus-per-node" not in script(CPU)


def test_names_are_quoted_and_secrets_are_asked_for() -> None:
    text = script(CPU)
    assert "RECIPE='/data/it'\"'\"'s here/recipe.yaml'" in text
    assert "OUT='/data/it'\"'\"'s here/runs/demo'" in text
    assert "export PATH='/opt/our env/bin':\"$PATH\"" in text
    assert ': "${OPENAI_API_KEY:?the recipe needs OPENAI_API_KEY: export it before sbatch}"' in script(GPU)


@pytest.mark.parametrize(
    ("wishes", "place", "says"),
    [
        (Wishes(image="reg/mergefront:1-cuda"), Slurm(), "--image: Slurm runs what --setup activates"),
        (Wishes(most=4), Slurm(), "--max-nodes: an allocation does not grow"),
        (Wishes(), Slurm(directives=("constraint=a100",)), "--sbatch: an option of sbatch"),
        (Wishes(), Slurm(setup=("a\nb",)), "one line each: --setup and --sbatch"),
    ],
)
def test_what_does_not_fit_is_one_line(wishes: Wishes, place: Slurm, says: str) -> None:
    with pytest.raises(InputError, match=re.escape(says)) as error:
        script(GPU, wishes, place)
    assert "\n" not in str(error.value)


class Allocation:
    """Two nodes that are both this machine, and the script on them."""

    def __init__(self, folder: Path, recipe: Path) -> None:
        job = Job("dry", str(recipe), recipe.read_text(), (Group(2, 0.9, 0, GIB),), (), "run", "cpu")
        (text,) = manifests(job, Wishes(nodes=2, cpus=2), Slurm(), str(Path(sys.executable).parent)).values()
        self.file = folder / "dry.sbatch"
        self.file.write_text(text)
        self.log, self.calls = folder / "out.log", folder / "calls.log"
        number = str(os.getpid() % 9000 + 100_000)
        self.ray = Path(f"/tmp/mergefront-{number}")
        self.environment = {
            **ENVIRONMENT,
            "PATH": f"{write_stubs(folder / 'stubs')}:{os.environ['PATH']}",
            "SLURM_STUBS_LOG": str(self.calls),
            "SLURM_JOB_ID": number,
            "SLURM_JOB_NODELIST": "node1,node2",
            "MERGEFRONT_HEAD_IP": "127.0.0.1",
        }

    def start(self, **more: str) -> subprocess.Popen[str]:
        output = self.log.open("a")
        return subprocess.Popen(
            ["bash", str(self.file)], stdout=output, stderr=output, text=True, env={**self.environment, **more},
            start_new_session=True,
        )  # fmt: skip

    def left_behind(self) -> list[str]:
        found = []
        for process in psutil.process_iter():
            try:
                if str(self.ray) in " ".join(process.cmdline()):
                    found.append(f"{process.pid} {process.name()}")
            except psutil.Error:
                continue
        return found


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(900)
def test_two_nodes_a_time_limit_and_the_same_job_again(tmp_path: Path) -> None:
    recipe = small_world(tmp_path / "world", baseline=False)
    here = Allocation(tmp_path, recipe)
    run = recipe.parent / "run"
    driver = here.start()
    try:
        wait_for(lambda: len(list(run.glob("experts/*/training.json"))) == 2, driver, here)
        driver.send_signal(signal.SIGUSR1)  # what Slurm sends before the time limit
        assert driver.wait(timeout=LIMIT_S) == 0, here.log.read_text()
    finally:
        driver.kill()
    assert "the time limit is near; queued again" in here.log.read_text()
    assert f"scontrol requeue {here.environment['SLURM_JOB_ID']}" in here.calls.read_text()
    assert not (run / "report.html").exists()
    assert here.left_behind() == []
    assert not here.ray.exists()
    trained = {file: file.stat().st_mtime_ns for file in run.glob("experts/*/training.json")}

    again = here.start(SLURM_RESTART_COUNT="1")
    try:
        assert again.wait(timeout=2 * LIMIT_S) == 0, here.log.read_text()
    finally:
        again.kill()
    assert (run / "report.html").is_file()
    assert {file: file.stat().st_mtime_ns for file in run.glob("experts/*/training.json")} == trained
    assert here.left_behind() == []


def wait_for(ready: Callable[[], bool], driver: subprocess.Popen[Any], here: Allocation) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not ready():
        assert driver.poll() is None, f"ended early:\n{here.log.read_text()}"
        assert time.monotonic() < deadline, f"never came so far:\n{here.log.read_text()}"
        time.sleep(0.1)


def test_requeues_have_a_limit() -> None:
    assert "MOST_REQUEUES=${MERGEFRONT_MOST_REQUEUES:-30}" in script(replace(CPU))
