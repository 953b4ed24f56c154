"""Objective and language of each expert, where weights are products of the two."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from search._recipe.matrix import Scalar
from search._recipe.training import Expert, MixFrom, TrainedExpert
from search._space.grid import Grid

LANGUAGE = "language"
_FREE = "choose coefficients: free"


class FactorError(ValueError):
    """The experts make no grid. `rule`, `value` and `remedy` say why and what to write."""

    def __init__(self, rule: str, value: str | None, remedy: str = _FREE) -> None:
        super().__init__(rule, value, remedy)
        self.rule, self.value, self.remedy = rule, value, remedy


def grid_of(names: Sequence[str], experts: Mapping[str, Expert], axes: Mapping[str, Mapping[str, Scalar]]) -> Grid:
    """The grid of objectives and languages that experts stand on.

    An expert of a matrix with an axis `language` has its language from there, and its objective from the other axes.
    Any other expert has the one language that it is trained on, and the data of its mix as its objective.

    Args:
        names: of the experts, in merge order.
        experts: of the recipe.
        axes: name -> axis -> value, for experts of a matrix.

    Raises:
        FactorError: an expert without a language or an objective, one objective or language alone, a pair without an
            expert or with two.
    """
    pairs = {name: _pair(name, experts[name], axes.get(name, {})) for name in names}
    objectives = _distinct(objective for objective, _ in pairs.values())
    languages = _distinct(language for _, language in pairs.values())
    for what, found in (("objectives", objectives), ("languages", languages)):
        if len(found) < 2:
            raise FactorError(f"factorized coefficients need experts of two {what} or more", ", ".join(found))
    taken: dict[tuple[str, str], str] = {}
    for name, pair in pairs.items():
        if pair in taken:
            remedy = f"leave one out of search.experts, or {_FREE}"
            raise FactorError(f"two experts are for {pair[0]} in {pair[1]}", f"{taken[pair]} and {name}", remedy)
        taken[pair] = name
    lacking = [f"{o} in {language}" for o in objectives for language in languages if (o, language) not in taken]
    if lacking:
        shown = ", ".join(lacking[:3]) + (f" and {len(lacking) - 3} more" if len(lacking) > 3 else "")
        raise FactorError(
            "factorized coefficients need an expert for every objective in every language; none for", shown
        )
    places = tuple((objectives.index(objective), languages.index(language)) for objective, language in pairs.values())
    return Grid(objectives, languages, places)


def _pair(name: str, expert: Expert, axes: Mapping[str, Scalar]) -> tuple[str, str]:
    trained = isinstance(expert, TrainedExpert)
    language = str(axes[LANGUAGE]) if LANGUAGE in axes else None
    if language is None and isinstance(expert, TrainedExpert) and len(expert.languages) == 1:
        language = expert.languages[0]
    if language is None:
        why = "is for several" if trained else "states none"
        raise FactorError(
            f"factorized coefficients need one language for each expert; {name} {why}", None, _remedy(expert)
        )
    rest = [str(value) for axis, value in axes.items() if axis != LANGUAGE and str(value) != language]
    mix = expert.mix if isinstance(expert, TrainedExpert) else None
    if not rest and mix is None:
        raise FactorError(
            f"factorized coefficients need an objective for each expert; {name} states none", None, _remedy(expert)
        )
    return "-".join(rest) if rest else mix.from_ if isinstance(mix, MixFrom) else "+".join(mix or ()), language


def _remedy(expert: Expert) -> str:
    if not isinstance(expert, TrainedExpert):
        return f"make it by a matrix with the axes objective and {LANGUAGE}, or {_FREE}"
    return f"write one language in its `languages`, or {_FREE}"


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
