"""The report in a real browser: every figure draws, nothing is loaded, the controls work. Skipped without Chromium."""

import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from search.report import write_report

from .test_report import synthetic

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--no-first-run",
)


def dom(path: Path, tmp_path: Path) -> str:
    assert CHROMIUM is not None
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=20000"]
    done = subprocess.run(
        [*command, "--enable-logging=stderr", "--dump-dom", path.as_uri()],
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    assert "CONSOLE" not in done.stderr, re.findall(r".*CONSOLE.*", done.stderr)[:5]
    return done.stdout


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize(("merges", "objectives"), [(40, 2), (12, 1), (0, 5), (400, 3)])
def test_figures_draw_in_a_browser(tmp_path: Path, merges: int, objectives: int) -> None:
    front, history = synthetic(merges, objectives)
    out = tmp_path / "run"
    out.mkdir()
    page, _ = write_report(front, history, out)
    text = dom(page, tmp_path)
    assert 'data-ready="true"' in text
    assert 'class="js-error"' not in text
    drawn = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    figures = {m[0]: m[1] for m in re.findall(r'<figure[^>]*id="([a-z-]+)"[^>]*>(.*?)</figure>', drawn, re.DOTALL)}
    chosen = sum(p["on_front"] and p["kind"] == "merge" for p in front["points"])
    assert list(figures) == ["front-plot", "weight-plot", "progress-plot", "training-plot", "cost-plot"]
    for name, body in figures.items():
        drawn_always = name in ("front-plot", "training-plot", "cost-plot")
        if drawn_always or (chosen if name == "weight-plot" else merges):
            assert "main-svg" in body, name
    hollow = sum(not point["feasible"] for point in front["points"])  # each infeasible mark is drawn twice
    marks = figures["front-plot"].count('<path class="point')
    assert marks == len(front["points"]) + hollow
    assert ("colorbar" in figures["front-plot"]) == (objectives > 2)
    # One line for each merge on the front; with none there, the selected model is not a merge either (rank of choices).
    assert figures["weight-plot"].count('<g class="trace scatter') == chosen
    assert "Share chart" not in drawn
    assert "mix15" in figures["front-plot"]
    assert "NaN" not in drawn


class Browser:
    """The WebDriver protocol, as much of it as this test needs."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.session = ""

    def call(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.root + path, method=method, data=data)
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def run(self, script: str) -> Any:
        return self.call("POST", f"{self.session}/execute/sync", {"script": script, "args": []})


@contextmanager
def browser(tmp_path: Path) -> Iterator[Browser]:
    assert DRIVER is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [DRIVER, f"--port={port}"], stdout=subprocess.DEVNULL, env={**os.environ, "HOME": str(tmp_path)}
    )
    made = Browser(f"http://127.0.0.1:{port}")
    try:
        for _ in range(100):
            try:
                if made.call("GET", "/status")["ready"]:
                    break
            except OSError:
                time.sleep(0.1)
        options = {
            "binary": CHROMIUM,
            "args": [*FLAGS, f"--user-data-dir={tmp_path / 'driven'}", "--window-size=1280,1000"],
        }
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        answer = made.call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        made.session = f"/session/{answer['sessionId']}"
        yield made
    finally:
        if made.session:
            made.call("DELETE", made.session)  # else a failed test leaves the browser running
        process.terminate()
        process.wait(20)


def choose(selector: str, i: int, value: str) -> str:
    """The script that picks `value` in the i-th select."""
    return (
        f"const control = document.querySelectorAll({json.dumps(selector)})[{i}];"
        f"control.value = {json.dumps(value)}; control.dispatchEvent(new Event('change'));"
    )


@pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="no Chromium with chromedriver on this machine")
def test_controls_work_and_nothing_is_loaded(tmp_path: Path) -> None:
    front, history = synthetic()
    odd = '<b>o</b><a href="/">x</a>'
    front["points"][2]["id"] = odd  # a label of the figure: plotly would draw a link
    page, _ = write_report(front, history, tmp_path)
    with browser(tmp_path) as driven:
        driven.call("POST", f"{driven.session}/url", {"url": page.as_uri()})
        for _ in range(300):
            if driven.run("return document.documentElement.dataset.ready"):
                break
            time.sleep(0.1)
        assert driven.run("return performance.getEntriesByType('resource').map((entry) => entry.name)") == []
        assert odd in driven.run("return document.getElementById('front-plot').textContent")
        assert driven.run("return document.querySelectorAll('#front-plot a').length") == 0

        column = (
            "[...document.querySelectorAll('#front-table tbody tr')].map((row) => Number(row.cells[3].dataset.value))"
        )
        click = "document.querySelectorAll('#front-table thead button')[3].click();"
        expected = sorted(p["scores"]["general"]["value"] for p in front["points"] if p["on_front"])
        assert driven.run(f"{click} return {column}") == expected
        assert driven.run(f"{click} return {column}") == expected[::-1]
        sorts = "[...document.querySelectorAll('#front-table th[aria-sort=descending]')].length"
        assert driven.run(f"return {sorts}") == 1

        chosen = front["points"][60]
        driven.run(choose("#language-controls select", 0, chosen["id"]))
        score = chosen["languages"]["hi"]["safety"]
        text = f"{score['value']:.3f} ± {score['stderr']:.3f}"
        assert text in driven.run("return document.getElementById('language-table').textContent")
        assert f"'#{chosen['id']}'" in driven.run("return document.getElementById('selected').textContent")

        marks = (
            "return [...document.querySelectorAll('#front-plot path.point')]"
            ".map((mark) => mark.getAttribute('transform')).join()"
        )
        before = driven.run(marks)
        for i, value in ((0, "over_refusal"), (4, "search")):
            driven.run(choose("#front-controls select", i, value))
            time.sleep(1)
            after = driven.run(marks)
            assert after != before
            before = after
        assert driven.run("return document.querySelectorAll('#front-plot .colorbar').length") == 1
        driven.run(choose("#front-controls select", 2, ""))
        time.sleep(1)
        assert driven.run("return document.querySelectorAll('#front-plot .colorbar').length") == 0
        axis = driven.run("return document.querySelector('#front-plot .xtitle').textContent")
        assert axis == "over_refusal (min: lower is better ←)"
        log = driven.call("POST", f"{driven.session}/se/log", {"type": "browser"})
        assert [entry for entry in log if entry["level"] in ("SEVERE", "WARNING")] == []
