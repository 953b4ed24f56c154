"""The study in PostgreSQL: the same rows and the same sequence, through kills, restarts and a server that is gone."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import mergefront
from cluster.local import LocalPool
from mergefront import UserError
from search._study.database import DatabaseLost
from search.demo.world import write_world
from search.recipe import load_recipe
from search.run.rundir import open_run, read_run
from search.stopping import Rules
from search.store import Store
from search.study import run_search

from . import postgresql
from .landscape import Landscape, plan, search_in
from .test_study_kill import Killed, driven, never_killed, sequence

pytestmark = pytest.mark.skipif(bool(postgresql.unavailable()), reason=postgresql.unavailable() or "available")


@pytest.fixture(scope="module")
def server() -> Iterator[postgresql.Server]:
    found = postgresql.start()
    yield found
    postgresql.stop(found)


def rows(store: Store) -> list[tuple[Any, ...]]:
    scores = store.scores("search")
    return [(p.id, p.key, p.state, p.turn, p.params, scores.get(p.id)) for p in store.points("linear")]


def test_the_same_rows_as_in_sqlite(server: postgresql.Server, tmp_path: Path) -> None:
    wanted = plan(tmp_path, in_flight=1, sampler="auto")
    store = Store(f"{server.url}?schema=same_rows", "first")
    store.create()
    run_search(wanted, LocalPool(Landscape()), store)
    assert rows(store) == rows(search_in(tmp_path, wanted))
    assert store.totals().candidates == 12
    assert store.totals().items == 12 * 120
    assert [event["rule"] for event in store.events("stopped")] == ["candidates"]
    store.close()


def test_kills_change_nothing(server: postgresql.Server, tmp_path: Path) -> None:
    from .test_study_kill import Fuse

    expected, steps = never_killed(tmp_path / "whole")
    rng = random.Random(8)
    for number in range(3):
        folder, place = tmp_path / f"killed-{number}", f"{server.url}?schema=killed_{number}"
        folder.mkdir()
        while True:
            try:
                driven(folder, Fuse(rng.randrange(1, steps)), place=place)
                break
            except Killed:
                continue
        assert sequence(folder, place) == expected


def test_a_restart_of_the_server_is_waited_for(server: postgresql.Server, tmp_path: Path) -> None:
    expected = rows(search_in(tmp_path, plan(tmp_path, in_flight=1, sampler="qmc", rules=Rules(candidates=40))))
    store = Store(f"{server.url}?schema=restarted", "first")
    store.create()
    restarts: list[threading.Thread] = []

    def report(metrics: Mapping[str, float]) -> None:
        if metrics["evaluated"] in (5, 15, 25):
            restarts.append(threading.Thread(target=server.control, args=("restart", "-m", "immediate")))
            restarts[-1].start()
        time.sleep(0.03)

    run_search(
        plan(tmp_path, in_flight=1, sampler="qmc", rules=Rules(candidates=40)), LocalPool(Landscape()), store, report
    )
    for restart in restarts:
        restart.join(60)
    assert rows(store) == expected
    assert {point.tries for point in store.points("linear")} == {1}
    store.close()


def test_a_server_that_does_not_come_back_ends_the_search_with_its_name(
    server: postgresql.Server, tmp_path: Path
) -> None:
    place = f"{server.url}?schema=gone"
    store = Store(place, "first", patience_s=1.0)
    store.create()

    def report(metrics: Mapping[str, float]) -> None:
        if metrics["evaluated"] == 3:
            server.control("stop", "-m", "immediate")

    wanted = plan(tmp_path, in_flight=1)
    with pytest.raises(DatabaseLost, match=rf"127.0.0.1:{server.port}/postgres\?schema=gone did not answer for 1 s"):
        run_search(wanted, LocalPool(Landscape()), store, report)
    with pytest.raises(UserError, match="the database cannot be opened"):
        Store(place).create()
    server.control("start")
    store.close()
    second = Store(place, "second")
    second.take_over()
    run_search(wanted, LocalPool(Landscape()), second)
    assert rows(second) == rows(search_in(tmp_path, wanted))
    second.close()


def test_a_study_of_a_function(server: postgresql.Server) -> None:
    calls: list[float] = []

    def score(params: Mapping[str, Any], items: None = None) -> dict[str, float]:
        calls.append(params["x"])
        return {"up": params["x"], "down": 1 - params["x"] ** 2}

    def search(budget: int, **changes: Any) -> mergefront.Study:
        settings: dict[str, Any] = {"objectives": {"up": "max", "down": "max"}, "sampler": "qmc"}
        place = f"{server.url}?schema=a_function"
        return mergefront.search(score, {"x": (0.0, 1.0)}, budget=budget, storage=place, **(settings | changes))

    first = search(5)
    again = search(9)
    assert again.points[:5] == first.points
    assert len(calls) == 9
    with pytest.raises(UserError, match=r"holds another study; these differ: sampler"):
        search(9, sampler="random")
    held = threading.Event()

    def slow(params: Mapping[str, Any], items: None = None) -> dict[str, float]:
        held.set()
        time.sleep(0.5)
        return {"up": 0.0}

    place = f"{server.url}?schema=held"
    settings: dict[str, Any] = {"objectives": {"up": "max"}, "budget": 1, "storage": place}
    driver = threading.Thread(target=mergefront.search, args=(slow, {"x": (0.0, 1.0)}), kwargs=settings)
    driver.start()
    assert held.wait(30)
    with pytest.raises(UserError, match="another process works on this study"):
        mergefront.search(slow, {"x": (0.0, 1.0)}, **settings)
    driver.join(30)


def test_a_run_takes_a_schema_of_its_own(server: postgresql.Server, tmp_path: Path) -> None:
    file = write_world(tmp_path / "world")
    file.write_text(file.read_text("utf-8") + f"\ndatabase: {server.url}\n", encoding="utf-8")
    recipe, out = load_recipe(file), tmp_path / "out"
    for path in (out, tmp_path / "other"):
        with open_run(recipe, path, {}) as run:
            assert run.store.totals().candidates == 0
            run.store.add_candidate("key", "linear", "linear", {})
    assert not (out / "study.db").exists()
    with read_run(out) as run:
        assert len(run.store.points()) == 1
    place = json.loads((out / ".database.json").read_text("utf-8"))
    (out / "items" / "1.search.parquet").write_text("")
    (out / ".database.json").write_text(json.dumps(place | {"schema": "an_empty_one"}))
    with pytest.raises(UserError, match="does not hold this run's study"), open_run(recipe, out, {}):
        pass
    file.write_text(file.read_text("utf-8").replace(f"database: {server.url}", "database: sqlite"), encoding="utf-8")
    with (
        pytest.raises(UserError, match="this run keeps its study in PostgreSQL"),
        open_run(load_recipe(file), out, {}),
    ):
        pass
