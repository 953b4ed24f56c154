"""Groups of tensors that share coefficients: layers by depth, or attention, mlp, embeddings and norms by name.

A group is told by rules of `mergers._settings`, so that card, checkpoint and mergekit's YAML state what
was scored. Layers are one rule: a gradient with a value for each layer, between which nothing is left to interpolate.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from mergers._mergekit.slices import is_first
from mergers._settings import Filters, Gradient, Scalar, Setting, at, layer_of, position_of

REST = "rest"
_LAYER = re.compile(r"(.*?)\.(\d+)\.([^.]+)(?:\..*)?")
_Value = TypeVar("_Value", bound=Scalar)


class LayoutError(ValueError):
    """The model cannot be cut so. `rule` and `remedy` say why and what to write."""

    def __init__(self, rule: str, remedy: str = "write layer_groups: 1") -> None:
        super().__init__(rule, remedy)
        self.rule, self.remedy = rule, remedy


@dataclass(frozen=True)
class Groups:
    """A partition of a model's tensors.

    Attributes:
        names: of the groups, first to last.
        rules: (part of a tensor's name, its group, or the group of each layer), tried in order; the last one is "*".
    """

    names: tuple[str, ...]
    rules: tuple[tuple[str, int | tuple[int, ...]], ...]

    def setting(self, values: Sequence[_Value]) -> Setting:
        """The setting that has one value in each group; a plain value where all agree."""
        if all(value == values[0] for value in values):
            return values[0]
        return Filters(
            tuple(
                (part, values[group] if isinstance(group, int) else Gradient(tuple(values[index] for index in group)))
                for part, group in self.rules
            )
        )

    def values(self, setting: Setting) -> tuple[Scalar, ...]:
        """The value of each group: the inverse of `setting`.

        Raises:
            ValueError: the setting has other rules.
        """
        if not isinstance(setting, (Filters, Gradient)):
            return (setting,) * len(self.names)
        parts = tuple(part for part, _ in setting.rules) if isinstance(setting, Filters) else ()
        if not isinstance(setting, Filters) or parts != tuple(part for part, _ in self.rules):
            raise ValueError(f"the merge varies along the model in another way than {', '.join(self.names)}")
        found: dict[int, Scalar] = {}
        for (_, group), (_, value) in zip(self.rules, setting.rules, strict=True):
            numbers = (group,) if isinstance(group, int) else group
            each = value.values if isinstance(value, Gradient) else (value,)
            for number, one in zip(numbers, each, strict=True):
                found.setdefault(number, one)
        return tuple(found[number] for number in range(len(self.names)))


WHOLE = Groups(("model",), (("*", 0),))
"""One set of coefficients for the whole model."""


def layers_of(names: Iterable[str]) -> tuple[str, int]:
    """The prefix of a model's layers ("model.layers") and their number.

    Raises:
        LayoutError: no layers, several stacks of them, or numbers with a gap.
    """
    found: dict[str, set[int]] = {}
    for name in names:
        match = _LAYER.fullmatch(name)
        if match:
            found.setdefault(match[1], set()).add(int(match[2]))
    if len(found) != 1:
        which = ", ".join(found) or "none"
        raise LayoutError(
            f"layer groups need a model with one stack of layers; the base has: {which}", "write layer_groups: 1"
        )
    ((prefix, numbers),) = found.items()
    if sorted(numbers) != list(range(len(numbers))):
        raise LayoutError(
            f"the layers of the base are not numbered from 0 without a gap ({prefix})", "write layer_groups: 1"
        )
    return prefix, len(numbers)


def equal_cuts(layers: int, groups: int) -> tuple[int, ...]:
    """First layer of each of `groups` runs of layers, as equal as can be."""
    return tuple(layers * index // groups for index in range(groups))


def by_depth(names: Sequence[str], cuts: Sequence[int]) -> Groups:
    """Runs of layers; embeddings go with the first, final norm and output head with the last.

    Args:
        names: of the base's tensors.
        cuts: first layer of each run, rising from 0.

    Raises:
        LayoutError: more runs than layers, or no single stack of layers.
    """
    prefix, layers = layers_of(names)
    if len(cuts) > layers:
        raise LayoutError(f"{len(cuts)} layer groups, but the base has {layers} layers", f"write at most {layers}")
    if len(cuts) == 1:
        return WHOLE
    ends = (*cuts[1:], layers)
    group = tuple(sum(layer >= cut for cut in cuts[1:]) for layer in range(layers))
    inside = re.compile(rf"{re.escape(prefix)}\.\d+\.")
    first = [name for name in names if not inside.match(name) and is_first(name)]
    made = Groups(
        tuple(f"layers{start}-{end - 1}" for start, end in zip(cuts, ends, strict=True)),
        ((f"{prefix}.", group), *((name, 0) for name in first), ("*", len(cuts) - 1)),
    )

    def wanted(name: str) -> int:
        layer = layer_of(name) if inside.match(name) else None
        return group[layer] if layer is not None else 0 if name in first else len(cuts) - 1

    return _checked(made, {name: wanted(name) for name in names}, layers)


def kind_of(name: str) -> str:
    """What a tensor belongs to, attention, mlp, embeddings or norms: told by its module within a layer."""
    match = _LAYER.fullmatch(name)
    if match is None:
        return "norms" if _is_norm(name.removesuffix(".weight").removesuffix(".bias").split(".")[-1]) else "embeddings"
    if _is_norm(match[3]):
        return "norms"
    return "attention" if re.search(r"attn|attention", match[3]) else "mlp"


def by_kind(names: Sequence[str], kinds: Sequence[str]) -> Groups:
    """Groups by name, each for the whole depth.

    Norms that are not listed go with the embeddings. What else is not listed makes a group of its own, `rest`.

    Args:
        names: of the base's tensors.
        kinds: as `kind_of` names them, no two alike.

    Raises:
        LayoutError: the base holds nothing of that kind.
    """
    held = [kind_of(name) for name in names]
    missing = next((kind for kind in kinds if kind not in held), None)
    if missing is not None:
        raise LayoutError(f"the base has no tensors of {missing}", "remove it from the list")

    def place(kind: str) -> str:
        if kind in kinds:
            return kind
        return "embeddings" if kind == "norms" and "embeddings" in kinds else REST

    places = [place(kind) for kind in held]
    groups = (*kinds, *((REST,) if REST in places else ()))
    if len(groups) == 1:
        return WHOLE
    rest = groups.index(REST) if REST in groups else groups.index("embeddings") if "embeddings" in groups else 0
    rules: dict[str, int] = {}
    for name, its in zip(names, places, strict=True):
        if groups.index(its) != rest:
            match = _LAYER.fullmatch(name)
            rules[name if match is None else f".{match[3]}."] = groups.index(its)
    modules_first = sorted(rules.items(), key=lambda rule: not rule[0].startswith("."))
    made = Groups(groups, (*modules_first, ("*", rest)))
    wanted = dict(zip(names, map(groups.index, places), strict=True))
    return _checked(made, wanted, 1 + max((layer_of(name) or 0 for name in names), default=0))


def _checked(groups: Groups, wanted: Mapping[str, int], layers: int) -> Groups:
    """`groups`, if its rules put every tensor where it belongs; parts of names can be parts of other names too."""
    setting = groups.setting([float(number) for number in range(len(groups.names))])

    def found(name: str) -> int:
        return round(float(at(setting, name, position_of(name, layers))))

    wrong = next((name for name, group in wanted.items() if found(name) != group), None)
    if wrong is not None:
        raise LayoutError(
            f"names of the base's tensors do not tell its layers apart ({wrong})", "write layer_groups: 1"
        )
    return groups


def _is_norm(module: str) -> bool:
    return "norm" in module.lower() or re.fullmatch(r"ln(_.*|\d*)", module) is not None
