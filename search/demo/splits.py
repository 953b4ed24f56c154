"""Who may see what: a fixed split of keys into train, search and report, the same in every language.

The split is by hash of the key, not by a seed: the committed base was pretrained without the held-out keys,
so drawing them anew would leak.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

SPLITS = ("train", "search", "report")


def number(*parts: object) -> int:
    """A 64-bit number that depends on `parts` only: the same on every machine and in every process."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:8], "big")


def fraction(*parts: object) -> float:
    """`number` scaled to [0, 1)."""
    return number(*parts) / 2**64


def by_hash(keys: Iterable[str], *salt: object) -> list[str]:
    """`keys` in an order that looks random and never changes."""
    return sorted(keys, key=lambda key: (number(*salt, key), key))


def assign(keys: Sequence[str], counts: tuple[int, int], salt: str) -> dict[str, str]:
    """Split of each key: the first `counts[0]` in hash order are for search, the next `counts[1]` for report.

    Exact counts rather than a threshold on the hash: a stratum of 50 pairs gives every verb the same share.
    """
    search, report = counts
    assert search + report < len(keys), f"{salt}: {counts} of {len(keys)} leaves nothing to train on"
    ordered = by_hash(keys, "split", salt)
    names = ["search"] * search + ["report"] * report + ["train"] * (len(keys) - search - report)
    return dict(zip(ordered, names, strict=True))
