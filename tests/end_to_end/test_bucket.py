"""A run in a bucket: killed, gone on with on another machine, read from a third."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster.storage import manifest as manifests
from cluster.storage.bucket import Bucket
from cluster.storage.urls import parse

from ..cluster.storage.s3 import server
from . import world
from .world import CANDIDATES, kill_when, run, small_world

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(2400)]
LIMIT_S = 900.0
URL = "s3://bucket/runs/small"


def test_a_run_is_killed_and_goes_on_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, log = small_world(tmp_path / "world", baseline=False), tmp_path / "driver.log"
    with server(tmp_path / "s3.log") as s3:
        s3.make("bucket")
        for name, value in {**s3.environment, "AWS_EC2_METADATA_DISABLED": "true"}.items():
            monkeypatch.setenv(name, value)
            monkeypatch.setitem(world.ENVIRONMENT, name, value)
        bucket = Bucket(parse(URL))

        def machine(name: str) -> None:
            monkeypatch.setitem(world.ENVIRONMENT, "MERGEFRONT_CACHE", str(tmp_path / name))

        def experts() -> dict[str, str]:
            state = manifests.newest(bucket)
            return {name: entry.hash for name, entry in state.files.items() if name.startswith("experts/")}

        machine("first")
        assert (
            run("front", URL).stderr
            == f"mergefront: {URL}: holds no run; give the URL that `mergefront run` wrote to\n"
        )
        trained = "training.json"

        def both() -> bool:
            return sum(name.endswith(trained) for name in experts()) == 2

        kill_when(both, log, "run", recipe, "--out", URL, limit_s=LIMIT_S)
        kept = experts()

        machine("second")
        done = run("run", recipe, "--out", URL, limit_s=LIMIT_S)
        assert done.returncode == 0, done.stderr
        assert "to train" not in done.stderr
        assert experts() == kept
        assert f"report:  {URL}/report.html" in done.stdout
        again = run("run", URL)
        assert again.returncode == 0, again.stderr
        assert "this run is finished, nothing to do" in again.stderr

        machine("third")
        shown = run("front", URL, "--json")
        document = json.loads(shown.stdout)
        assert sum(point["kind"] == "merge" for point in document["points"]) == CANDIDATES
        assert document["split"] == "report"
        exported = run("export", URL, "--pick", "knee", "--out", tmp_path / "knee")
        assert exported.returncode == 0, exported.stderr
        assert list((tmp_path / "knee").glob("*.safetensors"))
        assert run("report", URL).returncode == 0
        copied = run("optuna", URL, "--out", tmp_path / "optuna.db")
        assert copied.returncode == 0, copied.stderr
        assert copied.stdout.startswith(f"{len(world.METHODS)} studies: ")
        assert (tmp_path / "optuna.db").is_file()
        # Where the base is not: what the run exported is handed out.
        (tmp_path / "world" / "base").rename(tmp_path / "world" / "gone")
        handed = run("export", URL, "--pick", "knee", "--out", tmp_path / "again")
        assert handed.returncode == 0, handed.stderr
        for file in (tmp_path / "knee").glob("*.safetensors"):
            assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()
        other = small_world(tmp_path / "other", baseline=False)
        other.write_text(other.read_text().replace("seed: 0", "seed: 1"))
        refused = run("run", other, "--out", URL)
        assert refused.returncode == 2
        assert f"{URL}: --out: holds another recipe's run; these keys differ: " in refused.stderr
        assert "seed" in refused.stderr
        assert str(tmp_path / "third") not in refused.stderr
        state = manifests.newest(bucket)
        assert "report.html" in state.files
        assert not any(name.startswith("scratch") for name in state.files)
