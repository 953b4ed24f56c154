"""The command line is an interface: its commands, options and exit statuses are frozen here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import typer

from search.cli import app

COMMANDS = {
    "cancel": ("--url", "job"),
    "check": ("--out", "recipe"),
    "demo": ("--candidates", "--out"),
    "deploy": (),
    "doctor": ("path",),
    "export": ("--out", "--pick", "run"),
    "fetch": ("--out", "--pick", "--url", "job"),
    "front": ("--all", "--json", "--objective", "run"),
    "judge-check": ("--evaluator", "--json", "labelled", "recipe"),
    "jobs": ("--json", "--limit", "--state", "--url"),
    "logs": ("--follow", "--url", "job"),
    "merge": ("--adapter", "--rank", "--shard", "--threads", "out", "recipe"),
    "import": ("genome",),
    "inspect": ("--dtype", "models"),
    "methods": (),
    "optuna": ("--out", "run"),
    "report": ("run",),
    "run": ("--cluster", "--directory", "--elastic", "--fork", "--out", "recipe"),
    "score": ("--json", "--split", "model", "recipe"),
    "search": ("--out", "recipe"),
    "serve": (
        "--allow",
        "--allow-code",
        "--attempts",
        "--cluster",
        "--cpus",
        "--database",
        "--elastic",
        "--host",
        "--name",
        "--no-auth",
        "--port",
        "--running",
        "--state",
        "--stop-cluster",
    ),
    "status": ("--follow", "--json", "--url", "job"),
    "submit": ("--directory", "--key", "--priority", "--url", "--wait", "recipe"),
    "token": (),
    "train": ("--out", "recipe"),
}


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the real program in a process of its own."""
    code = [sys.executable, "-c", "from search.cli import main; main()"]
    return subprocess.run([*code, *arguments], capture_output=True, text=True, check=False, timeout=120)


def test_commands_and_options_are_frozen() -> None:
    group = typer.main.get_command(app)
    found = {
        name: tuple(sorted(p.opts[0] if p.param_type_name == "option" else str(p.name) for p in sub.params))
        for name, sub in group.commands.items()  # type: ignore[attr-defined]  # typer calls its group a Command
    }
    assert {name: tuple(o for o in options if o != "--help") for name, options in found.items()} == COMMANDS


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("run", "nowhere.yaml"), "nowhere.yaml: "),
        (("check", "nowhere.yaml"), "nowhere.yaml: "),
        (("front", "nowhere"), "nowhere: there is no such directory"),
        (("export", "nowhere", "--pick", "knee", "--out", "x"), "nowhere: there is no such directory"),
        (("report", "."), "must be a run directory"),
        (("merge", "nowhere.yaml", "out"), "nowhere.yaml: cannot be read"),
        (("serve", "--allow", "nowhere"), "--allow: there is no such directory"),
        (("serve", "--no-auth", "--host", "0.0.0.0"), "--no-auth: whoever reaches 0.0.0.0 could run jobs"),
        (("submit", "nowhere.yaml"), "nowhere.yaml: cannot be read"),
        (("token", "list", "--state", "nowhere"), "--state: there is no service in this directory"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments: tuple[str, ...], says: str, tmp_path: Path) -> None:
    done = command(*arguments)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("mergefront: ")
    assert says in line
    assert done.stdout == ""


def test_unknown_commands_and_options_are_status_2() -> None:
    assert command("frnt").returncode == 2
    assert command("front", "x", "--jason").returncode == 2


def test_methods_lists_what_a_recipe_can_name() -> None:
    done = command("methods")
    assert done.returncode == 0, done.stderr
    for name in ("linear", "slerp", "task_arithmetic", "ties", "dare_ties", "sft", "exact_match", "refusal", "nsga2"):
        assert name in done.stdout


def test_doctor_tells_versions() -> None:
    done = command("doctor")
    assert done.returncode == 0, done.stderr
    for name in ("torch", "ray", "optuna", "deepspeed", "cpus", "memory"):
        assert name in done.stdout
