"""Dockerfiles: a linter's opinion, and what it does not look at. No image is built here."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FILES = sorted((ROOT / "docker").glob("Dockerfile.*"))


def test_there_is_one_for_each_kind() -> None:
    assert [file.suffix for file in FILES] == [".cpu", ".cuda", ".vllm"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_hadolint_finds_nothing(file: Path) -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("hadolint")), str(file)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_images_are_pinned_and_end_without_rights(file: Path) -> None:
    text = re.sub(r"\\\n", " ", file.read_text())
    instructions = [line.split(maxsplit=1) for line in text.splitlines() if re.match(r"[A-Z]+ ", line)]
    bases = [value.split()[0] for name, value in instructions if name == "FROM"]
    assert all(re.search(r":\S*\d+\.\d+", base) for base in bases), "a base without a version"
    assert [value for name, value in instructions if name == "USER"][-1].startswith("1000")
    installs = [value for name, value in instructions if name == "RUN" and "pip install" in value]
    assert "constraints.txt" in " ".join(value for name, value in instructions if name == "COPY")
    assert all("-c constraints.txt" in value or "-c ours.txt" in value or "--no-deps" in value for value in installs)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (named,) = re.findall(r"'\.\[(.*?)\]'", text)
    assert set(named.split(",")) <= set(extras)
    copied = {value.split()[0] for name, value in instructions if name == "COPY" and "--from" not in value}
    assert {"mergefront.py", "search", "trainers", "mergers", "evaluators", "cluster"} <= copied


def test_the_context_holds_what_is_copied_and_no_more() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied: set[str] = set()
    for file in FILES:
        for line in file.read_text().splitlines():
            if line.startswith("COPY ") and "--from" not in line:
                copied |= set(line.split()[1:-1])
    assert copied == kept
