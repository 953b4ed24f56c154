"""From a recipe to a job, and to files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from cluster._errors import InputError
from search.cli import app
from search.commands.deploy import job_of, write
from search.errors import UserError

from ..end_to_end.world import small_world

EXAMPLES = Path(__file__).parents[2] / "examples"


def deployed(*arguments: object) -> tuple[Any, BaseException | None]:
    done = CliRunner().invoke(app, ["deploy", *map(str, arguments)])
    return done, None if isinstance(done.exception, SystemExit) else done.exception


def test_a_recipe_with_gpus() -> None:
    job = job_of(EXAMPLES / "judges.yaml")
    actors, workers = job.groups
    assert (actors.count, actors.cpus, actors.gpus) == (4, 4, 1)
    assert (workers.count, workers.cpus, workers.gpus) == (4, 8, 1)
    assert job.image_kind == "cuda"
    assert job.variables == ("OPENAI_API_KEY",)
    assert job.text == (EXAMPLES / "judges.yaml").read_text()
    assert actors.bytes == 0, "the base is not here"


def test_memory_comes_from_the_base(tmp_path: Path) -> None:
    job = job_of(small_world(tmp_path), "s3://bucket/x")
    actors, workers = job.groups
    assert actors.bytes == pytest.approx(4 * 0.5567e6, rel=1e-3)  # float32, 0.5567 M parameters
    assert workers.bytes == 4 * actors.bytes
    assert (job.image_kind, job.variables, job.storage) == ("cpu", (), "s3://bucket/x")


@pytest.mark.parametrize(
    ("target", "file", "options"),
    [
        ("kuberay", "rayjob.yaml", ["--image", "r/m:1-cuda", "--volume", "models", "--secret", "keys"]),
        ("kuberay", "raycluster.yaml", ["--image", "r/m:1", "--volume", "models", "--secret", "keys", "--stay"]),
        ("slurm", "judges.sbatch", ["--partition", "gpu", "--setup", "module load cuda", "--sbatch", "--exclusive"]),
        (
            "ray-up",
            "cluster.yaml",
            ["--provider", "aws", "--image", "r/m", "--share", "/e", "--region", "x", "--instance", "p4d"],
        ),
    ],
)
def test_one_file_is_written_and_nothing_else(target: str, file: str, options: list[str], tmp_path: Path) -> None:
    out = tmp_path / "new" / "job"
    command = [target, EXAMPLES / "judges.yaml", *options, "--memory", "200GiB", "--gpus", "4"]
    done, error = deployed(*command, "--out", out)
    assert error is None, error
    assert done.exit_code == 0, done.output
    assert [entry.name for entry in out.iterdir()] == [file]
    assert done.output.split() == [str(out / file)]
    printed, _ = deployed(*command)
    assert printed.output == (out / file).read_text()
    assert "sk-" not in printed.output
    assert deployed(*command, "--out", out)[1] is None, "the same again is no conflict"
    (out / file).write_text("mine")
    assert "exists and holds something else" in str(deployed(*command, "--out", out)[1])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["kubray", EXAMPLES / "judges.yaml"],
            "deploy: there is no such target, got 'kubray'; did you mean 'kuberay'?",
        ),
        (["kuberay", EXAMPLES / "judges.yaml"], "--image: say which image the pods run"),
        (["slurm", EXAMPLES / "judges.yaml"], "--memory: the base is not here"),
        (["slurm", EXAMPLES / "judges.yaml", "--memory", "much"], "--memory: must be a size in bytes, got 'much'"),
        (["slurm", EXAMPLES / "judges.yaml", "--image", "x"], "--image: Slurm runs what --setup activates"),
        (["ray-up", EXAMPLES / "judges.yaml", "--provider", "awx"], "--provider: must be one of aws, gcp, local"),
        (
            ["kuberay", EXAMPLES / "judges.yaml", "--image", "r/mergefront:1-cpu", "--volume", "v"],
            "--image: the recipe needs GPUs and this image has no CUDA",
        ),
        (["slurm", "nowhere.yaml"], "nowhere.yaml: no such file; check the path"),
        (
            ["slurm", EXAMPLES / "judges.yaml", "--memory", "9GiB", "--storage", "s4://b/x"],
            "--storage: must begin with s3://, gs://, file://, got s4://",
        ),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments: list[object], says: str, tmp_path: Path) -> None:
    _, error = deployed(*arguments)
    assert isinstance(error, UserError | InputError)
    assert error.exit_status == 2
    assert re.search(re.escape(says), str(error))
    assert "\n" not in str(error)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--out: cannot be written"):
        write({"x.yaml": "x"}, tmp_path / "file" / "job")


def test_every_option_says_what_it_is() -> None:
    group = typer.main.get_command(app).commands["deploy"]  # type: ignore[attr-defined]
    assert sorted(group.commands) == ["kuberay", "ray-up", "slurm"]
