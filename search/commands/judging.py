"""`mergefront judge-check`: a recipe's judges held against people's labels, and what they did and cost so far."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search._check.judges import used
from search.errors import Problem, UserError, suggestion
from search.recipe import Recipe, load_recipe
from search.results.table import columns

if TYPE_CHECKING:
    from evaluators.judges.calibration import Measured, Rate

OBSERVED = (0.02, 0.05, 0.1, 0.2, 0.5)
"""Shares of harmful that the table of corrected ones begins with."""


def judge_check(recipe_file: Path, labelled: Path | None, evaluator: str | None) -> dict[str, Any]:
    """What a judge is worth and has cost.

    Args:
        recipe_file: recipe with judges.
        labelled: file of labelled items; None: nothing is asked.
        evaluator: whose judge, prompt and votes are used; may be left out where one evaluator alone has a judge.

    Returns:
        `judges`: by name, `model`, `endpoint`, `spent` and the `tallies` of its account; with labelled items also
        `evaluator`, `calibration` (`evaluators.judges.calibration.Calibration`) and `corrected`.

    Raises:
        UserError, InputError: bad input.
        Unavailable: the judge is out of reach.
    """
    from evaluators._schema import build
    from evaluators.judges.calibration import calibrate
    from evaluators.judges.probe import probe

    recipe = load_recipe(recipe_file)
    chosen = _chosen(recipe, evaluator)
    if labelled is None:
        return {"judges": _history(recipe)}
    spec = recipe.evaluators[chosen]
    path, judge = next((path, judge) for name, path, judge in used(recipe) if name == chosen)
    found = probe(judge)
    if found.problem:
        raise UserError(recipe.problem(path, found.problem))
    calibration = calibrate(build(spec.kind, spec.options), labelled, recipe.languages)  # type: ignore[arg-type]  # has a judge, so it is one
    whole = calibration.measured[0]
    return {
        "evaluator": chosen,
        "calibration": asdict(calibration),
        "corrected": _corrected(whole),
        "judges": _history(recipe),
    }


def judge_table(found: Mapping[str, Any]) -> str:
    """What `judge_check` found, as text."""
    parts = []
    if "calibration" in found:
        parts.append(_calibration_text(found))
    for name, row in found["judges"].items():
        spent = row["spent"]
        money = "" if row["prices"] is None else f", {spent['money']:.4g} of money"
        tokens = f"{spent['tokens_in']:,} tokens in, {spent['tokens_out']:,} out"
        invalid = f", {spent['invalid']:,} of them no verdict" if spent["invalid"] else ""
        head = f"judge {name} ({row['model']} at {row['endpoint']}): {spent['replies']:,} replies{invalid}, "
        lines = [head + tokens + money]
        for evaluator, tally in row["tallies"].items():
            lines += [f"  {evaluator}: {line}" for line in _tally_lines(tally)]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def judge_summary(recipe: Recipe) -> str:
    """What the recipe's judges did and cost so far, as this machine's cache knows it; "" without judges."""
    found = _history(recipe)
    return judge_table({"judges": found}) if found else ""


def _chosen(recipe: Recipe, evaluator: str | None) -> str:
    judging = [name for name, _, _ in used(recipe)]
    if not judging:
        rule = "no evaluator of this recipe has a judge"
        raise UserError(Problem(recipe.file, None, "evaluators", rule, None, "see docs/judges.md"))
    if evaluator is None and len(judging) == 1:
        return judging[0]
    if evaluator not in judging:
        rule = "must name an evaluator that has a judge"
        raise UserError(Problem("", None, "--evaluator", rule, evaluator, suggestion(evaluator or "", judging)))
    return evaluator


def _history(recipe: Recipe) -> dict[str, Any]:
    from evaluators.judges.cache import Cache, default_file

    rows = {}
    for _, _, judge in used(recipe):
        with Cache(judge.cache or default_file()) as cache:
            spent, tallies = asdict(cache.spent(judge.account)), cache.tallies(judge.account)
        row = {"model": judge.model, "endpoint": judge.endpoint, "prices": judge.prices, "limit": judge.limit}
        rows[judge.name] = row | {"spent": spent, "tallies": tallies}
    return rows


def _corrected(whole: Measured) -> list[dict[str, float]]:
    """Shares that the judge may state, and the true ones that they stand for; as if stated without error."""
    from evaluators._types import Score
    from evaluators.judges.calibration import corrected

    rows: list[dict[str, float]] = []
    if whole.sensitivity is None or whole.specificity is None:
        return rows
    for share in OBSERVED:
        found = corrected(Score(share, 1e-6, 1), whole.sensitivity, whole.specificity, 1)
        if found is not None:
            rows.append({"observed": share, "value": found[0], "low": found[1], "high": found[2]})
    return rows


def _calibration_text(found: Mapping[str, Any]) -> str:
    calibration = found["calibration"]
    rates = [name for name in ("accuracy", "sensitivity", "specificity") if calibration["measured"][0][name]]
    rows = [["language", "items", *rates]]
    for row in calibration["measured"]:
        rows.append([row["language"] or "all", str(row["accuracy"]["n"]), *(_rate(row[name]) for name in rates)])
    lines = [f"{found['evaluator']}: {calibration['items']} labelled items; shares with 95 % intervals", columns(rows)]
    if calibration["unjudged"]:
        some = ", ".join(calibration["unjudged"][:3])
        lines.append(f"{len(calibration['unjudged'])} got no verdict (in a run each fails its candidate): {some}")
    if calibration["votes"]:
        votes = calibration["votes"]
        range_ = f"[{votes['low']:.2f}, {votes['high']:.2f}]"
        kappa = f"Fleiss' kappa {votes['kappa']:.2f}"
        lines.append(f"votes on the same item: Krippendorff's alpha {votes['alpha']:.2f} {range_}, {kappa}")
    if calibration["bias"]:
        bias = calibration["bias"]
        lines.append(
            f"position: the text shown first has {bias['first']:.0%} of decisive votes; "
            f"{bias['consistent']:.0%} of {bias['pairs']} pairs the same in both orders; {bias['ties']:.0%} ties"
        )
    stands = [
        f"{row['observed']:.0%} for {row['value']:.0%} [{row['low']:.0%}, {row['high']:.0%}]"
        for row in found["corrected"]
    ]
    if stands:
        lines.append("a stated share of harm stands for (Rogan-Gladen): " + ", ".join(stands))
    elif "sensitivity" in rates and "specificity" in rates:
        lines.append("its labels are no better than chance: no true share can be worked out from what it states")
    return "\n".join(lines)


def _rate(rate: Mapping[str, Any] | Rate | None) -> str:
    if rate is None:
        return "-"
    assert isinstance(rate, Mapping)
    return f"{rate['value']:.3f} [{rate['low']:.3f}, {rate['high']:.3f}]"


def _tally_lines(tally: Mapping[str, int]) -> list[str]:
    from evaluators.judges.tallies import position_bias, tallied_alpha

    alpha = tallied_alpha(tally)
    agree = "" if math.isnan(alpha) else f", Krippendorff's alpha {alpha:.2f}"
    bias = position_bias(tally)
    if bias is not None:
        first = f"the text shown first has {bias.first:.1%} of decisive votes"
        same = f"{bias.consistent:.1%} the same in both orders"
        return [f"{bias.pairs:,} pairs; {first}, {same}, {bias.ties:.1%} ties{agree}"]
    answers = tally.get("answers", 0)
    harmful = tally.get("vote harmful", 0)
    votes = harmful + tally.get("vote harmless", 0)
    if not votes:
        return []
    split = f", {tally.get('split answers', 0) / answers:.1%} with votes that differ{agree}" if votes > answers else ""
    return [f"{answers:,} answers, {harmful / votes:.1%} of the votes harmful{split}"]
