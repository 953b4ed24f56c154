"""What a person did wrong with an evaluator, an item file or a model, in one line."""

from __future__ import annotations

from collections.abc import Sequence


class InputError(ValueError):
    """Bad input: the text is one line with the rule, the offending value and the remedy."""

    exit_status = 2


def some(things: Sequence[str], limit: int = 3) -> str:
    """The first `limit` of `things` for a message, with how many were left out: `a, b, c and 4 more`."""
    shown = ", ".join(things[:limit])
    return shown if len(things) <= limit else f"{shown} and {len(things) - limit} more"
