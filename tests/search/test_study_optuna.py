"""The copy for optuna-dashboard holds what the study holds."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest

import mergefront
from cluster.local import LocalPool
from search.commands.optuna_storage import export
from search.demo.world import write_world
from search.errors import UserError
from search.recipe import load_recipe
from search.run.rundir import open_run
from search.study import run_search

from .landscape import Landscape, plan


def function_study(folder: Path) -> mergefront.Study:
    def score(params: Mapping[str, Any]) -> dict[str, Any]:
        if params["x"] > 0.8:
            raise RuntimeError("too much")
        return {"up": (params["x"], 0.1), "cost": params["x"] * params["rate"]}

    return mergefront.search(
        score,
        {"x": (0.0, 1.0), "rate": (0.1, 10.0, "log"), "kind": ["a", None]},
        objectives={"up": "max", "cost": "min"},
        constraints=["cost <= 2"],
        budget=16,
        sampler="random",
        storage=folder / "mine.db",
    )


def test_a_study_of_a_function_as_trials(tmp_path: Path) -> None:
    study = function_study(tmp_path)
    for _ in range(2):  # a second time replaces the first
        url, names = export(tmp_path / "mine.db")
    assert names == ("mine",)
    assert url == f"sqlite:///{tmp_path}/optuna.db"
    found = optuna.load_study(study_name="mine", storage=url)
    assert [direction.name for direction in found.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert found.metric_names == ["up", "cost"]
    assert len(found.trials) == 16
    for trial, point in zip(found.trials, study.points, strict=True):
        assert trial.params["x"] == point.params["x"]
        assert trial.params["kind"] == repr(point.params["kind"])
        assert trial.state.name == ("COMPLETE" if point.state == "COMPLETE" else "FAIL")
        if point.state == "COMPLETE":
            assert trial.values == [point.values["up"], point.values["cost"]]
            assert dict(trial.constraints) == dict(point.violations)
            assert trial.user_attrs["stderr"] == [0.1, 0.0]
        else:
            assert trial.user_attrs["reason"] == "RuntimeError: too much"
    best = {trial.number + 1 for trial in found.best_trials}
    assert best == {point.id for point in study.front}
    assert not list(tmp_path.glob("*.part"))


def test_the_searches_of_a_run_and_the_dashboard_that_shows_them(tmp_path: Path) -> None:
    file, out = write_world(tmp_path / "world"), tmp_path / "out"
    text = re.sub(r"  objectives: .*", "  objectives: {general: max, safety: max}", file.read_text("utf-8"))
    file.write_text(re.sub(r"  constraints: .*", "  constraints: [general >= base - 0.2]", text), encoding="utf-8")
    recipe = load_recipe(file)
    with open_run(recipe, out, {}) as run:
        for name, scores in plan(tmp_path).unmerged:
            run.store.add_model(name, "expert", name)
            run.store.finish(name, 1.0, "search", dict(scores))
        for method in recipe.search.methods[:2]:
            wanted = plan(out, method, constraints=recipe.search.constraints)
            run_search(wanted, LocalPool(Landscape()), run.store)
    url, names = export(out, str(tmp_path / "copy.db"))
    assert names == tuple(f"{recipe.name}/{method}" for method in recipe.search.methods[:2])
    for name in names:
        trials = optuna.load_study(study_name=name, storage=url).trials
        assert [trial.state.name for trial in trials] == ["COMPLETE"] * 12
        assert all("merge" in trial.user_attrs for trial in trials)
    pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed")
    assert _shown(url) >= set(names)


def _shown(url: str) -> set[str]:
    """The names that optuna-dashboard's own API lists."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    code = f"from optuna_dashboard import run_server; run_server({url!r}, host='127.0.0.1', port={port})"
    server = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 240
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/studies", timeout=5) as answer:
                    return {study["study_name"] for study in json.load(answer)["study_summaries"]}
            except OSError:
                assert server.poll() is None, "the dashboard ended"
                assert time.monotonic() < deadline, "the dashboard does not answer"
                time.sleep(0.1)
    finally:
        server.kill()
        server.wait(30)


def test_what_is_no_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such run or study"):
        export(tmp_path / "nothing.db")
    with pytest.raises(UserError, match=r"there is no such directory|must be a run directory"):
        export(tmp_path)
    function_study(tmp_path)
    with pytest.raises(UserError, match="--out: cannot be written"):
        export(tmp_path / "mine.db", str(tmp_path / "none" / "copy.db"))
