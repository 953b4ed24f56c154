"""The cluster section of a recipe, the log of a run, full disks, and what `doctor` looks at."""

from __future__ import annotations

import errno
import json
import threading
from pathlib import Path

import pytest

from search._recipe.models import ClusterSpec
from search.commands.doctor import findings
from search.errors import UserError
from search.recipe import parse_recipe
from search.run import disk, journal
from search.scoring.watch import failed
from tests.cluster.service.runs import finished_job
from tests.search.test_recipe import VALID


def test_actors_are_a_number_a_range_or_what_fits() -> None:
    def actors(value: object) -> tuple[int, int, str]:
        found = ClusterSpec.model_validate({"evaluators": {"actors": value}}).evaluators.actors
        return found.min, found.max, str(found)

    assert actors(3) == (3, 3, "3")
    assert actors({"min": 2, "max": 8}) == (2, 8, "2 to 8")
    assert actors("auto") == actors({}) == (1, 10**5, "1 or more")
    spec = ClusterSpec.model_validate({"evaluators": {"task_timeout": "1h30m", "start_timeout": 90}}).evaluators
    assert (spec.task_timeout, spec.start_timeout) == (5400.0, 90.0)
    dumped = ClusterSpec.model_validate({"evaluators": {"actors": 2}}).model_dump()
    again = ClusterSpec.model_validate(dumped)
    assert again.evaluators.actors.max == 2, "a resolved recipe can be read again"


@pytest.mark.parametrize("address", ["local", "auto", "10.0.0.1:6379", "head:6379", "[fe80::1]:6379"])
def test_addresses(address: str) -> None:
    assert ClusterSpec.model_validate({"address": address}).address == address


def test_where_it_runs_changes_nothing_that_was_scored() -> None:
    recipe = parse_recipe(VALID)
    elsewhere = recipe.on("head:6379", elastic=True)
    assert (elsewhere.cluster.address, elsewhere.cluster.elastic) == ("head:6379", True)
    assert elsewhere.fingerprint() == recipe.fingerprint()
    with pytest.raises(UserError, match=r"--cluster: Ray Client cannot carry a run .*; run on a node of the cluster"):
        recipe.on("ray://head:10001")


def test_lines_of_many_writers_stay_whole_and_name_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(journal.JOB, "0123456789ab")

    def write(number: int) -> None:
        for _ in range(50):
            journal.write(tmp_path, "candidate", search="ties", candidate=str(number), trace="x" * 3000, error=None)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    lines = [json.loads(line) for line in (tmp_path / journal.FILE).read_text().splitlines()]
    assert len(lines) == 200
    assert {(line["job"], line["search"], line["event"]) for line in lines} == {("0123456789ab", "ties", "candidate")}
    assert all("error" not in line for line in lines)
    journal.write(tmp_path / "gone", "dropped")


def test_a_full_disk_is_waited_for_and_nothing_else_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "PAUSE_S", 0.01)
    tries = 0

    def write() -> str:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise (
                OSError(errno.ENOSPC, "No space left on device")
                if tries == 1
                else OSError("[Errno 28] No space left on device")
            )
        return "written"

    assert disk.patient(write, "items", 30) == "written"

    def full() -> None:
        raise OSError(errno.EDQUOT, "quota")

    with pytest.raises(disk.DiskFull, match=r"items/1: no room on the disk for 0.05 s; make some, then go on"):
        disk.patient(full, "items/1", 0.05)

    def forbidden() -> None:
        raise PermissionError(errno.EACCES, "no")

    with pytest.raises(PermissionError):
        disk.patient(forbidden, "items", 30)


def test_doctor_looks_at_a_run_and_tells_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlalchemy as sa

    from cluster.service.tables import METADATA
    from search.run.rundir import read_run

    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "the-secret-token")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("search.commands._doctor.cluster._running", lambda: "")
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'service.db'}")
    METADATA.create_all(engine)
    run = tmp_path / "jobs" / finished_job(tmp_path, engine) / "run"
    journal.write(run, "candidate", candidate="7", error="RuntimeError: the model fell over", trace="long")
    journal.write(run, "node lost", host="10.0.0.2", reason="its node has died")
    told = "\n".join(findings(run))
    assert "the-secret-token" not in told
    for part in ("RAY_AUTH_MODE token; token set", "usage statistics off", "disk here", "study.db answers after"):
        assert part in told
    assert "is free" in told
    assert "the model fell over" in told
    assert "node lost" in told
    with read_run(run) as opened:
        key = opened.store.add_candidate("k", "linear", "linear", {})
        opened.store.fail(key[0].id, 1.0, "ValueError: no")
        assert failed(opened.store) == {"ValueError": 1}
    with pytest.raises(UserError):
        list(findings(tmp_path / "nothing.yaml"))
