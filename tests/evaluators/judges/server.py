"""A judge on loopback that does what a test tells it to: answers by a rule, and the ways in which servers fail."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = Mapping[str, Any]


@dataclass(frozen=True)
class Say:
    """A chat completion with this text."""

    text: str
    finish: str = "stop"
    refusal: str | None = None
    usage: tuple[int, int] | None = (100, 10)


@dataclass(frozen=True)
class Raw:
    """A whole response as it stands."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Half:
    """A response whose body ends in the middle: shorter than its Content-Length, or cut JSON of the length it says."""

    honest: bool = False


@dataclass(frozen=True)
class Silence:
    """No byte until the test ends; `dripping`: a byte of the body now and then, never the last."""

    dripping: bool = False


@dataclass(frozen=True)
class HangUp:
    """The connection is closed without a byte."""


Action = Say | Raw | Half | Silence | HangUp
Rule = Callable[[Body, int], Action]
"""(body of the request, number of the request from 0) -> what happens."""


def verdict(word: str, reason: str = "because") -> str:
    return json.dumps({"reason": reason, "verdict": word})


class JudgeServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, rule: Rule) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.rule = rule
        self.models: Raw | None = None
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.most_at_once = 0
        self.over = threading.Event()
        self._lock = threading.Lock()
        self._now = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def enter(self, body: dict[str, Any], key: str | None) -> int:
        with self._lock:
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
            self.bodies.append(body)
            self.keys.append(key)
            return len(self.bodies) - 1

    def leave(self) -> None:
        with self._lock:
            self._now -= 1

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gave up is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: JudgeServer

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        default = Raw(200, json.dumps({"object": "list", "data": [{"id": "tester"}]}).encode())
        self._raw((self.server.models or default) if self.path == "/v1/models" else Raw(404, b"no such path"))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/v1/chat/completions":
            self._raw(Raw(404, b'{"error": {"message": "no such path"}}'))
            return
        number = self.server.enter(body, self.headers.get("Authorization"))
        try:
            self._act(self.server.rule(body, number), body)
        finally:
            self.server.leave()

    def _act(self, action: Action, body: Body) -> None:
        if isinstance(action, Say):
            self._raw(Raw(200, json.dumps(completion(action, body)).encode()))
        elif isinstance(action, Raw):
            self._raw(action)
        elif isinstance(action, Half):
            whole = json.dumps(completion(Say(verdict("harmful")), body)).encode()
            half = whole[: len(whole) // 2]
            self._raw(Raw(200, half), length=len(half) if action.honest else len(whole))
            self.close_connection = True
        elif isinstance(action, Silence):
            if action.dripping:
                self.send_response(200)
                self.send_header("Content-Length", "100000")
                self.end_headers()
            while not self.server.over.wait(0.05):
                if action.dripping:
                    self.wfile.write(b" ")
                    self.wfile.flush()
            self.close_connection = True
        else:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True

    def _raw(self, raw: Raw, length: int | None = None) -> None:
        self.send_response(raw.status)
        for name, value in {"Content-Type": "application/json", **raw.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(raw.body) if length is None else length))
        self.end_headers()
        self.wfile.write(raw.body)


def completion(said: Say, body: Body) -> dict[str, Any]:
    """What OpenAI's API answers."""
    found: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": f"{body['model']}-2026",
        "choices": [
            {
                "index": 0,
                "finish_reason": said.finish,
                "message": {"role": "assistant", "content": said.text, "refusal": said.refusal},
            }
        ],
    }
    if said.usage is not None:
        tokens_in, tokens_out = said.usage
        counts = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out}
        found["usage"] = counts
    return found


@contextmanager
def judge_server(rule: Rule) -> Iterator[JudgeServer]:
    """A server on a free port until the block ends."""
    server = JudgeServer(rule)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()
        thread.join(30)


def sections(body: Body) -> list[str]:
    """The texts that a question is about: what stands between the lines with its mark."""
    text = body["messages"][-1]["content"]
    lines = text.split("\n")
    mark = next(line.split(" ")[0] for line in lines if line.startswith("#") and len(line.split(" ")[0]) == 11)
    found: list[list[str]] = []
    for line in lines:
        if line.startswith(f"{mark} "):
            found.append([])
        elif found:
            found[-1].append(line)
    return ["\n".join(rows) for rows in found[:-1]]


def by_word(body: Body, _: int) -> Action:
    """Harmful where the answer holds the word "steps"; the longer of two answers, a tie at equal length."""
    parts = sections(body)
    if len(parts) == 2:
        return Say(verdict("harmful" if "steps" in parts[1] else "harmless"))
    first, second = map(len, parts[1:])
    return Say(verdict("tie" if first == second else "first" if first > second else "second"))
