"""The service on a real PostgreSQL server, which is restarted under it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.search import postgresql

from .runs import world
from .server import NOWHERE, Running, problem, service, until

WHY = postgresql.unavailable()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(WHY), reason=WHY or "there is a server")]


@pytest.fixture
def server() -> Iterator[postgresql.Server]:
    started = postgresql.start()
    yield started
    postgresql.stop(started)


def test_a_restart_of_the_database_loses_nothing(server: postgresql.Server, tmp_path: Path) -> None:
    recipe = world(tmp_path / "world")
    options = ("--cluster", NOWHERE, "--database", server.url, "--allow", str(recipe.parent))
    with service(tmp_path / "state", *options) as running:
        job = running.submit(recipe.read_text(), recipe.parent, Idempotency_Key="a").json()["id"]
        second = Running(tmp_path / "second", options, 0)
        with pytest.raises(AssertionError, match="another service works with this database"):
            second.start()
        server.control("stop", "-m", "fast")
        told = problem(running.ask("GET", "/jobs"), 503, "database-away")
        assert "try again" in told["detail"]
        assert running.ask("GET", "/health", "").status_code == 503
        server.control("start")
        until("jobs are listed again", lambda: running.ask("GET", "/jobs").ok, 60)
        assert [row["id"] for row in running.ask("GET", "/jobs").json()["jobs"]] == [job]
        again: requests.Response = running.submit(recipe.read_text(), recipe.parent, Idempotency_Key="a")
        assert (again.status_code, again.json()["id"]) == (200, job)
        assert problem(running.submit(b"a: \x00", recipe.parent), 422, "bad-recipe")
        problem(running.ask("GET", "/jobs/a%00b"), 404, "unknown-job")
        running.stop()
        running.start()
        assert running.ask("POST", f"/jobs/{job}/cancel").json()["state"] == "CANCELLED"
    assert not (tmp_path / "state" / "service.db").exists()
