"""Chains, tuning, fixed merges and matched compute, as far as the recipe alone tells."""

import pytest

from mergers._errors import InputError
from search._recipe.chains import Step, ordered
from search._recipe.starts import FixedMerge
from search._recipe.trainings import merge_of
from search.recipe import Recipe, parse_recipe
from tests.search.test_recipe import VALID, problems_of

CHAINS = (
    VALID.replace("  bought: {path: models/bought}\n", "")
    .replace(
        "baselines:\n",
        """\
  soup: {merge: {method: linear, weights: {general: 0.4, safety: 0.6}}}
  aligned: {trainer: dpo, from: soup, mix: {pairs: 1.0}, steps: 10, batch: 8, options: {beta: 0.2}}
  point: {front: first, pick: knee}
  late: {from: {front: first, pick: best-safety}, mix: {from: weighed}, steps: 10, batch: 8}
  weighed: {trainer: remix, mix: {general: 0.5, safety: 0.5}, steps: 10, batch: 8}
  tuned: {mix: {general: 1.0}, steps: 10, batch: 8, tune: {learning_rate: {low: 1e-5, high: 1e-3, log: true}}}
baselines:
""",
    )
    .replace("search:\n", "searches:\n  first: {experts: [general, safety], candidates: 4}\nsearch:\n")
    .replace(
        "  safety: {path: json, files: [data/a",
        "  pairs: {path: json, files: p.jsonl}\n  safety: {path: json, files: [data/a",
    )
)


def test_a_chain_is_put_in_order() -> None:
    recipe = parse_recipe(CHAINS)
    order = list(ordered(recipe))
    place = {str(step): number for number, step in enumerate(order)}
    assert place["general"] < place["soup"] < place["aligned"]
    assert place["safety"] < place["search first"] < place["pick first:best-safety"] < place["late"]
    assert place["weighed"] < place["late"]
    assert Step("pick", "first:knee") in order


def test_what_an_earlier_search_leaves_out_is_that_of_search() -> None:
    recipe = parse_recipe(CHAINS)
    first = recipe.searches["first"]
    assert first.objectives == recipe.search.objectives
    assert first.constraints == recipe.search.constraints
    assert (first.experts, first.candidates, recipe.search.candidates) == (("general", "safety"), 4, 10)
    inner = recipe.for_search("first")
    assert inner.search == first
    assert [name for name in ("base", "general", "aligned", "mixed") if inner.competes(name)] == ["base", "general"]
    assert recipe.competes("mixed")


def test_by_default_a_search_is_over_all_experts_that_are_models() -> None:
    recipe = parse_recipe(CHAINS.replace("  experts: [general, safety]\n  methods", "  methods"))
    assert "weighed" not in recipe.search.experts
    assert {"soup", "aligned", "point", "late", "tuned"} <= set(recipe.search.experts)


def changed(old: str, new: str) -> str:
    assert CHAINS.count(old) == 1, old
    return CHAINS.replace(old, new)


REFUSED = [
    ("from: soup", "from: aligned", "experts.aligned: is made of itself: aligned -> aligned"),
    ("{general: 0.4, safety: 0.6}", "{general: 0.4, aligned: 0.6}", "is made of itself: soup -> aligned -> soup"),
    (
        "first: {experts: [general, safety]",
        "first: {experts: [general, late]",
        "late -> pick first:best-safety -> search first -> late",
    ),
    ("{from: weighed}", "{from: general}", "a mixture comes from a training with trainer: remix, got general"),
    ("from: soup", "from: weighed", "weighed makes a mixture and no model (trainer: remix)"),
    ("pick: knee", "pick: nee", "must be knee, safest or best-OBJECTIVE, got 'nee'; did you mean 'knee'?"),
    ("pick: best-safety", "pick: best-x", "the front of first has no such pick, got best-x"),
    ("first: {experts: [general, safety], ", "first: {", "searches.first: must name its experts; add `experts: [a"),
    ("front: first, pick: knee", "front: fist, pick: knee", "unknown search, got 'fist'; did you mean 'first'?"),
    ("beta: 0.2", "betta: 0.2", "the trainer dpo has no option 'betta'; did you mean 'beta'?"),
    ("beta: 0.2", "beta: 20", "beta of the trainer dpo must be a number above 0 and at most 10, got 20"),
    ("method: linear, weights: {general: 0.4, safety: 0.6}", "method: linear, weights: {}", "must not be empty"),
    ("{low: 1e-5, high: 1e-3, log: true}", "{low: 1e-5, high: 0.9}", "must be above 0 and at most 0.5, got 0.9"),
    ("{learning_rate: {", "{rate: {", "experts.tuned.tune.rate: is no setting of this training; "),
    ("{learning_rate: {", "{lora.r: {", "experts.tuned.tune.lora.r: needs lora; add `lora: {}`"),
    ("log: true}}", "log: true}}, metric: genral", "must be loss or an objective of search, got 'genral'; did you"),
    ("log: true}}", "log: true}}, trainer: remix", "the held-out loss of remix is not comparable between trials"),
    ("options: {beta: 0.2}", "trials: 4", "experts.aligned.trials: means nothing without tune; add `tune:`"),
    ("actors: 2}", "actors: 2}\n  trainers: {micro_batch: 3}", "must be a multiple of micro_batch (3)"),
    ("actors: 2}", "actors: 2}\n  trainers: {zero: 2, deepspeed: x.json}", "deepspeed and zero say the same thing"),
]


@pytest.mark.parametrize(("old", "new", "message"), REFUSED, ids=[new[:40] for _, new, _ in REFUSED])
def test_each_bad_chain_or_search_is_one_line(old: str, new: str, message: str) -> None:
    found = problems_of(changed(old, new))
    assert message in str(found[0])
    assert "\n" not in str(found[0])


def test_weights_of_a_fixed_merge_are_what_its_method_takes() -> None:
    halves = FixedMerge(method="linear", weights={"a": 0.5, "b": 0.5})
    assert merge_of(halves).params == (("weight", (0.5, 0.5)),)
    assert merge_of(FixedMerge(method="slerp", weights={"a": 1, "b": 3})).params == (("t", 0.75),)
    assert merge_of(FixedMerge(method="karcher", weights={"a": 1, "b": 1})).params == ()
    for wrong, why in (
        ({"method": "karcher", "weights": {"a": 1, "b": 2}}, "karcher has no weights; give every model the same"),
        ({"method": "slerp", "weights": {"a": -1, "b": 2}}, "slerp needs shares that are not negative"),
        ({"method": "slerp", "weights": {"a": 1, "b": 2, "c": 3}}, "slerp"),
        ({"method": "ties", "weights": {"a": 1}, "parameters": {"density": 2}}, "density must lie in"),
    ):
        with pytest.raises(InputError, match=why):
            merge_of(FixedMerge.model_validate(wrong))


def steps(experts: str, baseline: str) -> Recipe:
    head = VALID.partition("experts:\n")[0]
    text = head + "experts:\n" + experts + "baselines:\n" + baseline + "evaluators:" + VALID.partition("evaluators:")[2]
    return parse_recipe(text)


def test_a_matched_mix_costs_what_the_experts_cost_with_all_they_are_made_of() -> None:
    experts = """\
  general: {mix: {general: 1.0}, steps: 60, batch: 64}
  first: {mix: {safety: 1.0}, steps: 30, batch: 64}
  safety: {trainer: dpo, from: first, mix: {safety: 1.0}, steps: 30, batch: 32}
"""
    baseline = "  mixed: {mix: {general: 0.5, safety: 0.5}, batch: 64}\n"
    # A pair of dpo is two sequences that are trained on (6 N each) and read by a reference (2 N each): 16 / 6.
    assert steps(experts, baseline).steps("mixed") == 60 + 30 + 40
    lora = experts.replace("steps: 60, batch: 64", "steps: 60, batch: 64, lora: {r: 4}")
    assert steps(lora, baseline).steps("mixed") == 40 + 30 + 40
    chained = "  plain: {mix: {general: 1.0}, steps: 50, batch: 64}\n"
    chained += "  mixed: {from: plain, mix: {general: 0.5, safety: 0.5}, batch: 32}\n"
    assert steps(experts, chained).steps("mixed") == 2 * (130 - 50)
