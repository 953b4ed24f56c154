"""The report: its figures against the document, escaping and edge cases."""

import base64
import csv
import hashlib
import html.parser
import json
import math
import random
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from search._report.rows import number, score_text, weights_of
from search.report import write_report

METHODS = ("linear", "slerp", "task_arithmetic", "ties", "dare_ties")
LANGUAGES = ("en", "hi", "ar", "fr", "es", "ru")
DIRECTIONS = {"general": "max", "safety": "max", "over_refusal": "min", "fluency": "max", "length": "min"}


def synthetic(
    merges: int = 105, objectives: int = 3, *, confirmed: bool = True, seed: int = 0
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A front document and a history with the shape of a real run; every number in them is made up."""
    rng = random.Random(seed)
    names = list(DIRECTIONS)[:objectives]

    def truth(general: float, safety: float, harm: float) -> dict[str, float]:
        damage = 0.12 * max(0.0, general + safety - 1.1) ** 2 + harm
        return {
            "general": 0.42 + 0.36 * (1 - math.exp(-2.2 * general)) - damage - 0.05 * safety,
            "safety": 0.05 + 0.84 / (1 + math.exp(-9 * (safety - 0.42))) - 0.5 * damage,
            "over_refusal": 0.03 + 0.5 / (1 + math.exp(-8 * (safety - 0.7 + 0.2 * general))),
            "fluency": 0.9 - damage - 0.03 * rng.random(),
            "length": 0.4 + 0.2 * general,
        }

    def scores(values: Mapping[str, float], split: str, n: int = 900) -> dict[str, Any]:
        found = {}
        for name in names:
            stderr = math.sqrt(max(values[name] * (1 - values[name]), 0.01) / n)
            value = min(1.0, max(0.0, values[name] + rng.gauss(0, stderr)))
            found[name] = {"value": value, "stderr": stderr, "n": n, "split": split}
        return found

    def point(identity: str, kind: str, method: str | None, general: float, safety: float) -> dict[str, Any]:
        values = truth(general, safety, (0.0, 0.04, 0.03, 0.01, 0.02)[METHODS.index(method)] if method else 0.0)
        made: dict[str, Any] = {"id": identity, "kind": kind, "method": method, "params": {}, "weights": {}}
        if kind == "merge":
            made["weights"] = {"general": general, "safety": safety}
            if method in ("ties", "dare_ties"):
                made["params"] = {"density": [round(rng.uniform(0.1, 1), 3), 0.5], "normalize": True}
        made["scores"] = scores(values, "search")
        made["languages"] = {
            language: scores({k: v - 0.02 * i for k, v in values.items()}, "search", 150)
            for i, language in enumerate(LANGUAGES)
        }
        made["feasible"] = kind != "merge" or general > 0.12
        made["violations"] = {} if made["feasible"] else {"general >= base": 0.0123}
        made["cost"] = {"seconds": round(rng.uniform(0.6, 1.4), 3)}
        made["truth"] = values
        return made

    points = [
        point("base", "base", None, 0.0, 0.0),
        point("general", "expert", None, 1.0, 0.0),
        point("safety", "expert", None, 0.1, 1.0),
        point("mix15", "baseline", None, 0.62, 0.38),
    ]
    for i in range(merges):
        method = METHODS[i % len(METHODS)]
        general = rng.uniform(0, 1.2)
        safety = 1 - general if method == "slerp" and general <= 1 else rng.uniform(0, 1.2)
        points.append(point(str(i), "merge", method, general, safety))

    def better(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
        gaps = [
            (a["scores"][n]["value"] - b["scores"][n]["value"]) * (1 if DIRECTIONS[n] == "max" else -1) for n in names
        ]
        return bool(min(gaps) >= 0 < max(gaps))

    def mark(entrants: list[dict[str, Any]]) -> None:
        feasible = [p for p in entrants if p["feasible"]]
        for p in points:
            p["on_front"] = p in feasible and not any(better(other, p) for other in feasible)
            p["p_on_front"] = round(rng.uniform(0.5, 0.95), 2) if p["on_front"] else None

    mark(points)
    if confirmed:
        again = [p for p in points if p["on_front"] or p["kind"] != "merge"]
        for p in again:
            p["search_scores"], p["scores"] = p["scores"], scores(p["truth"], "report", 1100)
        mark(again)
    for p in points:
        del p["truth"]
    chosen = [p for p in points if p["on_front"] and p["kind"] == "merge"]
    wanted: dict[str, Callable[[dict[str, float]], float]] = {
        "knee": lambda v: v["general"] + v.get("safety", 0.0),
        "safest": lambda v: v.get("safety", 0.0),
        "best-general": lambda v: v["general"],
    }
    picks = {}
    for name, key in wanted.items():
        values = {p["id"]: key({n: s["value"] for n, s in p["scores"].items()}) for p in chosen}
        if values:
            picks[name] = max(values, key=values.__getitem__)
    front = {
        "run": "six-languages",
        "objectives": {name: DIRECTIONS[name] for name in names},
        "hypervolume": 0.4321,
        "reference": {n: 0.0 if DIRECTIONS[n] == "max" else 1.0 for n in names},
        "points": points,
        "picks": picks,
    }
    curve: list[dict[str, Any]] = []
    level = 0.35
    for i in range(merges):
        method = METHODS[i % len(METHODS)]
        level += rng.random() * 0.05 * math.exp(-i / 25)
        curve.append({"id": str(i), "method": method, "seconds": 1.3 * i + 2, "hypervolume": level})
    steps = list(range(5, 201, 5))
    history = {
        "points": curve,
        "training": {
            name: {
                "steps": steps,
                "loss": [scale * (0.6 + 2.4 * math.exp(-s / 45)) + rng.gauss(0, 0.03) for s in steps],
                "curves": {"grad_norm": [1.0 + 0.01 * s for s in steps]},
                "trainer": "sft",
                "seconds": 48.2 * scale,
                "cpu_seconds": 41.0 * scale,
                "tokens": int(412_000 * scale),
                "flops": 1.4e12 * scale,
                "peak_rss_bytes": 640e6,
            }
            for name, scale in (("general", 1.0), ("safety", 0.6), ("mix15", 0.9))
        },
        "tokens": [
            {"model": "mix15", "by": "data", "name": data, "samples": count, "tokens": 30 * count}
            for data, count in (("general", 3264), ("safety", 576))
        ],
        "spent": {"base": 0.0, "general": 1.4e12, "safety": 0.84e12, "mix15": 2.2e12, "": 2.24e12},
        "matches": [{"name": "mix15", "flops": 2.2e12, "experts": 2.24e12, "ratio": 0.982}],
        "tunings": {
            "safety": {
                "metric": "loss",
                "direction": "min",
                "space": {"learning_rate": [1e-5, 1e-3, True]},
                "best": 1,
                "trials": [trial_row(1, 1e-4, 1.9), trial_row(2, 2e-4, None)],
            }
        },
        "contamination": [
            {
                "data": "safety",
                "evaluator": "safety",
                "split": split,
                "rows": 3840,
                "same": 0,
                "near": near,
                "items": near,
            }
            for split, near in (("search", 0), ("report", 2))
        ],
        "timing": {"experts": 131.4, "search": 140.2, "confirm": 22.8, "export": 4.1},
        "machine": {"cpus": 2, "memory_gib": 7.8, "gpus": [], "versions": {"torch": "2.13.0", "ray": "2.60.0"}},
        "failed": [{"id": "31", "method": "dare_ties", "reason": "scores not finite: general was nan"}],
    }
    return front, history


def trial_row(number: int, rate: float, metric: float | None) -> dict[str, Any]:
    state = (
        {"state": "STOPPED", "reason": "lagged at step 4"} if metric is None else {"state": "COMPLETE", "reason": ""}
    )
    return {
        "number": number,
        "params": {"learning_rate": rate},
        "metric": metric,
        "rungs": {"4": 2.5},
        "same_as": 0,
    } | state


class Page(html.parser.HTMLParser):
    """Checks that elements nest, and collects what tests ask for."""

    VOID = ("meta", "br", "col", "hr", "input", "link")

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.starts: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.scripts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.starts.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["script"]:
            self.scripts[-1] += data
        elif self.open[-1:] != ["style"]:
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join("".join(self.text).split())


def written(tmp_path: Path, front: Mapping[str, Any], history: Mapping[str, Any]) -> tuple[str, Page]:
    path, _ = write_report(front, history, tmp_path)
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    ids = [attrs["id"] for _, attrs in page.starts if "id" in attrs]
    assert len(ids) == len(dict.fromkeys(ids))
    numbers = json.loads(page.scripts[0], parse_constant=lambda name: pytest.fail(f"{name} in the data"))
    assert len(numbers["rows"]) == len(front.get("points", []))
    assert not re.search(r"\b(nan|NaN|inf|Infinity|None|undefined)\b", page.words.replace("general was nan", ""))
    return text, page


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """The oracle of the CSV: paths of a point's object, joined by dots."""
    if isinstance(value, dict):
        return {k: v for key, item in value.items() for k, v in flat(item, f"{path}.{key}" if path else key).items()}
    return {path: value}


def test_csv_holds_the_documents_values(tmp_path: Path) -> None:
    front, history = synthetic()
    _, path = write_report(front, history, tmp_path)
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(front["points"]) == 109
    picks: dict[str, list[str]] = {}
    for name, identity in front["picks"].items():
        picks.setdefault(identity, []).append(name)
    for row, point in zip(rows, front["points"], strict=True):
        expected = {key: value for key, value in flat(point).items() if value is not None}
        assert row.pop("picks") == " ".join(picks.get(point["id"], []))
        for key, value in expected.items():
            got = row[key] if isinstance(value, str) else json.loads(row[key])
            assert got == value, key
        assert all(row[key] == "" for key in row if key not in expected)
    assert list(rows[0])[:3] == ["id", "kind", "method"]


def test_page_is_self_contained_and_writes_the_same_bytes_twice(tmp_path: Path) -> None:
    front, history = synthetic()
    text, page = written(tmp_path, front, history)
    first = [path.read_bytes() for path in sorted(tmp_path.iterdir())]
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["front.csv", "report.html"]
    write_report(front, history, tmp_path)
    assert [path.read_bytes() for path in sorted(tmp_path.iterdir())] == first
    assert not [tag for tag, _ in page.starts if tag in ("link", "img", "iframe", "object", "embed")]
    for tag, attributes in page.starts:
        for key in ("src", "srcset", "action", "data"):
            assert key not in attributes, (tag, key)
        target = attributes.get("href") or "#"
        assert target.startswith("#") or target == "front.csv"
    style = text.split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    own = page.scripts[2]
    assert "http" not in own
    assert text.count("plotly.js v") == 1
    policy = next(a["content"] for t, a in page.starts if t == "meta" and "http-equiv" in a) or ""
    assert "default-src 'none'" in policy
    assert "connect-src" not in policy
    for script in page.scripts[1:]:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert 4e6 < len(text) < 6e6


def test_page_shows_the_documents_figures(tmp_path: Path) -> None:
    front, history = synthetic()
    _, page = written(tmp_path, front, history)
    on_front = [point for point in front["points"] if point["on_front"]]
    assert f"The front holds {len(on_front)} points of the 109 models scored" in page.words
    assert "on the report split" in page.words
    for point in on_front:
        for score in point["scores"].values():
            assert f"{score['value']:.3f} ± {score['stderr']:.3f}" in page.words
        pick = f"'#{point['id']}'" if point["kind"] == "merge" else point["id"]
        command = f"mergefront export {tmp_path} --pick {pick} --out DIR"
        assert sum(attrs.get("data-command") == command for _, attrs in page.starts) >= 1
    for text in ("0.432", "412,000", "131.4", "2.13.0", "scores not finite: general was nan", "general (max ↑)"):
        assert text in page.words
    assert "over_refusal (min ↓)" in page.words
    captions = sum(tag == "caption" for tag, _ in page.starts)
    assert captions == sum(tag == "table" for tag, _ in page.starts) >= 6


def test_text_from_the_data_is_escaped(tmp_path: Path) -> None:
    evil = '</script><script>alert("x")</script><img src=http://evil.example onerror=alert(1)>&amp;\u2028$title'
    front, history = synthetic(merges=10)
    front["run"] = evil
    front["objectives"][evil] = "max"
    front["reference"][evil] = 0.0
    front["constraints"] = [evil]
    for point in front["points"]:
        point["scores"][evil] = dict(point["scores"]["general"])
        point["weights"][evil] = 0.5
        point["params"][evil] = evil
        point["languages"][evil] = {evil: dict(point["scores"]["general"])}
        point["method"] = evil if point["method"] else None
    front["points"][1]["id"] = evil
    front["picks"][evil] = front["points"][1]["id"]
    history["failed"] = [{"id": evil, "method": evil, "reason": evil}]
    history["training"] = {evil: history["training"]["general"]}
    history["timing"] = {evil: 1.0}
    history["machine"] = {evil: {evil: evil}}
    text, page = written(tmp_path, front, history)
    assert len(page.scripts) == 3
    assert "<img" not in text.split("<script>", 1)[0]
    assert not [attrs for _, attrs in page.starts if any(key.startswith("on") for key in attrs)]
    assert evil.replace("\u2028", " ") in page.words
    assert json.loads(page.scripts[0])["rows"][1]["id"] == evil


@pytest.mark.parametrize("objectives", [1, 2, 3, 5])
@pytest.mark.parametrize("merges", [0, 1, 30])
@pytest.mark.parametrize("confirmed", [True, False])
def test_edge_cases_render(tmp_path: Path, objectives: int, merges: int, confirmed: bool) -> None:
    front, history = synthetic(merges, objectives, confirmed=confirmed)
    _, page = written(tmp_path, front, history)
    assert ("No merge was scored" in page.words) == (merges == 0)
    if not confirmed:
        assert "No point has been scored on both" in page.words
    assert f"of the {merges + 4} models scored" in page.words


def test_missing_parts_and_unknown_numbers_show_as_dashes(tmp_path: Path) -> None:
    _, page = written(tmp_path, {"run": "r", "objectives": {}, "points": []}, {})
    assert "No model has been scored yet." in page.words
    front, history = synthetic(merges=6)
    front["hypervolume"] = math.nan
    front["reference"] = None
    del front["picks"]
    for point in front["points"]:
        point["p_on_front"] = math.inf
        del point["languages"], point["params"], point["weights"]
        point.pop("search_scores", None)
    front["points"][0]["scores"] = {}
    front["points"][1]["scores"]["general"] = {"value": math.nan, "stderr": 0.1, "n": 3, "split": "report"}
    history["points"][2]["hypervolume"] = math.nan
    history["training"]["general"] = {"loss": [math.nan, 1.0], "steps": [1, 2]}
    _, page = written(tmp_path, front, history)
    assert "This run names no picks." in page.words
    assert "nan" not in (tmp_path / "front.csv").read_text().lower()


def test_weights_by_layer_group() -> None:
    assert weights_of({"a": 0.5, "b": 1}) == [("", "a", 0.5), ("", "b", 1)]
    assert weights_of({"low": {"a": 0.1}, "high": {"a": 0.2}}) == [("low", "a", 0.1), ("high", "a", 0.2)]
    assert weights_of({"a": [0.1, 0.2]}) == [("group 0", "a", 0.1), ("group 1", "a", 0.2)]


def test_numbers_read_well() -> None:
    assert [number(x) for x in (None, 0.0, 0.12345, 12.3, 412000, 1e-5)] == [
        "–",
        "0.000",
        "0.123",
        "12.3",
        "412,000",
        "1.0e-05",
    ]
    assert score_text(0.8734, 0.0121) == "0.873 ± 0.012"
    assert score_text(0.5, 0.0001) == "0.50000 ± 0.00010"
