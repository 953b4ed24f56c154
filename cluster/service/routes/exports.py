"""Checkpoints of a job: those of its picks, and that of any point on demand."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from anyio import to_thread
from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse

from .. import archive, store
from ..jobs import DONE, Export, Job
from ..launch import export_place
from ..models import ExportList, ExportShown
from ..problems import ApiProblem, described
from ..state import Downloader, Reader, Service, Shared, Submitter, job_for
from ..tokens import Caller
from .fronts import front_of

router = APIRouter(tags=["exports"])
_POINT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")


@router.get("/jobs/{job}/exports", response_model=ExportList, responses=described(s409="nothing was scored yet"))
async def list_exports(service: Shared, caller: Reader, job: str) -> ExportList:
    """The checkpoints that are there or under way; any other point of the front can be asked for."""
    found = await to_thread.run_sync(job_for, service, caller, job)
    picks: Mapping[str, str] = (await front_of(service, found)).value["picks"]
    return await to_thread.run_sync(_listed, service, found, picks)


def _listed(service: Service, job: Job, picks: Mapping[str, str]) -> ExportList:
    shown = [_shown(service, job, Wanted(pick, point, (pick,)), None) for pick, point in picks.items()]
    rows = store.exports(service.engine, job.id)
    asked = [_shown(service, job, Wanted(row.point, row.point, ()), row) for row in rows]
    return ExportList(exports=[*(row for row in shown if row.state == DONE), *asked])


@router.post(
    "/jobs/{job}/exports/{name}",
    status_code=202,
    response_model=ExportShown,
    responses={
        200: {"model": ExportShown, "description": "it is there already"},
        **described(s409="nothing was scored yet"),
    },
)
async def ask(service: Shared, caller: Submitter, response: Response, job: str, name: str) -> ExportShown:
    """Ask for the checkpoint of a pick (`knee`) or a point (`12`); asked again, it says how far it is."""
    found, wanted = await _wanted(service, caller, job, name)
    there = await to_thread.run_sync(_shown, service, found, wanted, None)
    if there.state != DONE:
        row = await to_thread.run_sync(store.add_export, service.engine, found.id, wanted.point)
        there = await to_thread.run_sync(_shown, service, found, wanted, row)
    response.status_code = 200 if there.state == DONE else 202
    return there


@router.get(
    "/jobs/{job}/exports/{name}",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "a tar file of a directory that `transformers` loads",
            "content": {"application/x-tar": {"schema": {"type": "string", "format": "binary"}}},
        },
        **described(s409="not ready: it was not asked for, or is still being made"),
    },
)
async def fetch(service: Shared, caller: Downloader, job: str, name: str) -> StreamingResponse:
    """Download a checkpoint."""
    found, wanted = await _wanted(service, caller, job, name)
    folder = await to_thread.run_sync(_place, service, found, wanted)
    if folder is None:
        rows = await to_thread.run_sync(store.exports, service.engine, found.id)
        row = next((row for row in rows if row.point == wanted.point), None)
        if row is None:
            how = f"ask for it first: POST /jobs/{found.id}/exports/{name}, or `mergefront fetch`"
            raise ApiProblem(409, "not-ready", f"the checkpoint of {name} was not exported; {how}")
        said = f"the checkpoint of {name} is {row.state}{': ' + row.reason if row.reason else ''}; try again later"
        raise ApiProblem(409, "not-ready", said, headers={"Retry-After": "5"})
    files = await to_thread.run_sync(archive.entries, folder, name)
    headers = {
        "Content-Length": str(archive.length(files)),
        "Content-Disposition": f'attachment; filename="{found.id}-{re.sub("[^A-Za-z0-9_.-]", "_", name)}.tar"',
    }
    return StreamingResponse(_pieces(service, files), media_type="application/x-tar", headers=headers)


async def _pieces(service: Service, files: tuple[archive.Entry, ...]) -> AsyncIterator[bytes]:
    pieces = archive.stream(files)
    while (piece := await to_thread.run_sync(next, pieces, None, limiter=service.downloads)) is not None:
        yield piece


@dataclass(frozen=True)
class Wanted:
    """A checkpoint: the name that it was asked by, the point's id, and the picks that this point is."""

    name: str
    point: str
    picks: tuple[str, ...]


async def _wanted(service: Service, caller: Caller, job: str, name: str) -> tuple[Job, Wanted]:
    """The job, and what `name` stands for.

    Names are looked up among those of the front and never made into paths before that.
    """
    found = await to_thread.run_sync(job_for, service, caller, job)
    document = (await front_of(service, found)).value
    point = document["picks"].get(name)
    if point is None:
        point = next((row["id"] for row in document["points"] if row["id"] == name), None)
    if point is None or not _POINT.fullmatch(point):
        known = ", ".join(document["picks"]) or "none yet"
        said = f"no point of job {found.id} is called {name[:40]!r}; named points: {known}, or an id of its front"
        raise ApiProblem(404, "unknown-point", said)
    return found, Wanted(name, point, tuple(pick for pick, one in document["picks"].items() if one == point))


def _place(service: Service, job: Job, wanted: Wanted) -> Path | None:
    """Where the checkpoint lies, or None: in the run for a pick that it exported, else where it was asked for."""
    run = service.settings.job(job.id) / "run" / "exports"
    if job.state == DONE:  # before that, a pick may still move to another point
        exported = next((run / pick for pick in wanted.picks if (run / pick).is_dir()), None)
        if exported is not None:
            return exported
    rows = store.exports(service.engine, job.id)
    asked = export_place(service.settings, job.id, wanted.point)
    return asked if any(row.point == wanted.point and row.state == DONE for row in rows) and asked.is_dir() else None


def _shown(service: Service, job: Job, wanted: Wanted, row: Export | None) -> ExportShown:
    name, point = wanted.name, wanted.point
    folder = _place(service, job, wanted)
    if folder is not None:
        size = archive.length(archive.entries(folder, name))
        ticket = service.tickets.make(job.id, name)
        return ExportShown(name=name, point=point, state=DONE, bytes=size, ticket=ticket)
    state, reason = (row.state, row.reason) if row is not None else ("NONE", "")
    return ExportShown(name=name, point=point, state=state, reason=reason)
