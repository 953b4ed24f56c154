"""Messages from workers to the process that waits for them: JSON lines over TCP, no process in between.

``ray.train.report`` returns only when the controller has looked, at most every quarter of a second here and every two
by default; a training reports after every step, and its steps are shorter than that. A queue actor would be one more
process for each training.
"""

from __future__ import annotations

import hmac
import json
import secrets
import selectors
import socket
from collections.abc import Mapping
from types import TracebackType
from typing import Any, NamedTuple

_CHUNK = 2**16
_CONNECT_LIMIT_S = 60


class Address(NamedTuple):
    """Where an inbox listens, and the word that opens it."""

    host: str
    port: int
    token: str


class Inbox:
    """Receives what any number of senders send; a context manager."""

    def __init__(self, host: str) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._server = socket.create_server((host, 0), family=family)
        self._server.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._server, selectors.EVENT_READ)
        self._partial: dict[socket.socket, bytes] = {}
        self._known: set[socket.socket] = set()
        self.address = Address(host, self._server.getsockname()[1], secrets.token_hex(16))
        self.senders = 0
        """How many senders have introduced themselves so far."""

    def __enter__(self) -> Inbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for sender in list(self._partial):
            self._drop(sender)
        self._selector.close()
        self._server.close()

    def receive(self, timeout_s: float) -> list[dict[str, Any]]:
        """What has arrived, in each sender's order; waits up to `timeout_s` for anything at all."""
        messages: list[dict[str, Any]] = []
        while ready := self._selector.select(0 if messages else timeout_s):
            for key, _ in ready:
                sender = key.fileobj
                assert isinstance(sender, socket.socket)
                if sender is self._server:
                    self._accept()
                else:
                    messages.extend(self._read(sender))
            timeout_s = 0
        return messages

    def _accept(self) -> None:
        sender, _ = self._server.accept()
        sender.setblocking(False)
        self._partial[sender] = b""
        self._selector.register(sender, selectors.EVENT_READ)

    def _read(self, sender: socket.socket) -> list[dict[str, Any]]:
        try:
            data = sender.recv(_CHUNK)
        except ConnectionError:
            data = b""
        if not data:
            self._drop(sender)
            return []
        *lines, self._partial[sender] = (self._partial[sender] + data).split(b"\n")
        messages = []
        for line in lines:
            if sender in self._known:
                messages.append(json.loads(line))
            elif hmac.compare_digest(line, self.address.token.encode()):
                self._known.add(sender)
                self.senders += 1
            else:
                self._drop(sender)
                return []
        return messages

    def _drop(self, sender: socket.socket) -> None:
        self._selector.unregister(sender)
        self._partial.pop(sender)
        self._known.discard(sender)
        sender.close()


class Sender:
    """Sends to an inbox from any node."""

    def __init__(self, address: Address) -> None:
        self._socket = socket.create_connection((address.host, address.port), timeout=_CONNECT_LIMIT_S)
        self._socket.sendall(address.token.encode() + b"\n")

    def send(self, message: Mapping[str, Any]) -> None:
        """Send one JSON object.

        Raises:
            ConnectionError: the receiver is gone.
        """
        self._socket.sendall(json.dumps(message).encode() + b"\n")
