"""Texts that are the same, or nearly: in any script, without knowing where words end.

Texts are compared by their overlapping runs of `SHINGLE` characters after normalisation (Unicode NFKC, case folded, all
but letters, marks and digits taken out). The share of runs that two texts have in common (Jaccard) is found by MinHash
with bands (Broder 1997; Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, chapter 3), and every pair found that
way is then compared in full, so what is reported has no error of the sketch; pairs just above the threshold can be
missed (at 0.8 one in 1,500, at 0.9 one in a million).

A text shorter than `SHORTEST` characters is only compared for equality: one word more or less makes another question of
it, while its runs are mostly the same.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

SHINGLE = 8
SHORTEST = 32
THRESHOLD = 0.8
BANDS, ROWS = 20, 5
_PRIME = np.uint64(0x100000001B3)


class Match(NamedTuple):
    """A text of the first list (`left`) and one of the second (`right`), by index, and how alike: 1.0 is the same."""

    left: int
    right: int
    likeness: float


def matches(left: Sequence[str], right: Sequence[str], threshold: float = THRESHOLD) -> list[Match]:
    """For each text of `left` that has one, the text of `right` that is most like it, from `threshold` on."""
    first, second = [normal(text) for text in left], [normal(text) for text in right]
    places: dict[str, int] = {}
    for place, text in enumerate(second):
        places.setdefault(text, place)
    same = [Match(i, places[text], 1.0) for i, text in enumerate(first) if text in places and text]
    done = {match.left for match in same}
    return sorted([*same, *(match for match in _near(first, second, threshold) if match.left not in done)])


def normal(text: str) -> str:
    """A text as it is compared."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(letter for letter in folded if unicodedata.category(letter)[0] in "LMN")


def shingles(text: str) -> frozenset[str]:
    """The runs of a normalised text."""
    return frozenset(text[place : place + SHINGLE] for place in range(max(1, len(text) - SHINGLE + 1)))


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    """Runs in common over all runs."""
    return len(a & b) / len(a | b)


def _near(first: Sequence[str], second: Sequence[str], threshold: float) -> list[Match]:
    long = [[i for i, text in enumerate(texts) if len(text) >= SHORTEST] for texts in (first, second)]
    if not all(long):
        return []
    # Each text once, however often it stands there.
    once = [list(dict.fromkeys(texts[i] for i in each)) for texts, each in zip((first, second), long, strict=True)]
    bands = [_bands(texts) for texts in once]
    runs = [[shingles(text) for text in texts] for texts in once]
    best: dict[str, tuple[float, str]] = {}
    for band in range(BANDS):
        held = defaultdict(list)
        for place, key in enumerate(bands[1][:, band].tolist()):
            held[key].append(place)
        for place, key in enumerate(bands[0][:, band].tolist()):
            text = once[0][place]
            for other in held.get(key, ()):
                if best.get(text, (0.0, ""))[1] == once[1][other]:
                    continue
                likeness = jaccard(runs[0][place], runs[1][other])
                if likeness >= threshold and likeness > best.get(text, (0.0, ""))[0]:
                    best[text] = (likeness, once[1][other])
    where = {second[i]: i for i in reversed(long[1])}
    return [Match(i, where[best[first[i]][1]], best[first[i]][0]) for i in long[0] if first[i] in best]


def _bands(texts: Sequence[str]) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """(texts, BANDS) uint64: texts that share a band are probably alike. Texts have `SHINGLE` characters or more."""
    hashes = [_runs(text) for text in texts]
    starts = np.cumsum([0, *(len(each) for each in hashes[:-1])])
    joined = np.concatenate(hashes)
    salts = np.random.default_rng(20261129).integers(1, 2**63, size=BANDS * ROWS, dtype=np.uint64) | np.uint64(1)
    found = np.zeros((len(texts), BANDS), dtype=np.uint64)
    for number, salt in enumerate(salts):
        mixed = joined * salt
        mixed ^= mixed >> np.uint64(29)
        mixed *= np.uint64(0xBF58476D1CE4E5B9)
        mixed ^= mixed >> np.uint64(32)
        least = np.minimum.reduceat(mixed, starts)
        found[:, number // ROWS] = (found[:, number // ROWS] ^ least) * _PRIME
    return found


def _runs(text: str) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """A hash of every run of `SHINGLE` characters."""
    letters = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
    count = len(letters) - SHINGLE + 1
    total = np.zeros(count, dtype=np.uint64)
    for place in range(SHINGLE):
        total = (total ^ letters[place : place + count]) * _PRIME
    return total
