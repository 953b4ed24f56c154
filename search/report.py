"""The report of a run: `report.html`, one file that opens without a network, and `front.csv` from the same rows."""

import base64
import hashlib
import json
import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from ._report import sections, training
from ._report.rows import clean, csv_text
from ._report.tags import Html, join, tag
from ._report.view import view_of

_SCRIPTS = ("common.js", "front.js", "charts.js", "training.js", "tables.js", "main.js")


def write_report(front: Mapping[str, Any], history: Mapping[str, Any], out: Path) -> tuple[Path, Path]:
    """Write `report.html` and `front.csv` into a directory, each atomically (temporary file, fsync, rename).

    The page holds its styles, its data and plotly.js (the minified file that the plotly package ships, about 4.8 MB:
    nearly all of the page's size). Its content security policy allows no connection and no script but its own. The
    same input gives the same bytes.

    Args:
        front: the document that `mergefront front RUN --json` prints; see `view_of` for optional keys.
        history: `{"points": [{"id", "method", "seconds", "hypervolume"}], "training": {name: {"steps", "loss",
            "curves", "seconds", "tokens", "flops", ..}}, "timing": {stage: seconds}, "machine": {...}, "failed":
            [{"id", "method", "reason"}]}`, any part of which may be missing; see `search.results.history.history_of`.
        out: the run's directory, which exists; the export commands on the page name it as it is given here.

    Returns:
        The paths of the page and of the CSV.
    """
    document = clean(front)
    page, rows = out / "report.html", out / "front.csv"
    _write(page, report_html(document, clean(history), str(out)))
    _write(rows, csv_text(document))
    return page, rows


def report_html(front: Mapping[str, Any], history: Mapping[str, Any], run: str = "RUN") -> str:
    """The page as text.

    Args:
        front: the front document, cleaned (see `clean`).
        history: the history, cleaned.
        run: the run's directory as a shell would be given it, for the export commands.
    """
    from plotly.offline import get_plotlyjs  # here and not above: importing plotly takes a fifth of a second

    view = view_of(front, history, run)
    scripts = [get_plotlyjs(), "\n".join(_asset(name) for name in _SCRIPTS)]
    scripts = [script.replace("\r\n", "\n").replace("\r", "\n") for script in scripts]
    # A browser hashes the script as parsed, with newlines normalised; both must be the same bytes.
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    policy = (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "font-src data:; base-uri 'none'; form-action 'none'"
    )
    # What the script does not read.
    unseen = ("standings", "comparisons", "headline", "timing", "machine", "tokens", "tunings", "contamination")
    drawn = {key: value for key, value in view.items() if key not in unseen}
    parts = {
        "policy": policy,
        "style": _asset("report.css"),
        "plotly": scripts[0],
        "script": scripts[1],
        "data": _json(drawn),
        "title": tag("title", f"{view['run']}: mergefront report"),
        "run": tag("h1", view["run"]),
        "headline": tag("div", (tag("p", sentence) for sentence in view["headline"]), class_="headline"),
        "facts": sections.facts(view),
        "picks": sections.picks(view),
        "splits": sections.splits_note(view) or "",
        "table": sections.front_table(view),
        "standings": join(sections.standings_table(view["standings"]) or "", view["comparisons"] or ""),
        "optimism": sections.optimism_section(view),
        "training": training.section(view),
        "failed": sections.failed_section(view),
        "timing": sections.timing_section(view),
        "machine": sections.machine_section(view),
    }
    return Template(_asset("template.html")).substitute(parts)


def _asset(name: str) -> str:
    return (resources.files(__package__) / "_report" / "assets" / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _json(value: Any) -> Html:
    # Inside a script element only "<" can end or nest it; "&" and ">" go too, so that no tool that treats the
    # block as HTML can read markup in it.
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Html(text)


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            # "replace": text that is no valid Unicode (a lone surrogate in a broken name) must not cost the page.
            file.write(text.encode("utf-8", "replace"))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
