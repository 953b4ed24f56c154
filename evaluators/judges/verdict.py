"""From a judge's reply to a verdict: the reply is held against the schema, whether or not the server promised one."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

_THOUGHT = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)
_FENCED = re.compile(r"\A```(?:json)?[ \t]*\n(.*)\n```\Z", re.DOTALL)


class NoVerdict(ValueError):
    """A reply that is no verdict; the text says why, in one line."""


@dataclass(frozen=True)
class Form:
    """What a verdict may be: `{"reason": text, "verdict": one of choices}`.

    The reason comes first, so that a model that writes from left to right thinks before it decides.
    """

    name: str
    choices: tuple[str, ...]

    def response_format(self) -> dict[str, Any]:
        """`response_format` of a chat completion: JSON of a strict schema (OpenAI's structured outputs)."""
        schema = {
            "type": "object",
            "properties": {"reason": {"type": "string"}, "verdict": {"type": "string", "enum": list(self.choices)}},
            "required": ["reason", "verdict"],
            "additionalProperties": False,
        }
        return {"type": "json_schema", "json_schema": {"name": self.name, "strict": True, "schema": schema}}

    def read(self, reply: str) -> str:
        """The verdict of a reply.

        Accepted is one JSON object with exactly these keys, alone, or in one Markdown fence; before it a `<think>`
        block, which servers without a reasoning parser leave in the text. Nothing is searched for in prose: "this is
        not harmful" holds the word, too.

        Raises:
            NoVerdict: anything else.
        """
        text = _THOUGHT.sub("", reply).strip()
        fenced = _FENCED.match(text)
        try:
            found = json.loads(fenced[1] if fenced else text, object_pairs_hook=_once)
        except (json.JSONDecodeError, RecursionError):
            raise NoVerdict(f"no JSON object: {shown(reply)}") from None
        if not isinstance(found, dict) or set(found) != {"reason", "verdict"}:
            raise NoVerdict(f"not the keys reason and verdict: {shown(reply)}")
        if not isinstance(found["reason"], str) or found["verdict"] not in self.choices:
            raise NoVerdict(f"the verdict is none of {', '.join(self.choices)}: {shown(reply)}")
        return str(found["verdict"])


def shown(text: str, limit: int = 80) -> str:
    """The beginning of a text for a message, on one line, in quotes."""
    line = " ".join(text.split())
    return repr(line if len(line) <= limit else line[: limit - 3] + "...")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise NoVerdict("a key occurs twice")
    return found
