from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from evaluators.judges.settings import Judge, judge_of

from .server import JudgeServer, Rule, judge_server

Serve = Callable[..., tuple[JudgeServer, Judge]]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts a judge that follows a rule: (the server, the settings that reach it)."""
    with ExitStack() as stack:

        def start(rule: Rule, **settings: Any) -> tuple[JudgeServer, Judge]:
            server = stack.enter_context(judge_server(rule))
            given = {"endpoint": server.url, "model": "tester", "cache": str(tmp_path / "cache.sqlite")}
            return server, judge_of(given | {"account": "tests", "name": "strict"} | settings)

        yield start
