"""The service's log: plain lines on standard error for people, JSON lines in the state directory for collectors."""

from __future__ import annotations

import json
import logging
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path

FILE = "service.jsonl"
BYTES, KEPT = 10 * 2**20, 5
IDS = ("job", "attempt", "cause")
"""What a line may be about: given to the logger as `extra`."""
_FORMAT = "%(asctime)s %(levelname)s %(message)s"


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {"at": round(record.created, 3), "level": record.levelname, "event": record.getMessage()}
        line |= {name: getattr(record, name) for name in IDS if hasattr(record, name)}
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class _Book(RotatingFileHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        """A full disk costs lines, nothing else; standard error has them too."""


def open_log(state: Path) -> None:
    """Send this process's log to both places."""
    plain = logging.StreamHandler(sys.stderr)
    plain.setFormatter(logging.Formatter(_FORMAT))
    book = _Book(state / FILE, maxBytes=BYTES, backupCount=KEPT, encoding="utf-8", delay=True)
    book.setFormatter(_Lines())
    logging.basicConfig(level=logging.INFO, handlers=[plain, book])
    logging.getLogger("alembic").setLevel(logging.WARNING)
