"""The error that a person causes and a person can mend."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input. The text is one line: rule, offending value, remedy."""

    exit_status = 2


def nearest(name: str, choices: Iterable[str]) -> str:
    """Remedy for an unknown `name`: the nearest choice, else all of them."""
    known = tuple(choices)
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean '{close[0]}'?" if close else f"choose one of: {', '.join(known) or 'none'}"
