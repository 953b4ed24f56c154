"""The page in headless Chromium: by keyboard alone, with nothing from elsewhere. Skipped where there is no Chromium."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cluster.service import tokens
from cluster.service.database import open_database
from tests.search.test_report_browser import CHROMIUM, DRIVER, Browser, browser

from .runs import finished_job
from .server import NOWHERE, Running, service, until

pytestmark = pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="no Chromium with chromedriver here")
ENTER, TAB, RIGHT, SPACE = "\ue007", "\ue004", "\ue014", " "
SHOTS = os.environ.get("MERGEFRONT_SCREENSHOTS")
"""A folder for pictures of the page; none are taken without it."""


class Page:
    """A browser on the page of a service."""

    def __init__(self, driven: Browser, url: str) -> None:
        self._driven, self._url = driven, url

    def open(self, fragment: str) -> None:
        self._driven.call("POST", f"{self._driven.session}/url", {"url": f"{self._url}/{fragment}"})

    def run(self, script: str) -> Any:
        return self._driven.run(script)

    def keys(self, text: str) -> None:
        actions = [{"type": kind, "value": key} for key in text for kind in ("keyDown", "keyUp")]
        body = {"actions": [{"type": "key", "id": "keys", "actions": actions}]}
        self._driven.call("POST", f"{self._driven.session}/actions", body)

    def text(self, selector: str = "main") -> str:
        return str(self.run(f"return document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    def shows(self, text: str) -> None:
        until(f"the page shows {text!r}", lambda: text in self.text(), 60)

    def focused(self) -> str:
        script = "const e = document.activeElement; return e.getAttribute('aria-label') || e.innerText || e.id"
        return str(self.run(script))

    def tab_to(self, what: str, most: int = 40) -> None:
        for _ in range(most):
            self.keys(TAB)
            if what in self.focused():
                return
        raise AssertionError(f"{most} tabs do not lead to {what!r}; the last is {self.focused()!r}")

    def scheme(self, name: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": name}]
        body = {"cmd": "Emulation.setEmulatedMedia", "params": {"features": features}}
        self._driven.call("POST", f"{self._driven.session}/goog/cdp/execute", body)

    def shot(self, name: str) -> None:
        if SHOTS:
            data = self._driven.call("GET", f"{self._driven.session}/screenshot")
            Path(SHOTS, f"{name}.png").write_bytes(base64.b64decode(data))

    def complaints(self) -> list[str]:
        rows = self._driven.call("POST", f"{self._driven.session}/se/log", {"type": "browser"})
        return [row["message"] for row in rows]


@contextmanager
def page(running: Running, folder: Path) -> Iterator[Page]:
    with browser(folder) as driven:
        yield Page(driven, running.url)


def contrast(first: str, second: str) -> float:
    """WCAG's contrast of two `rgb(...)` colours."""

    def light(colour: str) -> float:
        parts = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    high, low = sorted((light(first), light(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_the_page_from_the_token_to_the_checkpoint(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with service(state, "--cluster", NOWHERE) as running:
        engine = open_database(f"sqlite:///{state / 'service.db'}")
        job = finished_job(state, engine, exports=("knee",))
        waiting = finished_job(state, engine, "<b>ada</b>")
        with page(running, tmp_path) as shown:
            _asks_for_a_token(shown, running.token)
            _lists(shown, job, waiting)
            _shows_the_front(shown, job)
            _downloads(shown, running, job)
            loaded = shown.run("return performance.getEntriesByType('resource').map((entry) => entry.name)")
            assert loaded
            assert not [name for name in loaded if not name.startswith(running.url)]
            assert shown.complaints() == []
            _forgets(shown)
            tokens.revoke(engine, tokens.listed(engine)[0].id)
            until("the token ends", lambda: running.ask("GET", "/jobs").status_code == 401, 20)
            shown.open(f"#token={running.token}")
            shown.shows("this token was revoked")


def _asks_for_a_token(shown: Page, token: str) -> None:
    shown.open("")
    shown.shows("Token of this service")
    assert shown.focused() == "token"
    shown.complaints()  # the browser notes the 401
    shown.keys(token + ENTER)
    shown.shows("operator")
    assert "token" not in shown.run("return location.href")


def _lists(shown: Page, job: str, waiting: str) -> None:
    assert job in shown.text()
    assert waiting in shown.text()
    assert "<b>ada</b>" in shown.text()  # as text, not as markup
    assert shown.run("return document.querySelectorAll('main b').length") == 0
    for scheme in ("light", "dark"):
        shown.scheme(scheme)
        shown.shot(f"jobs-{scheme}")
    shown.tab_to(job)
    shown.keys(ENTER)
    shown.shows("Also those that are not on the front")


def _shows_the_front(shown: Page, job: str) -> None:
    assert f"#/jobs/{job}" in shown.run("return location.href")
    until("the log", lambda: "front: 5 points" in shown.text(".log"), 30)
    for scheme in ("light", "dark"):
        shown.scheme(scheme)
        shown.shot(f"job-{scheme}")
        ground = shown.run("return getComputedStyle(document.body).backgroundColor")
        for selector in ("body", ".quiet", "th", "a", ".plot .merge", ".plot .expert"):
            colour = shown.run(f"return getComputedStyle(document.querySelector('{selector}')).color")
            # 4.5 for text, 3 for marks (WCAG 2.2, 1.4.3 and 1.4.11).
            assert contrast(colour, ground) >= (3 if "plot" in selector else 4.5), (scheme, selector, colour)
    marks = "document.querySelectorAll('svg.plot .point[role=button]')"
    assert shown.run(f"return {marks}.length") == 8
    assert shown.run(f"return [...{marks}].every((mark) => mark.getAttribute('aria-label'))")
    assert shown.run(f"return [...{marks}].filter((mark) => mark.getAttribute('tabindex') === '0').length") == 1
    shown.tab_to("general", 12)  # the first axis, then the second, then the plot
    shown.keys(TAB + TAB)
    first = shown.focused()
    shown.keys(RIGHT)
    second = shown.focused()
    assert first != second
    shown.keys(ENTER)
    assert shown.focused() == second  # drawing again keeps the place
    name = second.split(",")[0]
    assert shown.text(".panel h3").startswith(name)
    panel = shown.text(".panel")
    for language in ("en", "hi"):
        assert f"\n{language}\t" in panel or f"\n{language}" in panel
    assert "Download this checkpoint" in panel
    before = shown.run("return document.querySelectorAll('main tbody button[data-key^=fetch]').length")
    shown.tab_to("every", 40)
    shown.keys(SPACE)
    after = shown.run("return document.querySelectorAll('main tbody button[data-key^=fetch]').length")
    assert (before < after, after) == (True, 8)


def _downloads(shown: Page, running: Running, job: str) -> None:
    made = "window.links = []; HTMLAnchorElement.prototype.click = function () { window.links.push(this.href); }"
    shown.run(made)  # a headless browser saves nowhere; what it would have asked for is asked for here
    shown.run("document.querySelector('main tbody button[data-key^=fetch]').click()")
    until("it is being made", lambda: "is being made" in shown.text("#connection"), 30)
    point = running.ask("GET", f"/jobs/{job}/exports").json()["exports"][-1]
    assert point["state"] == "QUEUED"
    folder = running.state / "jobs" / job / "exports" / point["name"]
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    engine = open_database(f"sqlite:///{running.state / 'service.db'}")
    from cluster.service import store

    (row,) = store.exports(engine, job)
    assert store.change_export(engine, row, "DONE")
    (link,) = until("the link", lambda: shown.run("return window.links"), 30)
    got = running.ask("GET", link.removeprefix(running.url), "")
    assert (got.status_code, got.headers["content-type"]) == (200, "application/x-tar")


def _forgets(shown: Page) -> None:
    shown.run("document.getElementById('forget').click()")
    shown.shows("The token was forgotten on this page.")
    time.sleep(0.1)
    assert shown.run("return sessionStorage.length") == 0
