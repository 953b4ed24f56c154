from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import mergefront

ROOT = Path(__file__).resolve().parent.parent
HEAVY = (
    "torch",
    "ray",
    "transformers",
    "optuna",
    "datasets",
    "deepspeed",
    "plotly",
    "pandas",
    "pyarrow",
    "numpy",
    "requests",
)


def test_the_public_list() -> None:
    assert mergefront.__all__ == [
        "Client",
        "Merge",
        "Recipe",
        "Score",
        "Study",
        "StudyPoint",
        "UserError",
        "check",
        "export",
        "front",
        "load_recipe",
        "report",
        "run",
        "search",
        "write_demo",
    ]
    assert dir(mergefront) == sorted([*mergefront.__all__, "__version__"])


@pytest.mark.parametrize("name", mergefront.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    thing = getattr(mergefront, name)
    assert thing.__doc__
    assert thing.__name__ == name


def test_an_unknown_name_says_what_there_is() -> None:
    with pytest.raises(AttributeError, match="no attribute 'pareto'; it has Client, Merge, Recipe"):
        mergefront.pareto  # noqa: B018  # the access is the test


@pytest.mark.parametrize("statement", ["import mergefront", "import search.cli"])
def test_importing_is_cheap(statement: str) -> None:
    code = f"import sys; {statement}; print([n for n in {HEAVY!r} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['mergefront', '--help']\n"
        "from search.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 0\n"
        f"print([n for n in {HEAVY!r} if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip().endswith("[]")


def test_the_guard_names_the_distribution_that_took_a_package(tmp_path: Path) -> None:
    """What `pip install cluster` after ours leaves behind: our files with one `__init__.py` replaced, and a record."""
    for package in ("search", "trainers", "mergers", "evaluators", "cluster"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text((ROOT / package / "__init__.py").read_text())
    (tmp_path / "mergefront.py").write_text((ROOT / "mergefront.py").read_text())
    assert _import_in(tmp_path) == ""
    (tmp_path / "cluster" / "__init__.py").write_text("# somebody else's\n")
    info = tmp_path / "cluster-1.4.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: cluster\nVersion: 1.4.1\n")
    (info / "RECORD").write_text("cluster/__init__.py,,\n")
    assert "the package name 'cluster' belongs to the distribution 'cluster' here" in _import_in(tmp_path)


def _import_in(folder: Path) -> str:
    command = [sys.executable, "-S", "-c", "import sys; sys.path.insert(0, '.'); import mergefront"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60).stderr
