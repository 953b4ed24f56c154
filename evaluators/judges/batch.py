"""Many questions to one judge: what the cache knows first, the rest over HTTP, at most so many at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import anyio
import httpx2
from anyio.from_thread import start_blocking_portal

from .cache import Cache, Spent, default_file
from .client import Gate, Refused, Reply, ask, client
from .errors import Unavailable, Unjudged
from .prompts import Messages
from .settings import Judge
from .verdict import Form, NoVerdict, shown

TRIES_FOR_A_VERDICT = 3
"""Times that a judge whose reply is no verdict is asked; each is paid for."""

_NO_SCHEMA = (400, 415, 422)
"""What servers answer to a `response_format` that they do not know."""


@dataclass(frozen=True)
class Question:
    """One thing to label: the chat that asks for it, the prompt that the chat is of, the item for messages."""

    messages: Messages
    prompt: str
    item: str


@dataclass(frozen=True)
class Answered:
    """The verdicts of a batch.

    Attributes:
        verdicts: for each question, in order, one verdict for each vote; fewer where there is none, if lenient.
        asked: replies that were paid for; 0 where the cache knew everything.
    """

    verdicts: tuple[tuple[str, ...], ...]
    asked: int


def answer(judge: Judge, form: Form, questions: Sequence[Question], *, lenient: bool = False) -> Answered:
    """Ask a judge all questions, `judge.votes` times each, and remember every verdict.

    A verdict is known by (judge, prompt with its digest, chat, number of the vote): the same answer of another
    candidate, of a resumed or of another run costs nothing.

    Args:
        judge: who is asked.
        form: what a verdict may be.
        questions: what is asked.
        lenient: go on after an answer that gets no verdict. Nothing that makes a score may do so.

    Raises:
        Unjudged: an answer gets no verdict, so its candidate cannot have a score.
        Unavailable: the endpoint, the key or the money gave out; verdicts until then are kept.
    """
    prefix = hashlib.sha256(f"{judge.digest()}\x1f{form.name}\x1f".encode())
    keys = [_key(prefix, question, vote) for question in questions for vote in range(judge.votes)]
    with Cache(judge.cache or default_file()) as cache:
        known = cache.verdicts(keys)
        missing = {
            key: (questions[index // judge.votes], index % judge.votes)
            for index, key in enumerate(keys)
            if key not in known
        }
        batch = _Batch(judge, form, cache, iter(missing.items()), known, lenient)
        if missing:
            # In a thread of its own: the caller may itself run in an event loop (a notebook, an async actor).
            with start_blocking_portal() as portal:
                portal.call(batch.run)
    votes = [keys[first : first + judge.votes] for first in range(0, len(keys), judge.votes)]
    return Answered(tuple(tuple(known[key] for key in row if key in known) for row in votes), batch.replies)


def _key(prefix: Any, question: Question, vote: int) -> bytes:
    digest = prefix.copy()
    parts = (question.prompt, *(part for message in question.messages for part in message), str(vote))
    digest.update("\x1f".join(parts).encode("utf-8", "surrogatepass"))
    return bytes(digest.digest()[:16])


class _Batch:
    """The questions of one call that the cache does not know, on their way."""

    def __init__(
        self,
        judge: Judge,
        form: Form,
        cache: Cache,
        missing: Iterator[tuple[bytes, tuple[Question, int]]],
        known: dict[bytes, str],
        lenient: bool,
    ) -> None:
        self.judge, self.form, self.cache = judge, form, cache
        self.missing, self.known, self.lenient = missing, known, lenient
        self.gate: Gate
        self.error: Unjudged | Unavailable | None = None
        self.schema = judge.structured != "none"
        self.replies = 0

    async def run(self) -> None:
        """Ask everything. After the first failure nothing more is asked, but what is under way is waited for and kept.

        Cancelled requests would cost money all the same, and the ledger would not know.
        """
        self.gate = Gate()
        try:
            async with client(self.judge) as http, anyio.create_task_group() as workers:
                for _ in range(self.judge.concurrency):
                    workers.start_soon(self._work, http)
        except BaseExceptionGroup as group:
            raise _first(group) from None
        if self.error is not None:
            raise self.error

    async def _work(self, http: httpx2.AsyncClient) -> None:
        for key, (question, vote) in self.missing:
            if self.gate.over:
                return
            try:
                verdict, reply = await self._verdict(http, question, vote)
            except (Unjudged, Unavailable) as error:
                if self.lenient and isinstance(error, Unjudged):
                    continue
                self.error = self.error or error
                self.gate.end()
                return
            self.known[key] = self.cache.keep(
                key,
                verdict,
                reply=reply.text,
                prompt=question.prompt,
                asked=f"{self.judge.model} at {self.judge.identity or self.judge.endpoint}",
                served=reply.model,
            )

    async def _verdict(self, http: httpx2.AsyncClient, question: Question, vote: int) -> tuple[str, Reply]:
        why = ""
        for _ in range(TRIES_FOR_A_VERDICT):
            if self.gate.over:
                break
            self._check_money()
            try:
                reply = await self._reply(http, question, vote)
            except Refused as error:
                raise Unjudged(f"judge {self.judge.name}: item {question.item}: refuses the request: {error}") from None
            try:
                verdict = self._read(reply)
            except NoVerdict as error:
                self._pay(reply, invalid=1)
                why = str(error)
                if reply.refusal:
                    break  # what refuses once is not talked round
                continue
            self._pay(reply, invalid=0)
            return verdict, reply
        raise Unjudged(f"judge {self.judge.name}: item {question.item}: no verdict; the last reply: {why}")

    def _read(self, reply: Reply) -> str:
        if reply.refusal:
            raise NoVerdict(f"refuses to label it: {shown(reply.refusal)}")
        if reply.finish == "length":
            raise NoVerdict(f"cut at max_tokens ({self.judge.max_tokens}); raise it")
        return self.form.read(reply.text)

    async def _reply(self, http: httpx2.AsyncClient, question: Question, vote: int) -> Reply:
        body = request(self.judge, question.messages, vote)
        if not self.schema:
            return await ask(http, self.judge, body, self.gate)
        with_schema = body | {"response_format": self.form.response_format()}
        try:
            return await ask(http, self.judge, with_schema, self.gate)
        except Refused as error:
            if self.judge.structured == "schema" or error.status not in _NO_SCHEMA:
                raise
            reply = await ask(http, self.judge, body, self.gate)
            self.schema = False  # only now: were the request itself at fault, this try would have failed as well
            return reply

    def _pay(self, reply: Reply, *, invalid: int) -> None:
        self.replies += 1
        if reply.tokens is None and self.judge.limit is not None:
            raise Unavailable(
                f"judge {self.judge.name}: the endpoint does not say how many tokens it used, so the limit of money "
                "cannot be kept; remove limit, or use a server that reports usage"
            )
        tokens = reply.tokens or (0, 0)
        self.cache.spend(self.judge.account, Spent(1, invalid, *tokens, self.judge.cost(*tokens)))

    def _check_money(self) -> None:
        if self.judge.limit is None:
            return
        money = self.cache.spent(self.judge.account).money
        if money >= self.judge.limit:
            raise Unavailable(
                f"judge {self.judge.name}: has cost {money:.4g} of at most {self.judge.limit:g}; what is judged is "
                f"kept: raise limit (judges.{self.judge.name}.limit) and run again"
            )


def request(judge: Judge, messages: Messages, vote: int) -> dict[str, Any]:
    """The body of a chat completion, without `response_format`."""
    if not judge.system:
        messages = (("user", "\n\n".join(content for _, content in messages)),)
    body: dict[str, Any] = {
        "model": judge.model,
        "messages": [{"role": role, "content": content} for role, content in messages],
    }
    sent: Mapping[str, Any] = {"temperature": judge.temperature, "max_tokens": judge.max_tokens}
    body |= {name: value for name, value in sent.items() if value is not None}
    if judge.seed is not None:
        body["seed"] = judge.seed + vote
    return body | dict(judge.extra)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What went wrong first; a task group wraps it, with the cancellations that it caused left out."""
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner
