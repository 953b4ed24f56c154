"""The log of a job as server-sent events."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Annotated

import anyio
from anyio import to_thread
from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import StreamingResponse

from ..jobs import ENDED
from ..problems import ApiProblem, described
from ..state import Reader, Service, Shared, job_for

router = APIRouter(tags=["logs"])
LOOK_S = 0.25
ALIVE_S = 15.0
LARGEST = 2**53
EVENT = {
    "type": "object",
    "properties": {"event": {"type": "string"}, "id": {"type": "string"}, "data": {"type": "string"}},
    "required": ["event", "data"],
    "examples": [
        {"event": "message", "id": "33", "data": '"experts: 2 to train: general, safety"'},
        {"event": "end", "data": '{"state": "DONE"}'},
    ],
}
"""Of one event of the stream, as OpenAPI describes streams."""


@router.get(
    "/jobs/{job}/logs",
    response_class=StreamingResponse,
    responses={
        200: {"description": "lines as they come", "content": {"text/event-stream": {"schema": EVENT}}},
        **described(s429="too many streams are open"),
    },
)
async def logs(
    request: Request,
    service: Shared,
    caller: Reader,
    job: str,
    follow: Annotated[bool, Query(description="stay until the job has ended")] = False,
    offset: Annotated[int, Query(ge=0, le=LARGEST, description="byte to begin at")] = 0,
    last_event_id: Annotated[
        str | None, Header(description="goes before `offset`; sent by reconnecting clients")
    ] = None,
) -> StreamingResponse:
    """Stream the log, over all attempts.

    An event is a line, as a JSON string; its id is the offset behind it. `event: end` closes the stream with the job's
    state. A comment every 15 s keeps idle connections open.
    """
    found = await to_thread.run_sync(job_for, service, caller, job)
    if service.metrics.open_streams >= service.settings.limits.streams:
        raise ApiProblem(
            429, "too-many-streams", "too many log streams are open; try again", headers={"Retry-After": "5"}
        )
    if last_event_id is not None and last_event_id.isdecimal() and len(last_event_id) < 16:
        offset = int(last_event_id)
    return StreamingResponse(_lines(service, found.id, offset, follow), media_type="text/event-stream")


async def _lines(service: Service, job: str, offset: int, follow: bool) -> AsyncIterator[bytes]:
    idle = 0.0
    service.metrics.open_streams += 1  # one thread runs all streams
    try:
        while True:
            look = await service.looks.at(job, offset, follow)
            if look.events:
                offset, idle = look.end, 0.0
                yield look.events
                if follow and look.state not in ENDED and not look.more:
                    await anyio.sleep(LOOK_S)  # it was at the end of the file: looking at once finds nothing
                continue
            if not follow or look.state in ENDED:
                yield f"event: end\ndata: {json.dumps({'state': look.state})}\n\n".encode()
                return
            idle += LOOK_S
            if idle >= ALIVE_S:
                idle = 0.0
                yield b": waiting\n\n"
            await anyio.sleep(LOOK_S)
    finally:
        service.metrics.open_streams -= 1
