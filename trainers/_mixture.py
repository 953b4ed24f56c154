"""``mixture.json``: the mixture that ``remix`` learnt, for other trainings to be made on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ._errors import InputError
from ._types import TrainSpec

MIXTURE = "mixture.json"


class Domain(NamedTuple):
    """A part of a mixture.

    Attributes:
        source: name of a data source.
        languages: the rows of that source that are meant; empty: all of them.
        probability: chance that a sample is drawn from here.
    """

    source: str
    languages: tuple[str, ...]
    probability: float

    @property
    def name(self) -> str:
        """What curves call it."""
        return "/".join((self.source, *self.languages))


class Layout(NamedTuple):
    """The domains of a training, with the prior, and the domain of each of its groups (source, language)."""

    domains: tuple[Domain, ...]
    of_group: tuple[int, ...]


def domains_of(spec: TrainSpec, groups: Sequence[tuple[str, str]], sizes: Sequence[int], kind: str) -> Layout:
    """The domains that `kind` cuts a mixture into.

    Args:
        spec: of the training; the probabilities of its sources are the prior.
        groups: pairs (source, language).
        sizes: rows of each group that can be drawn.
        kind: ``source``, or ``language``: what a source has in one language, with its share of the source's rows.

    Raises:
        InputError: fewer than two domains, or rows without a language.
    """
    shares = {source.name: source.probability for source in spec.sources}
    whole = {name: sum(size for group, size in zip(groups, sizes, strict=True) if group[0] == name) for name in shares}
    found: dict[tuple[str, tuple[str, ...]], float] = {}
    of_group = []
    for (source, language), size in zip(groups, sizes, strict=True):
        if kind == "language" and not language:
            raise InputError(f"data source {source!r} has no column language, so its languages cannot be domains")
        key = (source, (language,) if kind == "language" else ())
        if size:
            found[key] = found.get(key, 0.0) + shares[source] * size / whole[source]
        of_group.append(key)
    if len(found) < 2:
        raise InputError(f"remix weighs domains against each other, and there is {len(found)}; name more sources")
    places = {key: place for place, key in enumerate(found)}
    domains = tuple(Domain(source, languages, share) for (source, languages), share in found.items())
    return Layout(domains, tuple(places.get(key, 0) for key in of_group))  # a group without rows is never drawn


def learnt(spec: TrainSpec, proxy: Any) -> dict[str, Any]:
    """The content of ``mixture.json`` after a proxy's last step."""
    weights = zip(proxy.layout.domains, proxy.domains.mean, proxy.domains.alpha, strict=True)
    return {
        "options": dict(spec.options),
        "domains": [
            {
                "source": domain.source,
                "languages": list(domain.languages),
                "probability": mean,
                "prior": domain.probability,
                "last": last,
            }
            for domain, mean, last in weights
        ],
        "trajectory": [list(alpha) for alpha in proxy.trajectory],
    }


def read_mixture(folder: str) -> tuple[Domain, ...]:
    """The mixture in the result of a ``remix`` training; probabilities sum to 1.

    Raises:
        InputError: there is none, or it is not what ``remix`` writes.
    """
    file = Path(folder) / MIXTURE
    try:
        content: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return tuple(
            Domain(entry["source"], tuple(entry["languages"]), float(entry["probability"]))
            for entry in content["domains"]
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder} holds no mixture (mixture.json of a remix training): {error}") from error
