"""Whatever a recipe holds, the answer is a recipe or problems with a place: never another exception."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from search._recipe import yaml_text
from search.errors import UserError
from search.recipe import Recipe, parse_recipe
from tests.search.test_recipe import VALID

DOCUMENT = yaml_text.parse(VALID)
PATHS = tuple(DOCUMENT.lines)
WORDS = st.sampled_from(
    ["general", "safety", "base", "knee", "match", "{lang}", "{x}", "#1", "best-general", "a/b", "5GB", ""]
)
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text("ab{}:.-_# \u0939\x00\ud800", max_size=8)
)
KEYS = (
    st.sampled_from(["matrix", "path", "mix", "from", "front", "low", "files", "columns", "steps", "lora", "tune"])
    | WORDS
)
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=6
)


@given(st.lists(st.tuples(st.sampled_from(PATHS), TREES), min_size=1, max_size=3))
def test_any_change_gives_a_recipe_or_problems(changes: list[tuple[yaml_text.KeyPath, Any]]) -> None:
    value: Any = json.loads(json.dumps(DOCUMENT.value))
    for path, new in changes:
        place = value
        try:
            for part in path[:-1]:
                place = place[part]
            place[path[-1]] = new
        except (TypeError, KeyError, IndexError):
            continue  # an earlier change removed the place of this one
    text = json.dumps(value, indent=1)
    try:
        recipe = parse_recipe(text, file="r.yaml")
    except UserError as error:
        refused = error.problems
    else:
        refused = ()
        assert Recipe.model_validate(recipe.lock()["recipe"]).fingerprint() == recipe.fingerprint()
    assert all(problem.file == "r.yaml" and problem.rule for problem in refused)
    assert all("\n" not in str(problem) for problem in refused)
