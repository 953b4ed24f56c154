"""The web page: three files of our own, nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse

router = APIRouter(include_in_schema=False)
FOLDER = Path(__file__).resolve().parent.parent / "page"
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


def _add(path: str, file: Path) -> None:
    @router.get(path)
    def serve() -> FileResponse:
        return FileResponse(file, media_type=TYPES[file.suffix], headers={"Cache-Control": "no-cache"})


# By name, one by one: no part of a request ever becomes a path.
_add("/", FOLDER / "index.html")
for _file in sorted(FOLDER.iterdir()):
    if _file.suffix in TYPES:
        _add(f"/page/{_file.name}", _file)
