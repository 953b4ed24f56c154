"""log.jsonl: what happened in a run, a JSON object a line, with the ids of job, search and candidate.

For people and log collectors; nothing is decided from it. So a line that cannot be written is dropped: the disk may be
full, and `study.db` is the truth.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

FILE = "log.jsonl"
JOB = "MERGEFRONT_JOB"
"""Environment variable with the id of the service's job that this process belongs to."""


def write(run: Path, event: str, **detail: Any) -> None:
    """Append a line to the log of a run directory; whole lines, whoever else writes.

    Args:
        run: directory.
        event: what happened.
        detail: JSON values; `search`, `candidate` and `point` are ids. Those that are None are left out.
    """
    line: dict[str, Any] = {"at": round(time.time(), 3), "event": event, "job": os.environ.get(JOB), **detail}
    text = json.dumps({key: value for key, value in line.items() if value is not None}, ensure_ascii=False, default=str)
    try:
        # One call: lines of several processes do not run into each other.
        file = os.open(run / FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(file, (text + "\n").encode())
        finally:
            os.close(file)
    except OSError:
        pass
