"""The star: `search` composes four leaves that know nothing of each other, and files stay small."""

from __future__ import annotations

import ast
import statistics
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LEAVES = ("trainers", "mergers", "evaluators", "cluster")
PACKAGES = ("search", *LEAVES)
WITHOUT_RAY = ("mergers", "evaluators")


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(file: Path) -> list[tuple[str, int]]:
    """Top-level names that a file imports absolutely, anywhere in it, with their lines."""
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name.split(".")[0], node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.append((node.module.split(".")[0], node.lineno))
    return found


def climbs_out(file: Path) -> list[int]:
    """Lines of relative imports that leave the file's top-level package."""
    depth = len(file.relative_to(ROOT).parts) - 1
    return [
        node.lineno
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level > depth
    ]


@pytest.mark.parametrize("leaf", LEAVES)
def test_a_leaf_imports_neither_another_leaf_nor_search(leaf: str) -> None:
    forbidden = {*PACKAGES, "mergefront", "tests", "benchmarks"} - {leaf}
    wrong = [
        f"{file}:{line} imports {name}" for file in files(leaf) for name, line in imported(file) if name in forbidden
    ]
    assert not wrong


@pytest.mark.parametrize("package", WITHOUT_RAY)
def test_merging_and_scoring_need_no_ray(package: str) -> None:
    assert not [
        f"{file}:{line}" for file in files(package) for name, line in imported(file) if name in ("ray", "optuna")
    ]


def test_the_cluster_knows_nothing_of_models() -> None:
    unknown = {"torch", "transformers", "safetensors", "optuna", "trl", "deepspeed"}
    assert not [f"{f}:{line} {name}" for f in files("cluster") for name, line in imported(f) if name in unknown]


@pytest.mark.parametrize("package", PACKAGES)
def test_relative_imports_stay_inside_their_package(package: str) -> None:
    assert not [f"{file}:{lines}" for file in files(package) if (lines := climbs_out(file))]


@pytest.mark.parametrize("package", PACKAGES)
def test_package_files_hold_a_docstring_and_nothing_else(package: str) -> None:
    # A distribution that overwrites one of them then breaks nothing by it, and imports stay cheap.
    (statement,) = ast.parse((ROOT / package / "__init__.py").read_text(encoding="utf-8")).body
    assert isinstance(statement, ast.Expr)
    assert "Part of mergefront." in ast.unparse(statement)


def test_files_are_small() -> None:
    lengths = {file: len(file.read_text(encoding="utf-8").splitlines()) for p in PACKAGES for file in files(p)}
    assert not {str(file.relative_to(ROOT)): length for file, length in lengths.items() if length > 400}
    assert statistics.median(lengths.values()) < 150


def test_nothing_names_this_machine() -> None:
    marks = ("/wo" + "rk/", "/ro" + "ot/", "/op" + "t/wheels")
    texts = [
        file
        for pattern in ("*.py", "*.md", "*.toml", "*.yaml", "*.txt", "*.json", "Makefile")
        for file in ROOT.rglob(pattern)
        if not {".venv", "runs", ".git"} & set(file.relative_to(ROOT).parts)
    ]
    assert not [f"{file}: {mark}" for file in texts for mark in marks if mark in file.read_text(encoding="utf-8")]
