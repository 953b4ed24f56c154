"""One question to one endpoint over HTTP, asked again where asking again can help.

httpx2 rather than the `openai` client: `docs/judges.md` says why.
"""

from __future__ import annotations

import json
import os
import random
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from time import time
from typing import Any

import anyio
import httpx2

from .errors import Unavailable
from .settings import Judge
from .verdict import shown

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 60.0
_AGAIN = (408, 409, 425, 429)  # and every 5xx: the same request may be answered later
_REMEDIES = {
    401: "the endpoint does not accept the key",
    402: "the endpoint asks for payment",
    403: "the endpoint does not allow this key to do that",
    404: "the endpoint has no such path or model: see endpoint and model",
    405: "the endpoint does not take chat completions: see endpoint",
}


@dataclass(frozen=True)
class Reply:
    """What a judge said.

    Attributes:
        text: of the message.
        finish: why it ended, as the server names it.
        refusal: its words where the server or the model refuses to label, else "".
        model: as the server names it.
        tokens: in and out; None: not told.
    """

    text: str
    finish: str
    refusal: str
    model: str
    tokens: tuple[int, int] | None


class Trouble(Exception):
    """A try that failed and may succeed later; `after`: seconds that the server asks to wait."""

    def __init__(self, text: str, after: float = 0.0) -> None:
        super().__init__(text)
        self.after = after


class Refused(Exception):
    """A request that the server does not take, with its status; no later try can help."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


class Gate:
    """What the requests of a batch share: a pause that a server asked for, and the end. Made in the event loop."""

    def __init__(self) -> None:
        self._opens = 0.0
        self._over = anyio.Event()

    def close(self, seconds: float) -> None:
        """Let nobody pass for `seconds` from now."""
        self._opens = max(self._opens, anyio.current_time() + seconds)

    def end(self) -> None:
        """Ask nobody anything any more; what is under way is paid for, so it may come to its end."""
        self._over.set()

    @property
    def over(self) -> bool:
        """Whether the batch has ended."""
        return self._over.is_set()

    async def wait(self, seconds: float = 0.0) -> None:
        """Wait `seconds`, and until the gate opens, or until the batch ends."""
        until = max(self._opens, anyio.current_time() + seconds)
        with anyio.CancelScope(deadline=until):
            await self._over.wait()


def client(judge: Judge) -> httpx2.AsyncClient:
    """A connection pool for a judge; a context manager.

    Raises:
        Unavailable: the variable that is to hold the key is not set; its value is never part of a message.
    """
    # One try has one limit over all of its parts (`_ask_once`), so the library's limits for each part are off.
    # Without TLS there is no use in reading the machine's certificates, which takes longer than many a question.
    verify = True if judge.endpoint.startswith("https") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return httpx2.AsyncClient(
        verify=verify,
        base_url=judge.endpoint.rstrip("/") + "/",
        headers=headers(judge),
        timeout=None,
        limits=httpx2.Limits(max_connections=judge.concurrency, max_keepalive_connections=judge.concurrency),
    )


def headers(judge: Judge) -> dict[str, str]:
    """The header with the key, if there is to be one; errors as `client`."""
    if not judge.key:
        return {}
    value = os.environ.get(judge.key, "").strip()
    if not value:
        raise Unavailable(f"judge {judge.name}: the environment variable {judge.key} is not set; it is to hold the key")
    if not value.isascii() or not value.isprintable():
        raise Unavailable(f"judge {judge.name}: {judge.key} holds characters that no key has; set it again")
    return {"Authorization": f"Bearer {value}"}


async def ask(http: httpx2.AsyncClient, judge: Judge, body: Mapping[str, Any], gate: Gate) -> Reply:
    """One reply, with as many tries as the judge's patience allows.

    Pauses double from half a second to a minute, shortened at random by up to a half so that clients spread; a
    `Retry-After` that is longer counts instead, for all questions of the batch.

    Raises:
        Unavailable: patience ran out, or the server refuses every request of this kind (key, model, path).
        Refused: the server refuses this request.
    """
    deadline = anyio.current_time() + judge.patience
    draw = random.Random(json.dumps(body, sort_keys=True))
    tries = 0
    trouble = Trouble("no try was made")
    while anyio.current_time() < deadline:
        with anyio.CancelScope(deadline=deadline):
            await gate.wait()
            if gate.over:
                break
            tries += 1
            try:
                return await _ask_once(http, judge, body)
            except Trouble as error:
                trouble = error
            pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(tries - 1, 10)) * draw.uniform(0.5, 1.0)
            if trouble.after > 0:
                gate.close(trouble.after)
            if anyio.current_time() + max(pause, trouble.after) >= deadline:
                break
            await gate.wait(pause)
    wait = f" (it asks to wait {trouble.after:.0f} s)" if trouble.after > judge.patience else ""
    raise Unavailable(
        f"judge {judge.name}: no answer from {judge.endpoint} within {judge.patience:g} s, {tries} tries; "
        f"the last: {trouble}{wait}; see whether it is up, or raise patience"
    )


async def _ask_once(http: httpx2.AsyncClient, judge: Judge, body: Mapping[str, Any]) -> Reply:
    try:
        with anyio.fail_after(judge.timeout):
            response = await http.post("chat/completions", json=body)
    except TimeoutError:
        raise Trouble(f"no whole answer within {judge.timeout:g} s") from None
    except (httpx2.TransportError, httpx2.DecodingError) as error:
        raise Trouble(f"{type(error).__name__}: {clean(judge, str(error))}") from None
    status = response.status_code
    if status == 200:
        return _reply(response, judge)
    text = said(judge, response)
    if status == 429 and "insufficient_quota" in response.text:
        raise Unavailable(f"judge {judge.name}: the account of this key is used up: {text}")
    if status in _AGAIN or status >= 500:
        raise Trouble(text, _retry_after(response))
    if status in _REMEDIES or status < 400:
        remedy = _REMEDIES.get(status, "the endpoint sends elsewhere: state where the API itself is")
        variable = f" ({judge.key})" if judge.key and status in (401, 403) else ""
        raise Unavailable(f"judge {judge.name}: {remedy}{variable}: {text}")
    raise Refused(text, status)


def _reply(response: httpx2.Response, judge: Judge) -> Reply:
    """The reply that a body holds; a body that is cut or no chat completion is trouble: a later one may be whole."""
    try:
        body = json.loads(response.content)
        choice = body["choices"][0]
        message = choice["message"]
        text, refusal = message.get("content"), message.get("refusal")
    except (ValueError, LookupError, TypeError, AttributeError):
        raise Trouble(f"200 with a body that is no chat completion: {shown(clean(judge, response.text))}") from None
    finish = str(choice.get("finish_reason") or "stop")
    refused = str(refusal or (finish if finish == "content_filter" else ""))
    if text is None and (refused or finish == "length"):
        text = ""  # all tokens went into reasoning
    if not isinstance(text, str):
        raise Trouble(f"200 with a message that has no text: {shown(clean(judge, response.text))}")
    return Reply(text, finish, refused, str(body.get("model") or judge.model), _tokens(body.get("usage")))


def _tokens(usage: Any) -> tuple[int, int] | None:
    if not isinstance(usage, Mapping):
        return None
    counts = usage.get("prompt_tokens"), usage.get("completion_tokens")
    return counts if all(isinstance(count, int) and count >= 0 for count in counts) else None  # type: ignore[return-value]


def _retry_after(response: httpx2.Response) -> float:
    """Seconds that the server asks to wait: a number or a date (RFC 9110, 10.2.3); 0 if it does not say."""
    value = response.headers.get("retry-after", "").strip()
    try:
        return max(0.0, float(value)) if value and value.replace(".", "", 1).isdecimal() else _until(value)
    except (ValueError, OverflowError):
        return 0.0


def _until(value: str) -> float:
    return max(0.0, parsedate_to_datetime(value).timestamp() - time()) if value else 0.0


def said(judge: Judge, response: httpx2.Response) -> str:
    """Status and the server's words, on one line; never the key, which some servers repeat."""
    try:
        body = response.json()
        error = body.get("error", body.get("detail", body))
        text = str(error.get("message", error)) if isinstance(error, Mapping) else str(error)
    except (ValueError, AttributeError):
        text = response.text
    return f"HTTP {response.status_code} {shown(clean(judge, text), 160)}"


def clean(judge: Judge, text: str) -> str:
    """`text` without the key."""
    value = os.environ.get(judge.key, "").strip() if judge.key else ""
    return text.replace(value, "***") if value else text
