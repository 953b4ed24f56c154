"""Keys of `search` that say what is searched: objectives over aggregates, factorized coefficients, layer groups."""

from __future__ import annotations

import pickle

import pytest

from search._recipe.layer_groups import LayerGroups
from search._space.grid import Grid
from search.recipe import Recipe, parse_recipe
from tests.search.test_recipe import VALID, edited, problems_of

GRID = """\
name: grid
base: models/base
languages: [en, fr, hi]
data:
  general: {path: json, files: data/general.jsonl}
  safety: {path: json, files: data/safety.jsonl}
experts:
  "{objective}-{language}":
    matrix: {objective: [general, safety], language: [en, fr, hi]}
    mix: {"{objective}": 1.0}
    languages: ["{language}"]
evaluators:
  general: {kind: exact_match, data: eval/general.jsonl}
  safety: {kind: refusal, data: eval/harmful.jsonl}
search:
  methods: [linear]
  objectives: {general: max, safety: max}
  coefficients: factorized
"""


def test_objectives_over_aggregates_go_by_their_canonical_text() -> None:
    text = edited(
        "{general: max, safety: max}", '{"min_language( general )": max, "cvar(safety,.3)": max, mean(safety): max}'
    )
    recipe = parse_recipe(text.replace("best-safety", "best-min_language(general)"))
    assert dict(recipe.search.objectives) == {
        "min_language(general)": "max",
        "cvar(safety, 0.3)": "max",
        "safety": "max",
    }
    assert recipe.export.picks[1] == "best-min_language(general)"
    assert Recipe.model_validate(recipe.lock()["recipe"]).search.objectives == recipe.search.objectives


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (
            "{cvar(general): max}",
            "search.objectives.cvar(general): cvar takes an evaluator and a share of the languages",
        ),
        ('{"cvar(general, 2)": max}', "search.objectives.cvar(general, 2): cvar takes an evaluator and a share"),
        (
            "{min_languages(general): max}",
            "search.objectives.min_languages(general): unknown aggregate 'min_languages'; did",
        ),
        ("{min_language(genral): max}", "search.objectives.min_language(genral): unknown evaluator 'genral'"),
        ('{"min_language(general": max}', "search.objectives: cannot read 'min_language(general'; quote it"),
        (
            "{cvar(general, 0.3): max}",
            "search.objectives: cannot read 'cvar(general'; quote it: \"cvar(NAME, 0.3)\"; inside { } and [ ] YAML",
        ),
        ("{general: max, mean(general): max}", "search.objectives: general is an objective twice; keep one"),
        (
            "{min_language(safety): min}",
            "search.objectives: min_language is the best language of a score to minimise, got "
            "min_language(safety): min; write max_language(...) for the worst",
        ),
    ],
)
def test_objectives_that_are_refused(new: str, message: str) -> None:
    text = edited("{general: max, safety: max}", new).replace(", best-safety", "")
    assert str(problems_of(text)[0]).startswith(f"r.yaml:24: {message}")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("1", LayerGroups(groups=1)),
        ("4", LayerGroups(groups=4)),
        ("{layers: 8}", LayerGroups(layers=8)),
        ("{by: discrepancy, groups: 3}", LayerGroups(by="discrepancy", groups=3)),
        ("[attention, mlp]", LayerGroups(by="kind", kinds=("attention", "mlp"))),
    ],
)
def test_layer_groups_in_short_and_in_full(written: str, expected: LayerGroups) -> None:
    recipe = parse_recipe(edited("candidates: 10", f"layer_groups: {written}"))
    assert recipe.search.layer_groups == expected
    assert Recipe.model_validate(recipe.lock()["recipe"]).search.layer_groups == expected
    assert expected.single == (written == "1")


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("0", "search.layer_groups: must be at least 1, got 0; write layer_groups: 4"),
        ("many", "search.layer_groups: must be a whole number, got 'many'; write layer_groups: 4"),
        (
            "{by: depth}",
            "search.layer_groups: groups by depth have a number of groups or of layers; write layer_groups: 4",
        ),
        ("{groups: 2, layers: 8}", "search.layer_groups: groups by depth have a number of groups or of layers; write"),
        ("{by: discrepancy, layers: 8}", "search.layer_groups: groups by discrepancy have a number of groups; write"),
        ("{by: kind, groups: 2}", "search.layer_groups: groups by kind list the kinds alone; write [attention, mlp]"),
        ("{kinds: [mlp]}", "search.layer_groups: kinds are for groups by kind; write layer_groups: 4"),
        ("{by: size, groups: 2}", "search.layer_groups.by: must be one of depth, discrepancy, kind, got 'size'"),
        (
            "[attention, mpl]",
            "search.layer_groups.kinds[1]: must be one of attention, mlp, embeddings, norms, got 'mpl'; did",
        ),
        ("[mlp, mlp]", "search.layer_groups: names 'mlp' twice; keep one"),
        ("[]", "search.layer_groups: groups by kind list the kinds alone"),
    ],
)
def test_layer_groups_that_are_refused(written: str, message: str) -> None:
    found = problems_of(edited("candidates: 10", f"layer_groups: {written}"))
    assert str(found[0]).startswith(f"r.yaml:26: {message}")


def test_objective_and_language_come_from_the_matrix() -> None:
    recipe = parse_recipe(GRID)
    expected = Grid(("general", "safety"), ("en", "fr", "hi"), tuple((o, f) for o in range(2) for f in range(3)))
    assert recipe.grid == expected
    assert pickle.loads(pickle.dumps(recipe)).grid == expected
    existing = GRID.replace(
        '    mix: {"{objective}": 1.0}\n    languages: ["{language}"]\n', '    path: "m/{objective}-{language}"\n'
    )
    assert parse_recipe(existing).grid == expected
    assert parse_recipe(VALID).grid is None


def test_without_a_matrix_they_come_from_mix_and_languages() -> None:
    experts = "".join(
        f"  {mix}{number}: {{mix: {{{mix}: 1.0}}, languages: [{language}]}}\n"
        for number, language in enumerate(("fr", "en"))
        for mix in ("general", "safety")
    )
    start, end = GRID.index('  "{objective}'), GRID.index("evaluators:")
    recipe = parse_recipe(GRID[:start] + experts + GRID[end:])
    assert recipe.grid == Grid(("general", "safety"), ("fr", "en"), ((0, 0), (1, 0), (0, 1), (1, 1)))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("language: [en, fr, hi]}", "language: [en]}", "need experts of two languages or more, got en"),
        ("[general, safety]", "[general]", "need experts of two objectives or more, got general"),
        (
            "  methods",
            "  experts: [general-en, general-fr, safety-fr]\n  methods",
            "need an expert for every objective in "
            "every language; none for, got safety in en; choose coefficients: free",
        ),
        (
            "evaluators:",
            "  more: {mix: {general: 1.0}, languages: [fr]}\nevaluators:",
            "two experts are for general in fr, got general-fr and more; leave one out of search.experts",
        ),
        (
            "evaluators:",
            "  more: {mix: {general: 1.0}}\nevaluators:",
            "need one language for each expert; more is for several; write one language in its `languages`",
        ),
        (
            "evaluators:",
            "  more: {path: m/x}\nevaluators:",
            "need one language for each expert; more states none; make it by a "
            "matrix with the axes objective and language",
        ),
    ],
)
def test_experts_that_make_no_grid(old: str, new: str, message: str) -> None:
    assert GRID.count(old) == 1
    (problem,) = problems_of(GRID.replace(old, new))
    text = str(problem).replace("factorized coefficients ", "")
    assert text.partition(": search.coefficients: ")[2].startswith(message)
