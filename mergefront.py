"""mergefront: find the best merge of fine-tuned language models.

The public Python API. Names are loaded when they are first used, so `import mergefront` loads neither torch nor ray.

    import mergefront

    recipe = mergefront.load_recipe("recipe.yaml")
    document = mergefront.run(recipe, "runs/mine")
    print(document["picks"])

or, for scores of one's own, without a recipe and without Ray:

    study = mergefront.search(score, {"weight": (0.0, 1.0)}, objectives={"accuracy": "max"}, budget=40)
    print(study)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PACKAGES = ("search", "trainers", "mergers", "evaluators", "cluster")
_MARK = "Part of mergefront."  # in the docstring of each of them
_HOMES = {
    "Client": "cluster.client",
    "Merge": "mergers._spec",
    "Recipe": "search.recipe",
    "Score": "evaluators._types",
    "Study": "search._study.points",
    "StudyPoint": "search._study.points",
    "UserError": "search.errors",
    "check": "search.check",
    "export": "search.api",
    "front": "search.api",
    "load_recipe": "search.recipe",
    "report": "search.api",
    "run": "search.api",
    "search": "search.function",
    "write_demo": "search.api",
}

__all__ = [
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

if TYPE_CHECKING:
    from cluster.client import Client
    from evaluators._types import Score
    from mergers._spec import Merge
    from search._study.points import Study, StudyPoint
    from search.api import export, front, report, run, write_demo
    from search.check import check
    from search.errors import UserError
    from search.function import search
    from search.recipe import Recipe, load_recipe


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mergefront' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])


def _guard() -> None:
    """Refuse to start where another distribution owns one of our five folder names.

    pip overwrites files of the same name without a word: PyPI has a distribution `cluster`, and installing it replaces
    our `cluster/__init__.py`. Looking at the files beside this one, and at what would be imported, costs about a
    millisecond; only when that fails are the installed distributions read, to name the culprit.
    """
    from importlib.util import find_spec
    from pathlib import Path

    here = Path(__file__).resolve().parent
    for name in _PACKAGES:
        spec = find_spec(name)
        found = None if spec is None or spec.origin is None else Path(spec.origin).resolve()
        ours = here / name / "__init__.py"
        if found == ours and _MARK in ours.read_text(encoding="utf-8"):
            continue
        from importlib.metadata import packages_distributions

        owners = [owner for owner in packages_distributions().get(name, ()) if owner != "mergefront"]
        whose = f"the distribution {owners[0]!r}" if owners else f"{found or 'nothing'}"
        raise ImportError(
            f"mergefront: the package name {name!r} belongs to {whose} here; "
            "install mergefront into a virtual environment of its own, or uninstall the other one"
        )


_guard()
