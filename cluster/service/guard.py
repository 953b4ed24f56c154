"""What every request passes: whom it was addressed to, how long it took, and what browsers may do with the answer."""

from __future__ import annotations

import time
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .metrics import Metrics
from .problems import answer

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
}


class Guard:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, metrics: Metrics, hosts: Iterable[str] | None) -> None:
        """Wrap `app`.

        Args:
            app: what it protects.
            metrics: where times go.
            hosts: names that requests may be addressed to; None = any. Without tokens a page of somebody else could
                otherwise send requests from a browser of this machine (by a name that resolves to it, or across
                origins); with tokens it has nothing to send.
        """
        self._app, self._metrics = app, metrics
        self._hosts = None if hosts is None else frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                route = getattr(scope.get("route"), "path", "none")
                # From a short list each: a label that callers choose would fill the memory.
                labels = (scope["method"] if scope["method"] in METHODS else "other", route, message["status"])
                self._metrics.requests.labels(*labels).observe(time.perf_counter() - begun)
            await send(message)

        wrong = self._stranger(Headers(scope=scope))
        if wrong:
            await answer(403, "wrong-host", wrong)(scope, receive, sent)
            return
        await self._app(scope, receive, sent)

    def _stranger(self, headers: Headers) -> str:
        if self._hosts is None:
            return ""
        host = _name("//" + headers.get("host", ""))
        if host not in self._hosts:
            return f"the service is not addressed as {host[:80]!r}; start it with --name to allow that"
        origin = headers.get("origin")
        if origin is not None and _name(origin) not in self._hosts:
            return f"requests of pages at {origin[:80]!r} are not accepted"
        return ""


def _name(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""
