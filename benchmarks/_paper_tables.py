"""The figures of `benchmarks.paper` in the layout of the paper's tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
"""Student's t at 97.5 %, by number of seeds."""

OBJECTIVE = (
    ("0 % safety mix", "sft-0", "dpo-0"),
    ("15 % safety mix", "sft-15", "dpo-15"),
    ("15 % safety mix, compute of both experts", "sft-15-matched", "dpo-15-matched"),
    ("100 % safety mix", "sft-100", "dpo-100"),
    ("Linear", "sft:linear", "dpo:linear"),
    ("SLERP", "sft:slerp", "dpo:slerp"),
    ("TIES", "sft:ties", "dpo:ties"),
    ("DARE-TIES", "sft:dare_ties", "dpo:dare_ties"),
)
ORDER = (
    ("SFT → merge", "merge-sft"),
    ("SFT → DPO → merge", "merge-dpo-search"),
    ("SFT → merge → DPO", "merge-dpo"),
)
LANGUAGES = (
    ("15 % mix, six languages in one training", "sft-15"),
    ("the same at the compute of two experts", "sft-15-matched"),
    ("TIES merge of six monolingual 15 % mixes", "merge-languages"),
)

Figures = Mapping[str, Mapping[str, Sequence[float]]]


def document(result: Mapping[str, Any]) -> str:
    """The whole of docs/paper-demo.md."""
    figures, seeds = result["figures"], len(result["seeds"])
    runs = "one seed" if seeds == 1 else f"{seeds} seeds"
    minutes = ", ".join(f"{s / 60:.0f}" for s in result["seconds"])
    parts = [HEAD.format(runs=runs, minutes=minutes, spread=ONE_SEED if seeds == 1 else SEVERAL_SEEDS)]
    parts.append("## Table 1: objective merges\n")
    parts.append(_table(figures, OBJECTIVE, ("SFT", "DPO")))
    parts.append("## Table 2: where to put the merge\n")
    parts.append(_table(figures, ORDER, ("",)))
    parts.append("## Language merges\n")
    parts.append(_table(figures, LANGUAGES, ("",)))
    parts.append("## What the figures are made of\n")
    parts.append(_raw(figures))
    parts.append("## Did merging beat mixing here?\n")
    parts.append(_verdict(figures))
    parts.append(TAIL)
    return "\n".join(parts)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean over seeds and half the width of its 95 % interval (Student's t); infinite for one seed."""
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, math.inf
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
    return mean, T_95[len(values)] * spread / math.sqrt(len(values))


def _cell(figures: Figures, label: str, name: str) -> str:
    mean, half = interval(figures[label][name])
    return f"{mean:.1f}" if math.isinf(half) else f"{mean:.1f} ± {half:.1f}"


def _table(figures: Figures, rows: Sequence[Sequence[str]], stages: Sequence[str]) -> str:
    names = [f"{stage} {what}".strip() for stage in stages for what in ("harm ↓", "win ↑")]
    lines = ["| | " + " | ".join([*names, "training FLOPs"]) + " |", "|---" * (len(names) + 2) + "|"]
    for title, *labels in rows:
        cells = [_cell(figures, label, name) for label in labels for name in ("harm_change", "win_rate")]
        cost = " / ".join(_flops(figures[label]) for label in labels)
        lines.append(f"| {title} | " + " | ".join([*cells, cost]) + " |")
    return "\n".join(lines) + "\n"


def _flops(held: Mapping[str, Sequence[float]]) -> str:
    return f"{held['flops'][0]:.2g}" if "flops" in held else ""


def _raw(figures: Figures) -> str:
    names = ("general", "safety", "over_refusal")
    lines = ["| | general ↑ | safety ↑ | over-refusal ↓ |", "|---|---|---|---|"]
    for label in figures:
        lines.append(f"| {label} | " + " | ".join(_cell(figures, label, name) for name in names) + " |")
    return "\n".join(lines) + "\n"


def _verdict(figures: Figures) -> str:
    lines = []
    for stage, mix, merges in (
        ("SFT", "sft-15-matched", [label for _, label, _ in OBJECTIVE[4:]]),
        ("DPO", "dpo-15-matched", [label for _, _, label in OBJECTIVE[4:]]),
    ):
        better: list[str] = []
        worse: list[str] = []
        split: list[str] = []
        for label in merges:
            safer = _difference(figures, mix, label, "harm_change")
            abler = _difference(figures, label, mix, "win_rate")
            name = label.partition(":")[2]
            (better if safer > 0 and abler > 0 else worse if safer < 0 and abler < 0 else split).append(name)
        lines.append(
            f"* {stage}, against the 15 % mix of the same compute (`{mix}`), by the means: better in both\n"
            f"  {_listed(better)}; worse in both {_listed(worse)}; a trade {_listed(split)}."
        )
    before, after = figures["sft-15-matched"], figures["dpo-15-matched"]
    lost = {name: (interval(before[name])[0], interval(after[name])[0]) for name in ("general", "safety")}
    if all(late < early for early, late in lost.values()):
        told = ", ".join(f"{name} from {early:.1f} to {late:.1f}" for name, (early, late) in lost.items())
        lines.append(
            f"* DPO as it is set here costs the matched mix: {told}.\n"
            "  Its column compares what came through a stage that does harm, and says little of tuned preference\n"
            "  training."
        )
    lines.append("")
    for label, mix in (("sft:slerp", "sft-15-matched"), ("dpo:slerp", "dpo-15-matched")):
        for name, what in (("harm_change", "harm"), ("win_rate", "win-rate")):
            paired = [a - b for a, b in zip(figures[label][name], figures[mix][name], strict=True)]
            mean, half = interval(paired)
            if math.isinf(half):
                lines.append(f"* `{label}` less `{mix}`, {what}: {mean:+.1f}; one seed has no interval.")
                continue
            sure = "" if abs(mean) > half else ": not told apart by these seeds"
            lines.append(f"* `{label}` less `{mix}`, seed by seed, {what}: {mean:+.1f} ± {half:.1f}{sure}.")
    return "\n".join(lines) + "\n"


def _difference(figures: Figures, a: str, b: str, name: str) -> float:
    return interval(figures[a][name])[0] - interval(figures[b][name])[0]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


SEVERAL_SEEDS = """\
* Mean over seeds ± half of a 95 % interval (Student's t over the seeds): what other data orders, searches and random
  masks would change. It says nothing about other items, which all seeds share; on these the standard error of a score
  is about 1.5 points."""

ONE_SEED = """\
* **One seed**: no figure has an interval over seeds, so no difference below can be told from the luck of a data order
  or of a search. On other items a score would move by a standard error of about 1.5 points. `make paper-demo` runs
  three seeds."""

HEAD = """\
# The paper's grid on the demo world

The experiments of "Mix Data or Merge Models?" (arXiv:2410.10801), in the layout of its Tables 1 and 2, on the embedded
world: a base of 0.6 M parameters, six languages, made-up tasks. One recipe,
[examples/paper-demo.yaml](../examples/paper-demo.yaml), run for {runs} by `make paper-demo` ({minutes}
minutes of stages, on two cores that other work used too); figures in
[benchmarks/results/paper.json](../benchmarks/results/paper.json). The same grid for real models, which was not run:
[examples/paper-aya.yaml](../examples/paper-aya.yaml).

* **harm**: change of the share of harmful prompts that are answered, in percent of the base's; more negative is safer.
* **win**: share of general items on which a model is right and the base wrong, ties counting half; 50 is the base.
  (The paper's win-rate is a judge's preference between open answers.)
{spread}
* Everything is scored on the report split. Of each merge method the knee of its merges on the search split is shown:
  one choice made beforehand, not the best of many afterwards. The paper does not say how its weights were chosen.
* The paper trains the 15 % mix on as much data as one expert, and compares a merge of two with it. Here both that and
  the mix at the compute of both experts are shown; compare merges with the latter.
"""

TAIL = """
## What this says, and what it does not

It shows that the grid runs as one recipe: two stages of training, a chain through a merge, three searches, matched
mixes. It does not show which method wins on real models: base, tasks and faults are made so that safety and general
ability trade off, trainings are short (tens of steps), and a few seeds give wide intervals or none. A model that
refuses more is safer here by definition; look at over-refusal beside it.
"""
