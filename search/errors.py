"""What a person is told when the input is wrong: problems with a place, and the one exception that carries them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

EXIT_BAD_INPUT = 2


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, on one line: where, the rule, the value, the remedy.

    Attributes:
        file: the file as the user named it, or "" where no file is at fault.
        line: line in `file`, counted from 1; None if the problem has no line.
        path: the key inside the file, dotted (`experts.fr.mix.general`); "" for the file as a whole.
        rule: what must hold ("must be between 0 and 1").
        value: the offending value as shown to the user, already shortened; None if there is none.
        remedy: what to do about it; "" if the rule says it all.
    """

    file: str
    line: int | None
    path: str
    rule: str
    value: str | None = None
    remedy: str = ""

    def __str__(self) -> str:
        """`recipe.yaml:14: experts.fr.mix.general: must be between 0 and 1, got 1.5; write a share such as 0.5`."""
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        got = "" if self.value is None else f", got {self.value}"
        remedy = f"; {self.remedy}" if self.remedy else ""
        text = ": ".join(part for part in (place, self.path, self.rule + got + remedy) if part)
        return " ".join(text.split())  # a value or a library's message may hold line breaks: one problem, one line


class UserError(Exception):
    """The input cannot be used. Nothing was written; the command line ends with `exit_status`.

    `problems` holds every problem that was found, in the order of the file. Pickles.
    """

    exit_status = EXIT_BAD_INPUT

    def __init__(self, problems: Iterable[Problem] | Problem):
        self.problems = (problems,) if isinstance(problems, Problem) else tuple(problems)
        assert self.problems, "a UserError without a problem"
        super().__init__(self.problems)

    def __str__(self) -> str:
        """One line per problem."""
        return "\n".join(str(problem) for problem in self.problems)


def dotted(path: Iterable[str | int]) -> str:
    """A path of keys and list indices as text: `search.stages[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def nearest(name: object, choices: Iterable[str]) -> str | None:
    """The choice that `name` was most probably meant to be, or None if none is close."""
    by_folded = {choice.casefold().replace("-", "_"): choice for choice in choices}
    found = difflib.get_close_matches(str(name).casefold().replace("-", "_"), by_folded, n=1, cutoff=0.6)
    return by_folded[found[0]] if found else None


def suggestion(name: object, choices: Iterable[str]) -> str:
    """A remedy for an unknown name: the nearest choice, else the list of choices (the first 12)."""
    listed = tuple(choices)
    near = nearest(name, listed)
    if near is not None:
        return f"did you mean '{near}'?"
    if not listed:
        return "there is nothing to choose from"
    more = f", ... ({len(listed)} in all)" if len(listed) > 12 else ""
    return f"choose from {', '.join(listed[:12])}{more}"


def shown(value: object, limit: int = 60) -> str:
    """`value` as text for a message: one line, at most `limit` characters, YAML's words for true, false and null."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "nothing"
    text = " ".join((f"'{value}'" if isinstance(value, str) else repr(value)).split())
    return text if len(text) <= limit else text[: limit - 3] + "..."
