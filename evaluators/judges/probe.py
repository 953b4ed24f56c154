"""Whether a judge can be asked at all: its endpoint's list of models, and one token where the list says too little."""

from __future__ import annotations

from dataclasses import dataclass

import httpx2

from .._errors import some
from .client import clean, headers, said
from .errors import Unavailable
from .settings import Judge

LIMIT_S = 10.0
_REFUSED = (401, 403)


@dataclass(frozen=True)
class Probed:
    """Why a judge cannot be asked ("" if it can), and what is odd about it ("" if nothing)."""

    problem: str = ""
    warning: str = ""


def probe(judge: Judge) -> Probed:
    """Ask the endpoint for its models, within `LIMIT_S`; where it has no such list, for one token by the model."""
    try:
        # A server that failed on the first request may hang up on the second: one connection for each.
        with httpx2.Client(headers=headers(judge) | {"Connection": "close"}, timeout=LIMIT_S) as http:
            return _probed(http, judge)
    except Unavailable as error:
        return Probed(str(error))
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        why = f"{type(error).__name__}: {clean(judge, str(error))}"
        return Probed(f"judge {judge.name}: {judge.endpoint} does not answer ({why}); start it, or correct endpoint")


def _probed(http: httpx2.Client, judge: Judge) -> Probed:
    place = judge.endpoint.rstrip("/")
    found = http.get(f"{place}/models")
    if found.status_code == 200:
        try:
            listed = [str(row["id"]) for row in found.json()["data"]]
        except (ValueError, LookupError, TypeError):
            listed = []
        if judge.model in listed:
            return Probed()
    elif found.status_code in _REFUSED:
        return _refused(judge, found)
    else:
        # `transformers serve` answers 500 on a machine without a hub cache, and others have no such path.
        listed = []
    body = {"model": judge.model, "messages": [{"role": "user", "content": "Hi"}], **judge.extra}
    body |= {} if judge.max_tokens is None else {"max_tokens": 1}
    answer = http.post(f"{place}/chat/completions", json=body, timeout=judge.timeout)
    if answer.status_code in _REFUSED:
        return _refused(judge, answer)
    if answer.status_code != 200:
        others = f"; it lists {some(listed)}" if listed else ""
        return Probed(f"judge {judge.name}: {place} does not answer as {judge.model!r}: {said(judge, answer)}{others}")
    odd = f"judge {judge.name}: {place} answers, but lists no model {judge.model!r}: {some(listed)}"
    return Probed(warning=odd if listed else "")


def _refused(judge: Judge, answer: httpx2.Response) -> Probed:
    variable = f" in {judge.key}" if judge.key else "; name its variable under key"
    return Probed(f"judge {judge.name}: {judge.endpoint} refuses the key{variable}: {said(judge, answer)}")
