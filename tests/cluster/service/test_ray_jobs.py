"""Real jobs on a real Ray cluster: submitted, watched, killed in every part, resumed, cancelled, fetched."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from cluster.client import Client, ServiceError
from cluster.service import head

from .runs import world
from .server import Running, problem, service, until

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(1800)]
CANDIDATES = 24
END_S = 900.0


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("ray")
    world(folder / "world", CANDIDATES)
    with service(folder / "state", "--cpus=2", "--allow", str(folder / "world")) as started:
        yield started


@pytest.fixture
def recipe(running: Running) -> Path:
    return running.state.parent / "world" / "small.yaml"


def command(running: Running, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = "from search.cli import main; main()"
    program = [sys.executable, "-c", code, *arguments, "--url", running.url]
    environment = {"MERGEFRONT_TOKEN": running.token, "PATH": "/usr/bin:/bin"}
    return subprocess.run(program, capture_output=True, text=True, timeout=END_S, check=False, env=environment)


def scored(client: Client, job: str) -> int:
    found = client.status(job)
    assert found["state"] not in ("FAILED", "CANCELLED"), found
    return int(found["progress"]["scored"])


def under_way(client: Client, job: str, least: int = 5) -> None:
    until(f"{least} points of job {job}", lambda: least <= scored(client, job), END_S)
    assert client.status(job)["state"] == "RUNNING"


def submissions(running: Running, job: str) -> list[str]:
    """What Ray itself knows of a job."""
    found = head.known(running.state)
    assert found is not None
    answer = requests.get(f"{found.url}/api/jobs/", headers={"Authorization": f"Bearer {found.token}"}, timeout=30)
    return sorted(row["submission_id"] for row in answer.json() if f"-{job}-" in row["submission_id"])


def whole(document: dict[str, Any]) -> None:
    """Every candidate is there, and none twice."""
    merges = [point["id"] for point in document["points"] if point["kind"] == "merge"]
    assert sorted(map(int, merges)) == list(range(1, CANDIDATES + 1))
    assert sorted(point["id"] for point in document["points"] if point["kind"] != "merge") == ["base", "one", "two"]


def driver(job: str) -> psutil.Process:
    """The process of `mergefront run`, not the shell around it."""
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if "run" in line and any(f"/jobs/{job}/run" in part for part in line):
            return process
    raise AssertionError(f"no process runs job {job}")


def test_from_the_recipe_to_the_checkpoint_while_the_service_is_killed(
    running: Running, recipe: Path, tmp_path: Path
) -> None:
    submitted = command(running, "submit", str(recipe), "--key", "first")
    assert submitted.returncode == 0, submitted.stderr
    job = submitted.stdout.strip()
    client = running.client
    early = running.ask("GET", f"/jobs/{job}/exports/knee")
    assert problem(early, 409, "no-front")["detail"].startswith(f"job {job} is ")
    under_way(client, job)
    assert len(client.front(job)["points"]) >= 4  # the front while it runs
    early = running.ask("GET", f"/jobs/{job}/exports/knee")
    assert "was not exported" in problem(early, 409, "not-ready")["detail"]
    running.stop(signal.SIGKILL)
    assert driver(job).is_running()
    running.start()
    assert command(running, "submit", str(recipe), "--key", "first").stdout.strip() == job
    followed = command(running, "logs", job, "-f")
    assert followed.returncode == 0, followed.stderr
    assert "report:" in followed.stdout
    done = client.wait(job, limit_s=END_S)
    assert (done["state"], done["attempt"]) == ("DONE", 1)
    assert [event["state"] for event in done["events"]] == ["QUEUED", "STARTING", "RUNNING", "DONE"]
    assert submissions(running, job) == [f"mergefront-{job}-1"]
    document = client.front(job)
    whole(document)
    fetched = command(running, "fetch", job, "--pick", "knee", "--out", str(tmp_path / "knee"))
    assert fetched.returncode == 0, fetched.stderr
    card = json.loads((tmp_path / "knee" / "card.json").read_text())
    assert card["identity"]["point"] == document["picks"]["knee"]
    other = next(point["id"] for point in document["points"] if point["id"] != document["picks"]["knee"])
    made = client.fetch(job, f"#{other}", tmp_path / "other", limit_s=END_S)
    assert json.loads((made / "card.json").read_text())["identity"]["point"] == other
    told = command(running, "status", job)
    assert "DONE" in told.stdout
    assert f"knee: {document['picks']['knee']}" in told.stdout
    assert job in command(running, "jobs").stdout


def test_a_killed_run_is_resumed(running: Running, recipe: Path) -> None:
    client = running.client
    job = client.submit(recipe)["id"]
    under_way(client, job)
    driver(job).kill()
    done = client.wait(job, limit_s=END_S)
    assert (done["state"], done["attempt"] > 1) == ("DONE", True), done
    assert any("attempt 1 of 4 ended" in event["reason"] for event in done["events"])
    whole(client.front(job))


def test_a_lost_cluster_is_replaced_and_its_job_resumed(running: Running, recipe: Path) -> None:
    client = running.client
    job = client.submit(recipe)["id"]
    under_way(client, job)
    before = head.known(running.state)
    assert before is not None
    process = before.process()
    assert process is not None
    for part in [*process.children(recursive=True), process]:
        part.kill()
    done = client.wait(job, limit_s=END_S)
    assert (done["state"], done["attempt"] > 1) == ("DONE", True), done
    assert any("the cluster that ran it is gone" in event["reason"] for event in done["events"])
    assert head.known(running.state) != before
    whole(client.front(job))


def test_jobs_wait_for_room_and_a_running_one_is_cancelled_once(running: Running, recipe: Path) -> None:
    client = running.client
    wide = recipe.with_name("wide.yaml")
    wide.write_text(recipe.read_text().replace("cpus: 0.9", "cpus: 1.5"))
    first = client.submit(wide)["id"]
    until("the first runs", lambda: client.status(first)["state"] == "RUNNING", END_S)
    second, urgent = client.submit(wide)["id"], client.submit(wide, priority=5)["id"]
    until("it says why", lambda: client.status(second)["reason"] == "waits for 1.51 CPUs that others hold", END_S)
    under_way(client, first, 4)
    assert client.status(second)["state"] == "QUEUED"
    gone = driver(first)
    assert client.cancel(first)["state"] == "CANCELLING"
    ended = client.wait(first, limit_s=END_S)
    assert ended["state"] == "CANCELLED"
    until("the process ends", lambda: not gone.is_running() or gone.status() == psutil.STATUS_ZOMBIE)
    with pytest.raises(ServiceError, match="is cancelled already"):
        client.cancel(first)
    assert client.status(first) == ended
    assert len(client.front(first)["points"]) >= 4  # what ran is kept
    until("the urgent one runs", lambda: client.status(urgent)["state"] == "RUNNING", END_S)
    assert client.status(second)["state"] == "QUEUED"
    client.cancel(second)
    client.cancel(urgent)
    assert client.wait(urgent, limit_s=END_S)["state"] == "CANCELLED"


def test_what_the_cluster_can_never_give_is_refused(running: Running, recipe: Path) -> None:
    large = recipe.read_text().replace("actors: 1", "actors: 8")
    until("the cluster is known", lambda: running.ask("GET", "/health", "").json()["cluster"], END_S)
    told = problem(running.submit(large, recipe.parent), 422, "too-big")
    assert "this cluster can never give 7.21 CPUs (it has 2)" in told["detail"]


def test_input_that_went_bad_fails_at_once_with_its_reason(running: Running, recipe: Path) -> None:
    broken = recipe.with_name("broken.yaml")
    items = recipe.parent / "eval" / "gone.jsonl"
    items.write_bytes((recipe.parent / "eval" / "general.jsonl").read_bytes())
    broken.write_text(recipe.read_text().replace("eval/general.jsonl", "eval/gone.jsonl"))
    job = running.client.submit(broken)["id"]
    items.unlink()
    done = running.client.wait(job, limit_s=END_S)
    assert (done["state"], done["attempt"]) == ("FAILED", 1)
    assert "eval/gone.jsonl" in done["reason"]
    watched = command(running, "status", job, "-f")
    assert watched.returncode == 1
    assert "is FAILED" in watched.stderr
    assert "what ran is kept" not in watched.stderr
