"""Requests to a real service process whose cluster never answers: jobs are accepted and wait."""

from __future__ import annotations

import concurrent.futures
import io
import json
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
import sqlalchemy as sa

from cluster.client import Client, ServiceError
from cluster.service import tokens
from cluster.service.database import open_database

from .runs import finished_job, world
from .server import NOWHERE, Running, problem, service, until


@dataclass(frozen=True)
class Site:
    """A service with a finished job, and people: an operator, ada (all but admin), bo (reads)."""

    running: Running
    recipe: Path
    done: str
    ada: str
    bo: str
    engine: sa.Engine
    secret: Path

    @property
    def text(self) -> str:
        return self.recipe.read_text()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    recipe = world(folder / "world")
    secret = folder / "secret.jsonl"
    secret.write_text('{"prompt": "a", "answer": "b", "language": "en"}\n')
    with service(folder / "state", "--cluster", NOWHERE, "--allow", str(folder / "world")) as running:
        engine = open_database(f"sqlite:///{folder / 'state' / 'service.db'}")
        _, ada = tokens.add_token(engine, "ada", ("read", "submit", "metrics"))
        _, bo = tokens.add_token(engine, "bo", ("read",))
        done = finished_job(folder / "state", engine, "ada", exports=("knee",))
        yield Site(running, recipe, done, ada, bo, engine, secret)


def test_a_job_is_accepted_once_per_key_and_listed(site: Site) -> None:
    first = site.running.submit(site.text, site.recipe.parent, site.ada, Idempotency_Key="k1")
    assert first.status_code == 201, first.text
    job = first.json()
    assert first.headers["location"] == f"/jobs/{job['id']}"
    assert (job["state"], job["name"], job["owner"], job["candidates"]) == ("QUEUED", "small", "ada", 4)
    assert job["needs"] == {"cpus": 0.91, "gpus": 0.0}
    again = site.running.submit(site.text, site.recipe.parent, site.ada, Idempotency_Key="k1")
    assert (again.status_code, again.json()["id"]) == (200, job["id"])
    other = site.running.submit(site.text + "\n", site.recipe.parent, site.ada, Idempotency_Key="k1")
    problem(other, 409, "key-taken")
    listed = site.running.ask("GET", "/jobs", site.ada, params={"limit": 1}).json()
    assert [row["id"] for row in listed["jobs"]] == [job["id"]]
    older = site.running.ask("GET", "/jobs", site.ada, params={"before": listed["next"]}).json()
    assert [row["id"] for row in older["jobs"]] == [site.done]
    assert site.running.ask("GET", "/jobs", site.ada, params={"state": "DONE"}).json()["jobs"][0]["id"] == site.done
    shown = site.running.ask("GET", f"/jobs/{job['id']}", site.ada).json()
    assert shown["recipe"] == site.text
    assert [event["state"] for event in shown["events"]] == ["QUEUED"]


def test_the_same_key_from_many_clients_at_once_is_one_job(site: Site) -> None:
    def submit(_: int) -> requests.Response:
        return site.running.submit(site.text, site.recipe.parent, site.ada, Idempotency_Key="rush")

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(submit, range(6)))
    assert {answer.status_code for answer in answers} <= {200, 201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert [answer.status_code for answer in answers].count(201) == 1


def test_a_recipe_is_refused_in_the_words_of_check(site: Site) -> None:
    from search.check import check
    from search.errors import UserError
    from search.recipe import load_recipe

    text = site.text.replace("kind: refusal", "kind: refusl").replace("base: base", "base: nowhere/at/all")
    copy = site.recipe.with_name("wrong.yaml")
    copy.write_text(text)
    with pytest.raises(UserError) as expected:
        check(load_recipe(copy))
    told = problem(site.running.submit(text, site.recipe.parent, site.ada), 422, "bad-recipe")
    assert told["detail"] == str(expected.value).replace(str(copy), "recipe.yaml")
    assert told["problems"][0]["line"] == text[: text.index("refusl")].count("\n") + 1
    assert told["problems"][0]["remedy"] == "did you mean 'refusal'?"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"name: \xff\xfe", "recipe.yaml:1: must be UTF-8 text, got byte 0xff"),
        (b"[1, 2]", "must be a mapping of keys to values"),
        (b"name: !!python/object/apply:os.system [id]", "tags are not allowed"),
        (b"a: &a [x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\n" + b"".join(
            b"%c: &%c [*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c]\n" % ((c, c) + (c - 1,) * 8) for c in range(99, 112)
        ), "recipe.yaml"),
    ],
)  # fmt: skip
def test_hostile_recipes(site: Site, body: bytes, says: str) -> None:
    told = problem(site.running.submit(body, None, site.ada), 422, "bad-recipe")
    assert says in told["detail"]


def test_bodies_that_are_no_recipes(site: Site) -> None:
    problem(site.running.submit(b"", None, site.ada), 400, "empty")
    problem(site.running.submit(b"a" * (2**20 + 1), None, site.ada), 413, "too-large")
    endless = (b"# more\n" * 1000 for _ in range(1000))  # no length is announced
    headers = {"Content-Type": "application/yaml"}
    problem(site.running.ask("POST", "/jobs", site.ada, data=endless, headers=headers), 413, "too-large")
    form = site.running.ask("POST", "/jobs", site.ada, data={"name": "x"})
    problem(form, 415, "not-yaml")
    problem(site.running.submit("a: b", None, site.ada, Idempotency_Key="a b"), 400, "bad-key")
    problem(site.running.submit("a: b", Path("relative"), site.ada), 400, "bad-place")


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("kind: refusal, data: eval/harmful.jsonl", "kind: refusal, data: SECRET", "evaluators.safety.data"),
        ("kind: refusal, data: eval/harmful.jsonl", "kind: refusal, data: ../secret.jsonl", "evaluators.safety.data"),
        ("kind: refusal, data: eval/harmful.jsonl", "kind: refusal, data: eval/link.jsonl", "evaluators.safety.data"),
        ("kind: refusal, data: eval/harmful.jsonl", "kind: refusal, data: 's3://b/x.jsonl'", "evaluators.safety.data"),
        ("base: base", "base: /etc", "base"),
        ("one: {path: one}", "one: {path: ../../../../etc}", "experts.one.path"),
        ("name: small", "name: small\ndatabase: postgresql://h/d", "database"),
    ],
)
def test_a_recipe_names_nothing_outside_what_is_permitted(site: Site, old: str, new: str, where: str) -> None:
    link = site.recipe.parent / "eval/link.jsonl"
    link.unlink(missing_ok=True)
    link.symlink_to(site.secret)
    text = site.text.replace(old, new.replace("SECRET", str(site.secret)))
    told = problem(site.running.submit(text, site.recipe.parent, site.ada), 422, "bad-recipe")
    assert [row["path"].startswith(where) for row in told["problems"]] == [True], told["detail"]
    assert "is not permitted by this service" in told["detail"]
    outside = site.running.submit(site.text, site.secret.parent, site.ada)
    assert "is not permitted" in problem(outside, 422, "bad-recipe")["detail"]


def test_a_recipe_names_no_code(site: Site, tmp_path: Path) -> None:
    text = site.text.replace("kind: refusal", "kind: 'antigravity:geohash'").replace("[linear]", "['os:system']")
    told = problem(site.running.submit(text, site.recipe.parent, site.ada), 422, "bad-recipe")
    assert told["detail"].count("code of your own is not permitted here") == 2


def test_without_a_good_token_nothing_is_told(site: Site) -> None:
    _, expired = tokens.add_token(site.engine, "ada", ("read",), days=1e-9)
    for path in ("/jobs", f"/jobs/{site.done}", f"/jobs/{site.done}/front", f"/jobs/{site.done}/logs", "/metrics"):
        told = problem(site.running.ask("GET", path, ""), 401, "no-token")
        assert site.done not in json.dumps(told)
        assert "unknown token" in problem(site.running.ask("GET", path, "mf_wrong"), 401, "bad-token")["detail"]
        assert "has expired" in problem(site.running.ask("GET", path, expired), 401, "bad-token")["detail"]
    which, revoked = tokens.add_token(site.engine, "ada", ("read",))
    assert site.running.ask("GET", "/jobs", revoked).status_code == 200
    tokens.revoke(site.engine, which)
    until("the revocation is noticed", lambda: site.running.ask("GET", "/jobs", revoked).status_code == 401, 20)


def test_scopes_and_owners_are_kept_apart(site: Site) -> None:
    for method, path in (("POST", "/jobs"), ("POST", f"/jobs/{site.done}/cancel"), ("GET", "/metrics")):
        assert "needs the scope" in problem(site.running.ask(method, path, site.bo), 403, "missing-scope")["detail"]
    for path in ("", "/front", "/logs", "/exports", "/exports/knee"):
        theirs = problem(site.running.ask("GET", f"/jobs/{site.done}{path}", site.bo), 404, "unknown-job")
        nobodys = problem(site.running.ask("GET", f"/jobs/{'0' * 12}{path}", site.bo), 404, "unknown-job")
        assert theirs["detail"].replace(site.done, "0" * 12) == nobodys["detail"]
    assert site.running.ask("GET", "/jobs", site.bo).json() == {"jobs": [], "next": None}
    assert site.running.ask("GET", f"/jobs/{site.done}").status_code == 200  # the operator sees all


def test_a_waiting_job_is_cancelled_once(site: Site) -> None:
    job = site.running.submit(site.text, site.recipe.parent, site.ada).json()["id"]
    follow = Client(site.running.url, site.ada)
    assert follow.cancel(job)["state"] == "CANCELLED"
    before = follow.status(job)
    with pytest.raises(ServiceError, match="is cancelled already") as again:
        follow.cancel(job)
    assert (again.value.status, again.value.exit_status) == (409, 2)
    assert follow.status(job) == before
    with pytest.raises(ServiceError, match="is DONE already"):
        follow.cancel(site.done)
    assert list(follow.logs(job, follow=True)) == []


def test_logs_front_and_a_checkpoint(site: Site, tmp_path: Path) -> None:
    client = Client(site.running.url, site.ada)
    assert list(client.logs(site.done)) == ["experts: none to train", "front: 5 points"]
    rest = site.running.ask("GET", f"/jobs/{site.done}/logs", site.ada, headers={"Last-Event-ID": "23"})
    assert rest.text == 'id: 39\ndata: "front: 5 points"\n\nevent: end\ndata: {"state": "DONE"}\n\n'
    document = client.front(site.done)
    assert document["picks"]["knee"] in {point["id"] for point in document["points"] if point["on_front"]}
    etag = site.running.ask("GET", f"/jobs/{site.done}/front", site.ada).headers["etag"]
    same = site.running.ask("GET", f"/jobs/{site.done}/front", site.ada, headers={"If-None-Match": etag})
    assert (same.status_code, same.content) == (304, b"")
    out = client.fetch(site.done, "knee", tmp_path / "knee")
    assert (out / "model.safetensors").read_bytes() == bytes(range(256)) * 40
    with pytest.raises(ValueError, match="exists; name a directory"):
        client.fetch(site.done, "knee", tmp_path / "knee")
    assert list(tmp_path.iterdir()) == [out]


def test_a_checkpoint_that_is_not_ready(site: Site) -> None:
    path = f"/jobs/{site.done}/exports/2"
    assert "was not exported" in problem(site.running.ask("GET", path, site.ada), 409, "not-ready")["detail"]
    asked = site.running.ask("POST", path, site.ada)
    assert (asked.status_code, asked.json()["state"]) == (202, "QUEUED")
    assert "is QUEUED" in problem(site.running.ask("GET", path, site.ada), 409, "not-ready")["detail"]
    listed = site.running.ask("GET", f"/jobs/{site.done}/exports", site.ada).json()["exports"]
    assert [(row["name"], row["state"]) for row in listed] == [("knee", "DONE"), ("2", "QUEUED")]
    waiting = site.running.submit(site.text, site.recipe.parent, site.ada).json()["id"]
    problem(site.running.ask("GET", f"/jobs/{waiting}/exports/knee", site.ada), 409, "no-front")
    problem(site.running.ask("GET", f"/jobs/{waiting}/front", site.ada), 409, "no-front")


def test_a_run_that_cannot_be_read_here(site: Site) -> None:
    state = site.running.state
    for damage, says in (("newer", "written by a newer mergefront (schema 99"), ("torn", "cannot be opened")):
        job = finished_job(state, site.engine, "ada")
        run = state / "jobs" / job / "run"
        if damage == "newer":
            lock = json.loads((run / "recipe.lock.json").read_text())
            (run / "recipe.lock.json").write_text(json.dumps(lock | {"schema": 99}))
        else:
            for file in run.glob("study.db*"):
                file.unlink()
            (run / "study.db").write_bytes(b"no database at all" * 300)
        before = site.running.ask("GET", f"/jobs/{job}", site.ada).json()
        for method, path in (
            ("GET", "/front"),
            ("GET", "/exports"),
            ("GET", "/exports/knee"),
            ("POST", "/exports/knee"),
        ):
            told = problem(site.running.ask(method, f"/jobs/{job}{path}", site.ada), 409, "unreadable-run")
            assert says in told["detail"] or damage == "torn", told
            assert "\n" not in told["detail"]
        assert site.running.ask("GET", f"/jobs/{job}", site.ada).json() == before


def test_a_link_without_a_token(site: Site) -> None:
    made = site.running.ask("POST", f"/jobs/{site.done}/exports/knee", site.ada).json()
    link = f"/jobs/{site.done}/exports/knee?ticket={made['ticket']}"
    got = site.running.ask("GET", link, "")
    assert got.headers["content-disposition"] == f'attachment; filename="{site.done}-knee.tar"'
    assert len(got.content) == made["bytes"]
    with tarfile.open(fileobj=io.BytesIO(got.content)) as unpacked:
        assert unpacked.getnames() == ["knee/config.json", "knee/model.safetensors"]
    problem(site.running.ask("GET", link.replace("knee", "1"), ""), 401, "bad-ticket")
    problem(site.running.ask("GET", link + "0", ""), 401, "bad-ticket")


@pytest.mark.parametrize(
    "name", ["..", "%2e%2e", "..%2f..%2frecipe.yaml", "%2fetc%2fpasswd", "knee%00", "knee%2f..", "%ff"]
)
def test_names_are_never_paths(site: Site, name: str) -> None:
    for path in (f"/jobs/{name}", f"/jobs/{site.done}/exports/{name}", f"/page/{name}", f"/jobs/{name}/logs"):
        request = requests.Request("GET", site.running.url, headers={"Authorization": f"Bearer {site.ada}"}).prepare()
        request.url = site.running.url + path  # as it is: requests would take the dots out
        with requests.Session() as session:
            answer = session.send(request, timeout=60, allow_redirects=False)
        assert answer.status_code in (307, 404), (path, answer.status_code, answer.text)
        assert b"root:" not in answer.content


def test_health_metrics_and_the_description(site: Site) -> None:
    health = site.running.ask("GET", "/health", "").json()
    assert (health["status"], health["database"], health["cluster"]) == ("waiting for the cluster", True, False)
    text = site.running.ask("GET", "/metrics", site.ada).text
    done = len(site.running.ask("GET", "/jobs", params={"state": "DONE", "limit": 100}).json()["jobs"])
    assert f'mergefront_jobs{{state="DONE"}} {done}.0' in text
    assert "mergefront_cluster_up 0.0" in text
    described = site.running.ask("GET", "/openapi.json", "").json()
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            answers = operation["responses"]
            good = [answers[code] for code in answers if code < "300"]
            assert good, (method, path)
            assert path == "/health" or "application/problem+json" in answers["401"]["content"]
    for name in ("JobShown", "Problem", "ExportShown"):
        assert name in described["components"]["schemas"]
    problem(site.running.ask("PUT", "/jobs", site.ada), 405, "method-not-allowed")
    problem(site.running.ask("GET", "/jobs?limit=0", site.ada), 422, "invalid-request")
    assert (
        "must be one of QUEUED"
        in problem(site.running.ask("GET", "/jobs?state=x", site.ada), 400, "bad-state")["detail"]
    )


def test_a_killed_service_finds_its_jobs_and_nobody_shares_its_place(site: Site, tmp_path: Path) -> None:
    def listed() -> list[tuple[str, str, int]]:  # why a job waits may be told otherwise
        rows = site.running.ask("GET", "/jobs", site.ada).json()["jobs"]
        return [(row["id"], row["state"], row["attempt"]) for row in rows]

    job = site.running.submit(site.text, site.recipe.parent, site.ada).json()["id"]
    before, token = listed(), site.running.token
    client = Client(site.running.url, site.ada)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        followed = pool.submit(lambda: list(client.logs(job, follow=True)))
        try:
            until("the stream is open", lambda: "log_streams 0.0" not in site.running.ask("GET", "/metrics").text)
            site.running.stop(signal.SIGKILL)
            with pytest.raises(ServiceError, match="does not answer") as away:
                client.jobs()
            (site.running.state / "jobs" / job).mkdir(parents=True, exist_ok=True)
            (site.running.state / "jobs" / job / "log.txt").write_text("written meanwhile\n")
            site.running.start()
            after = listed()
        finally:
            client.cancel(job)  # the stream ends with its job, and nothing waits for it
        assert followed.result(120) == ["written meanwhile"]
    assert away.value.exit_status == 1
    assert (after, site.running.token) == (before, token)  # the first one still holds, and no second was made
    for state, says in ((site.running.state, "another service works there (pid "), (tmp_path / "b", "already in use")):
        command = [sys.executable, "-c", "from search.cli import main; main()", "serve", f"--state={state}"]
        command += [f"--port={site.running.port}"]
        second = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert (second.returncode, says in second.stderr) == (2, True), second.stderr
    assert not (tmp_path / "b" / "service.db").exists()


def test_without_tokens_only_this_machine_and_its_own_page_may_ask(tmp_path: Path) -> None:
    with service(tmp_path / "open", "--cluster", NOWHERE, "--no-auth") as running:
        assert "tokens are off" in running.log.read_text()
        assert running.ask("GET", "/jobs", "").json()["jobs"] == []
        strange = running.ask("GET", "/jobs", "", headers={"Host": "evil.example"})
        assert "is not addressed as 'evil.example'" in problem(strange, 403, "wrong-host")["detail"]
        page = running.ask("POST", f"/jobs/{'0' * 12}/cancel", "", headers={"Origin": "https://evil.example"})
        problem(page, 403, "wrong-host")
        problem(
            running.ask("POST", f"/jobs/{'0' * 12}/cancel", "", headers={"Origin": running.url}), 404, "unknown-job"
        )
        began = time.monotonic()
        running.stop()
        assert time.monotonic() - began < 60
