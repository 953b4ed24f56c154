import re
from pathlib import Path

import pytest

import mergers
from search import plugins
from search.errors import nearest, shown, suggestion


def test_choices_are_the_public_files_of_the_folder() -> None:
    folder = Path(mergers.__file__).parent
    assert plugins.choices("mergers") == tuple(
        sorted(f.stem for f in folder.glob("*.py") if not f.stem.startswith("_"))
    )
    assert "linear" in plugins.choices("mergers")
    assert "sft" in plugins.choices("trainers")


@pytest.mark.parametrize("folder", plugins.FOLDERS)
def test_every_choice_resolves_to_the_function_of_its_name(folder: str) -> None:
    for name in plugins.choices(folder):
        assert getattr(plugins.resolve(folder, name), "__name__", None) == name


def test_outside_code_is_named_by_module_and_function() -> None:
    import json

    assert plugins.resolve("evaluators", "json:dumps") is json.dumps


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tis", "unknown merge method 'tis'; did you mean 'ties'?"),
        ("_spec", "unknown merge method '_spec'"),
        ("../mergers/ties", "unknown merge method '../mergers/ties'"),
        ("json:dmups", "module json has no function dmups 'json:dmups'; did you mean 'dumps'?"),
        ("no_such:f", "cannot import module no_such (ModuleNotFoundError: No module named 'no_such')"),
        ("a b:f", 'a merge method of your own is written "package.module:function"'),
        (":f", 'a merge method of your own is written "package.module:function"'),
    ],
)
def test_what_does_not_resolve_names_the_nearest(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        plugins.resolve("mergers", name)


def test_nearest_ignores_case_and_dashes() -> None:
    assert nearest("DARE-TIES", ("dare_ties", "ties")) == "dare_ties"
    assert nearest("zzz", ("dare_ties", "ties")) is None
    assert suggestion("zzz", ()) == "there is nothing to choose from"
    assert suggestion("zzz", [f"n{i}" for i in range(20)]).endswith("... (20 in all)")


def test_values_are_shown_short_and_on_one_line() -> None:
    assert shown(True) == "true"
    assert shown("a\nb") == "'a b'"
    assert len(shown("x" * 500)) == 60
