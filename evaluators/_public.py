"""Public test sets: what is measured on them is compared with others, so a search must not be aimed at them unsaid."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

PUBLIC = (
    "advbench",
    "agieval",
    "alpaca_eval",
    "arc_challenge",
    "arc_easy",
    "arena_hard",
    "aya_evaluation_suite",
    "aya_redteaming",
    "bbh",
    "belebele",
    "boolq",
    "commonsense_qa",
    "dolly_200",
    "do_not_answer",
    "drop",
    "flores",
    "global_mmlu",
    "gpqa",
    "gsm8k",
    "harmbench",
    "hellaswag",
    "hendrycks_math",
    "humaneval",
    "ifeval",
    "lambada",
    "leaderboard",
    "livecodebench",
    "m_mmlu",
    "mbpp",
    "mgsm",
    "minerva_math",
    "mmlu",
    "mmlu_pro",
    "mt_bench",
    "multijail",
    "ntrex",
    "openbookqa",
    "or_bench",
    "piqa",
    "sciq",
    "squad",
    "strongreject",
    "toxigen",
    "triviaqa",
    "truthfulqa",
    "tydiqa",
    "wikitext",
    "winogrande",
    "wmdp",
    "xcopa",
    "xnli",
    "xquad",
    "xstest",
    "xstorycloze",
    "xwinograd",
)
"""Names that data sets on the hub, lm-eval's tasks and files begin with, in lower case with underscores."""

ALIASES = {
    "ai2_arc": "arc_challenge",
    "competition_math": "hendrycks_math",
    "evalplus": "humaneval",
    "flores_plus": "flores",
    "hendrycks_test": "mmlu",
    "math_500": "hendrycks_math",
    "openai_humaneval": "humaneval",
    "super_glue": "boolq",
    "truthful_qa": "truthfulqa",
}


def public_sets(kind: str, options: Mapping[str, Any], path: str | None, files: tuple[str, ...]) -> tuple[str, ...]:
    """The public test sets that an evaluator's items seem to be, by their names alone; sorted.

    Args:
        kind: of the evaluator.
        options: its options; for `harness` the tasks. lm-eval's own tasks are public, whatever they are called.
        path: of its data: a format, a hub id or a directory; None if it brings its items.
        files: of its data.
    """
    names: list[str] = []
    if kind == "harness":
        tasks = [str(task) for task in options.get("tasks") or ()]
        if not options.get("include"):
            return tuple(sorted({_known(task) or task for task in tasks}))
        names += tasks
    names += [PurePath(file).stem for file in files] or ([path.rpartition("/")[2]] if path else [])
    return tuple(sorted({found for name in names if (found := _known(name))}))


def _known(name: str) -> str | None:
    """The longest public name that `name` is or begins with, up to an underscore."""
    plain = re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()).strip("_")
    fused = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    for text in (fused, plain):
        for known in sorted((*PUBLIC, *ALIASES), key=len, reverse=True):
            if text == known or text.startswith(f"{known}_"):
                return ALIASES.get(known, known)
    return None
