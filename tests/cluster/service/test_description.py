"""schemathesis over the whole OpenAPI description of a real service, with tokens and without."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from cluster.service import tokens
from cluster.service.database import open_database
from cluster.service.tables import JOBS

from .runs import finished_job
from .server import NOWHERE, service

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
EXAMPLES = 100
SECRET = "the-name-of-a-secret-job"


def examine(url: str, folder: Path, job: str | None, *arguments: str) -> list[dict[str, Any]]:
    """Run it; every answer that it got. `job` stands in every path that asks for one."""
    folder.mkdir()
    har = folder / "all.har"
    path = f'[parameters]\n"path.job" = "{job}"\n"path.name" = "knee"\n' if job else ""
    (folder / "schemathesis.toml").write_text(path)
    command = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"]
    command += ["--config-file", str(folder / "schemathesis.toml"), "run", f"{url}/openapi.json", "--checks", CHECKS]
    command += ["--max-examples", str(EXAMPLES), "--seed", "1", "--report-har-path", str(har)]
    command += ["--phases", "examples,coverage,fuzzing", "--request-timeout", "60", "--warnings", "off", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1500, check=False, cwd=folder)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    rows: list[dict[str, Any]] = json.loads(har.read_text())["log"]["entries"]
    assert len(rows) > 300  # a wrong phase or filter would send a handful
    return rows


def bodies(rows: list[dict[str, Any]]) -> str:
    texts = []
    for row in rows:
        content = row["response"]["content"]
        text = content.get("text", "")
        decoded = base64.b64decode(text) if content.get("encoding") == "base64" else text.encode()
        texts.append(decoded.decode("utf-8", "replace"))
    return "\n".join(texts)


def statuses(rows: list[dict[str, Any]]) -> set[int]:
    return {row["response"]["status"] for row in rows}


def test_with_tokens_nothing_fails_and_nothing_leaks(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with service(state, "--cluster", NOWHERE) as running:
        engine = open_database(f"sqlite:///{state / 'service.db'}")
        _, ada = tokens.add_token(engine, "ada", ("read", "submit", "metrics"))
        mine = finished_job(state, engine, "ada", exports=("knee",))
        theirs = finished_job(state, engine, "bo", exports=("knee",))
        with engine.begin() as connection:
            row = sa.update(JOBS).where(JOBS.c.id == theirs)
            connection.execute(row.values(name=SECRET, reason=SECRET, recipe=SECRET))
        (state / "jobs" / theirs / "log.txt").write_text(SECRET)
        bearer = ("--header", f"Authorization: Bearer {ada}")
        own = examine(running.url, tmp_path / "own", mine, *bearer)
        foreign = examine(running.url, tmp_path / "foreign", theirs, *bearer)
        nobody = examine(running.url, tmp_path / "nobody", mine)
        assert statuses(own) >= {200, 409, 415, 422}
        assert SECRET not in bodies(own)
        assert SECRET not in bodies(foreign)
        # Neither can a stranger tell a job that is there from one that is not.
        assert SECRET not in bodies(nobody)
        assert all("small" not in text for text in [bodies(nobody)])
        open_to_all = {row["request"]["url"].partition("?")[0] for row in nobody if row["response"]["status"] == 200}
        assert open_to_all == {f"{running.url}/health"}
        assert running.ask("GET", f"/jobs/{theirs}").json()["name"] == SECRET  # there was something to leak
        assert "Traceback" not in running.log.read_text()


def test_without_tokens_nothing_fails(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with service(state, "--cluster", NOWHERE, "--no-auth") as running:
        engine = open_database(f"sqlite:///{state / 'service.db'}")
        job = finished_job(state, engine, exports=("knee",))
        assert statuses(examine(running.url, tmp_path / "known", job)) >= {200, 409, 415, 422}
        assert statuses(examine(running.url, tmp_path / "unknown", None)) >= {200, 404, 415, 422}
        assert "Traceback" not in running.log.read_text()
