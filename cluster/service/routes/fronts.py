"""The front of a job, as far as it has come."""

from __future__ import annotations

import sqlalchemy as sa
from anyio import to_thread
from fastapi import APIRouter, Request, Response

from ..fronts import Front
from ..jobs import Job
from ..problems import ApiProblem, described
from ..state import Reader, Service, Shared, job_for

router = APIRouter(tags=["fronts"])
BAD_INPUT = 2
EXAMPLE = {
    "run": "six-languages",
    "objectives": {"general": "max", "safety": "max"},
    "hypervolume": 0.0749,
    "picks": {"knee": "86"},
    "points": [
        {
            "id": "86",
            "kind": "merge",
            "method": "linear",
            "weights": {"general": 0.6, "safety": 0.4},
            "scores": {"general": {"value": 0.83, "stderr": 0.014, "n": 960}},
            "languages": {"en": {"general": {"value": 0.95, "stderr": 0.017, "n": 160}}},
            "on_front": True,
            "p_on_front": 0.97,
        }
    ],
}


@router.get(
    "/jobs/{job}/front",
    responses={
        200: {
            "description": "the document that `mergefront front RUN --json` prints",
            "content": {"application/json": {"schema": {"type": "object"}, "example": EXAMPLE}},
        },
        304: {"description": "not changed since the answer with this ETag"},
        **described(s409="nothing was scored yet, or the run cannot be read here"),
    },
)
async def front(request: Request, service: Shared, caller: Reader, job: str) -> Response:
    """The front document, also while the job runs."""
    found = await to_thread.run_sync(job_for, service, caller, job)
    document = await front_of(service, found)
    headers = {"ETag": document.etag, "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == document.etag:
        return Response(status_code=304, headers=headers)
    return Response(document.body, media_type="application/json", headers=headers)


async def front_of(service: Service, job: Job) -> Front:
    """The front of a job.

    Raises:
        ApiProblem: 409 where nothing was scored or the run cannot be read, 503 where the front cannot be made now.
    """
    try:
        found = await to_thread.run_sync(service.fronts.of, job, limiter=service.reads)
    except RuntimeError as error:
        raise ApiProblem(503, "busy", f"the front cannot be made now ({error}); try again") from None
    except Exception as error:
        # The run's own state, not the service's: of a newer version, damaged, moved.
        if getattr(error, "exit_status", None) != BAD_INPUT and not isinstance(error, sa.exc.DBAPIError):
            raise
        said = " ".join(str(getattr(error, "orig", error)).split())[:500]
        raise ApiProblem(409, "unreadable-run", f"the run of job {job.id} cannot be read: {said}") from None
    if found is None:
        said = f"job {job.id} is {job.state} and nothing was scored yet; the front is there after the first points"
        raise ApiProblem(409, "no-front", said)
    return found
