"""A judge: which model where, how it is asked, what it may cost. One frozen value, checked where it is written."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any
from urllib.parse import urlsplit

from .._errors import InputError

STRUCTURED = ("auto", "schema", "none")
VERDICT_KEYS = (
    "endpoint",
    "identity",
    "model",
    "temperature",
    "max_tokens",
    "seed",
    "extra",
    "structured",
    "system",
    "votes",
)
"""What may change verdicts; the other keys may change between a run and its resumption."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RESERVED = ("model", "messages", "response_format", "stream", "n")


@dataclass(frozen=True)
class Judge:
    """A judge as a recipe states it.

    Attributes:
        endpoint: base URL of an OpenAI-compatible server, up to and with its version: `http://host:8000/v1`.
        model: as the server names it.
        identity: what stands for the endpoint in the cache, for servers that move; the endpoint itself if empty.
        key: environment variable that holds the key; empty: none is sent.
        temperature: of sampling; None: not sent (some models refuse it).
        max_tokens: most tokens of a reply, its reasoning included; None: not sent.
        seed: sent with the number of the vote added; None: not sent.
        extra: further fields of the request, by name, such as `max_completion_tokens`.
        structured: "schema" asks the server for JSON of a schema, "none" does not, "auto" tries the first and falls
            back. A reply is held against the schema in any case.
        system: whether the model takes a system message; else its text goes before the user's.
        votes: times that each question is asked; the score is the mean.
        concurrency: requests under way at the same time.
        timeout: seconds for one request, from its first byte to the answer's last.
        patience: seconds for one question, with all tries and pauses.
        prices: (input, output): money for a million tokens of each; None: not stated.
        limit: of money; no question is asked once the account has spent it.
        cache: file of verdicts; empty: `cache.default_file()`.
        name: of the judge, for messages.
        account: whose money it is, in the ledger of the cache.
    """

    endpoint: str
    model: str
    identity: str = ""
    key: str = ""
    temperature: float | None = 0.0
    max_tokens: int | None = 512
    seed: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    structured: str = "auto"
    system: bool = True
    votes: int = 1
    concurrency: int = 8
    timeout: float = 60.0
    patience: float = 300.0
    prices: tuple[float, float] | None = None
    limit: float | None = None
    cache: str = ""
    name: str = "judge"
    account: str = ""

    def digest(self) -> str:
        """Hash (12 hex digits) of all that may change a verdict, but for the prompt; enters cache keys and versions."""
        what = {name: getattr(self, name) for name in VERDICT_KEYS if name not in ("endpoint", "identity", "votes")}
        what["where"] = self.identity or self.endpoint.rstrip("/")
        text = json.dumps(what, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def cost(self, tokens_in: int, tokens_out: int) -> float:
        """Money for tokens by the stated prices; 0 without prices."""
        return (tokens_in * self.prices[0] + tokens_out * self.prices[1]) / 1e6 if self.prices else 0.0


def judge_of(given: Mapping[str, Any] | Judge) -> Judge:
    """The judge of a mapping, as a recipe or a Python user writes it.

    Raises:
        InputError: an unknown or missing key, or a value that breaks a rule; one line that names the key.
    """
    if isinstance(given, Judge):
        return given
    if not isinstance(given, Mapping):
        raise InputError(f"a judge is a mapping with endpoint and model, got {type(given).__name__}")
    known = {entry.name: entry for entry in fields(Judge)}
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"its keys: {', '.join(known)}"
            raise InputError(f"a judge has no key {name!r}; {hint}")
    for name, entry in known.items():
        if name not in given and entry.default is MISSING and entry.default_factory is MISSING:
            raise InputError(f"a judge needs the key {name!r}")
    values = {name: _RULES[name](name, value) for name, value in given.items()}
    judge = Judge(**values)
    if judge.limit is not None and judge.prices is None:
        raise InputError("limit: money is counted by prices; state them too (prices: {input: ..., output: ...})")
    if judge.votes > 1 and judge.temperature == 0:
        rule = f"votes: {judge.votes} votes at temperature 0 are one vote asked {judge.votes} times"
        raise InputError(f"{rule}; set a temperature such as 0.7, or votes: 1")
    if judge.patience < judge.timeout:
        rule = f"patience: {judge.patience:g} s for all tries is less than timeout, {judge.timeout:g} s for one"
        raise InputError(f"{rule}; raise it")
    return judge


def _endpoint(name: str, value: Any) -> str:
    text = _text(name, value)
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"{name}: must be a URL such as http://127.0.0.1:8000/v1, got {text!r}")
    if parts.username or parts.password or parts.query or parts.fragment:
        # Not shown: it may hold a secret.
        raise InputError(f"{name}: must hold no user, password, query or fragment; name the key's variable under key")
    return text


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{name}: must be text, got {value!r}")
    return value


def _key(name: str, value: Any) -> str:
    if not isinstance(value, str) or not _VARIABLE.fullmatch(value):
        # Not shown: it may be the key itself.
        raise InputError(f"{name}: must be the name of an environment variable, such as OPENAI_API_KEY; never the key")
    return value


def _extra(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise InputError(f"{name}: must be a mapping of request fields, got {value!r}")
    for reserved in _RESERVED:
        if reserved in value:
            raise InputError(f"{name}: {reserved} is set by mergefront; remove it")
    try:
        json.dumps(dict(value), allow_nan=False)
    except (TypeError, ValueError):
        raise InputError(f"{name}: must hold JSON values only, got {value!r}") from None
    return dict(value)


def _structured(name: str, value: Any) -> str:
    if value not in STRUCTURED:
        raise InputError(f"{name}: must be one of {', '.join(STRUCTURED)}, got {value!r}")
    return str(value)


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InputError(f"{name}: must be true or false, got {value!r}")
    return value


def _prices(name: str, value: Any) -> tuple[float, float] | None:
    if value is None:
        return None
    if isinstance(value, tuple) and len(value) == 2:
        value = dict(zip(("input", "output"), value, strict=True))
    if not isinstance(value, Mapping) or set(value) != {"input", "output"}:
        raise InputError(f"{name}: must be {{input: ..., output: ...}}, money for a million tokens, got {value!r}")
    return _number(f"{name}.input", value["input"]), _number(f"{name}.output", value["output"])


def _number(name: str, value: Any, low: float = 0.0, *, above: bool = False) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or value < low or (above and value == low):
        raise InputError(f"{name}: must be a number {'above' if above else 'from'} {low:g}, got {value!r}")
    return float(value)


def _whole(low: int, high: int) -> Callable[[str, Any], int]:
    def rule(name: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise InputError(f"{name}: must be a whole number from {low} to {high}, got {value!r}")
        return value

    return rule


def _or_none(rule: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    return lambda name, value: None if value is None else rule(name, value)


def _above(name: str, value: Any) -> float:
    return _number(name, value, above=True)


_RULES: Mapping[str, Callable[[str, Any], Any]] = {
    "endpoint": _endpoint,
    "model": _text,
    "identity": _text,
    "key": _key,
    "temperature": _or_none(_number),
    "max_tokens": _or_none(_whole(1, 10**6)),
    "seed": _or_none(_whole(0, 2**31 - 1)),
    "extra": _extra,
    "structured": _structured,
    "system": _flag,
    "votes": _whole(1, 99),
    "concurrency": _whole(1, 1024),
    "timeout": _above,
    "patience": _above,
    "prices": _prices,
    "limit": _or_none(_above),
    "cache": _text,
    "name": _text,
    "account": _text,
}
