"""Short-lived links: a browser's download cannot carry a token, so it carries a signed note about one checkpoint."""

from __future__ import annotations

import hmac
import secrets
import time
from hashlib import sha256

GOOD_S = 60.0


class Tickets:
    """Notes that this process signed; none outlives it."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def make(self, job: str, name: str) -> str:
        """A note that lets its bearer begin to download one checkpoint within the next minute."""
        until = str(int(time.time() + GOOD_S))
        return f"{until}.{self._sign(job, name, until)}"

    def good(self, ticket: str, job: str, name: str) -> bool:
        """Whether we signed this note, for this checkpoint, less than a minute ago."""
        until, _, signature = ticket.partition(".")
        signed = hmac.compare_digest(self._sign(job, name, until).encode(), signature.encode("utf-8", "replace"))
        return signed and until.isascii() and until.isdecimal() and int(until) >= time.time()

    def _sign(self, job: str, name: str, until: str) -> str:
        text = "\0".join((job, name, until)).encode("utf-8", "replace")
        return hmac.new(self._key, text, sha256).hexdigest()
