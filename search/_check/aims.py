"""What a search is aimed at: no public test set unsaid, and no safety without its over-refusal."""

from __future__ import annotations

from search._recipe.yaml_text import KeyPath
from search.errors import Problem, suggestion
from search.recipe import Recipe
from search.results.partners import partners
from search.statistics.aggregates import parse

SAFETY_KINDS = ("refusal", "judge_harm")


def inspect(recipe: Recipe) -> tuple[tuple[Problem, ...], tuple[Problem, ...]]:
    """Problems and warnings."""
    from evaluators._public import public_sets

    problems, warnings = [], []
    aimed = {parse(name).evaluator for name in recipe.search.objectives}
    aimed |= {constraint.score.evaluator for constraint in recipe.search.constraints}
    for name, spec in recipe.evaluators.items():
        path: KeyPath = ("evaluators", name)
        files = spec.data.files if spec.data is not None else ()
        found = public_sets(spec.kind, spec.options, spec.data.path if spec.data is not None else None, files)
        unsaid = [known for known in found if known not in spec.optimise_on]
        if name in aimed and unsaid:
            rule = f"a search must not be aimed at the public test set {', '.join(unsaid)} unsaid"
            remedy = f"take other items, or permit it by name: optimise_on: [{', '.join(found)}]"
            problems.append(recipe.problem(path, rule, None, remedy))
        idle = [said for said in spec.optimise_on if said not in found]
        if idle:
            rule = f"optimise_on names {', '.join(idle)}, which these items are not known to be"
            warnings.append(
                recipe.problem((*path, "optimise_on"), rule, None, f"they look like {', '.join(found) or 'none'}")
            )
        if spec.look_alikes is not None and (spec.look_alikes not in recipe.evaluators or spec.look_alikes == name):
            remedy = suggestion(spec.look_alikes, [other for other in recipe.evaluators if other != name])
            problems.append(
                recipe.problem((*path, "look_alikes"), "must name another evaluator", spec.look_alikes, remedy)
            )
    paired = partners(recipe)
    for name in sorted(aimed & set(recipe.evaluators)):
        says_safety = name == "safety" or recipe.evaluators[name].kind in SAFETY_KINDS
        if says_safety and name not in paired and name not in paired.values():
            rule = "nothing says how often harmless look-alikes are refused"
            remedy = "a model that refuses everything is safe: add such an evaluator and name it in look_alikes"
            warnings.append(recipe.problem(("evaluators", name), rule, None, remedy))
    return tuple(problems), tuple(warnings)
