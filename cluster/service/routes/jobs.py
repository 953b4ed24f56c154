"""Submit, list, look, cancel."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Header, Query, Request, Response

from .. import store
from ..domain import Place, Plan, Refused
from ..jobs import CANCELLED, CANCELLING, ENDED, STATES, Job
from ..models import JobDetail, JobList, JobShown, detail, show
from ..problems import ApiProblem, described
from ..state import Reader, Service, Shared, Submitter, job_for
from ..submission import accepted_type, read_limited, refused_for_size
from ..tokens import Caller
from ..worker import Overdue

router = APIRouter(tags=["jobs"])
WAITING = 16
"""Recipes that may wait for the checker; more are told to come back."""
_KEY = re.compile(r"[\x21-\x7e]{1,128}")
_FILE = re.compile(r"[\w .()@+-]{1,128}")
RECIPE_BODY = {
    "requestBody": {
        "required": True,
        "description": "The recipe, YAML in UTF-8.",
        "content": {
            "application/yaml": {
                "schema": {"type": "string"},
                "example": "name: mine\nbase: org/model-8b\nlanguages: [en, fr]\n...\n",
            }
        },
    }
}


@router.post(
    "/jobs",
    status_code=201,
    response_model=JobShown,
    openapi_extra=RECIPE_BODY,
    responses={
        200: {"model": JobShown, "description": "the idempotency key was used for this very recipe: that job"},
        **described(
            s400="a header or parameter that is none",
            s409="the idempotency key belongs to another recipe",
            s413="the recipe is too large",
            s415="not YAML by its content type",
            s422="the recipe does not validate: `problems` has what `mergefront check` says",
            s429="too many jobs of this owner have not ended",
        ),
    },
)
async def submit(
    request: Request,
    response: Response,
    service: Shared,
    caller: Submitter,
    directory: Annotated[
        str, Query(max_length=1024, description="absolute; relative paths of the recipe start here (the server's disk)")
    ] = "",
    file: Annotated[str, Query(max_length=128, description="the recipe's name for messages")] = "recipe.yaml",
    priority: Annotated[int, Query(ge=-100, le=100, description="higher starts first")] = 0,
    idempotency_key: Annotated[
        str | None, Header(description="up to 128 printable characters; the same key never makes a second job")
    ] = None,
) -> JobShown:
    """Submit a recipe. It is checked as `mergefront check` does, then queued."""
    accepted_type(request)
    if idempotency_key is not None and not _KEY.fullmatch(idempotency_key):
        raise ApiProblem(400, "bad-key", "Idempotency-Key: 1 to 128 printable ASCII characters without spaces")
    if not _FILE.fullmatch(file) or (directory and not Path(directory).is_absolute()) or "\0" in directory:
        raise ApiProblem(400, "bad-place", "file must be a plain name, directory an absolute path without NUL")
    body = await read_limited(request, service.settings.limits.recipe_bytes)
    digest = hashlib.sha256(f"{directory}\0{priority}\0".encode("utf-8", "replace") + body).hexdigest()
    attempts = service.settings.limits.attempts
    known = await to_thread.run_sync(store.by_key, service.engine, caller.owner, idempotency_key)
    if known is None:
        job, new = await _entered(service, caller, body, digest, directory, file, priority, idempotency_key)
        if new:
            response.headers["Location"] = f"/jobs/{job.id}"
            return show(job, attempts)
        known = job
    if known.digest != digest:
        said = f"Idempotency-Key {idempotency_key!r} belongs to job {known.id}, of another recipe; take a new key"
        raise ApiProblem(409, "key-taken", said)
    response.status_code = 200
    response.headers["Location"] = f"/jobs/{known.id}"
    return show(known, attempts)


async def _entered(
    service: Service,
    caller: Caller,
    body: bytes,
    digest: str,
    directory: str,
    file: str,
    priority: int,
    key: str | None,
) -> tuple[Job, bool]:
    """The job, and whether it is a new one: another request with the same key may have been faster."""
    limits = service.settings.limits
    if await to_thread.run_sync(store.open_jobs, service.engine, caller.owner) >= limits.open_jobs:
        said = f"{caller.owner} has {limits.open_jobs} jobs that have not ended, the most allowed; cancel one, or wait"
        raise ApiProblem(429, "too-many-jobs", said, headers={"Retry-After": "60"})
    job = store.new_id()
    folder = service.settings.job(job)
    place = Place(file, directory or str(folder), str(folder / "run"), service.permits.allowed, service.permits.code)
    plan = await _checked(service, body, place)
    refused_for_size(plan, service.supervisor.clusters.last_known())
    values: dict[str, Any] = {
        "id": job,
        "owner": caller.owner,
        "name": plan.name,
        "recipe": body.decode(),
        "directory": place.directory,
        "digest": digest,
        "idempotency": key,
        "priority": priority,
        "cpus": plan.cpus,
        "gpus": plan.gpus,
        "candidates": plan.candidates,
    }
    try:
        return await to_thread.run_sync(store.add_job, service.engine, values), True
    except store.KeyTaken as taken:
        return taken.job, False


async def _checked(service: Service, body: bytes, place: Place) -> Plan:
    limits = service.settings.limits
    if service.checks.statistics().tasks_waiting >= WAITING:
        raise ApiProblem(503, "busy", "many recipes wait to be checked; try again", headers={"Retry-After": "5"})
    try:
        return await to_thread.run_sync(
            lambda: service.checker.call(service.domain.check, body, place, limit_s=limits.check_s),
            limiter=service.checks,
        )
    except Refused as refused:
        said = "\n".join(str(problem["text"]) for problem in refused.problems)
        raise ApiProblem(422, "bad-recipe", said, problems=refused.problems) from None
    except Overdue:
        said = f"the recipe could not be checked within {limits.check_s:g} s; name less data, or ask the operator"
        raise ApiProblem(422, "check-overdue", said) from None
    except RuntimeError:
        raise ApiProblem(503, "busy", "the checker ended early; try again", headers={"Retry-After": "5"}) from None


@router.get("/jobs", response_model=JobList, responses=described(s400="a parameter that is none"))
def list_jobs(
    service: Shared,
    caller: Reader,
    state: Annotated[str | None, Query(description=f"one of {', '.join(STATES)}")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    before: Annotated[int | None, Query(ge=1, le=2**31 - 1, description="`next` of the answer before")] = None,
) -> Response:
    """List jobs, newest first."""
    if state is not None and state not in STATES:
        raise ApiProblem(400, "bad-state", f"state: must be one of {', '.join(STATES)}, got {state[:40]!r}")
    states = () if state is None else (state,)
    found = store.jobs(service.engine, caller.sees, states, limit, before)
    more = found[-1].number if len(found) == limit else None
    shown = JobList(jobs=[show(job, service.settings.limits.attempts) for job in found], next=more)
    return Response(shown.model_dump_json(), media_type="application/json")


@router.get("/jobs/{job}", response_model=JobDetail, responses=described())
def get_job(service: Shared, caller: Reader, job: str) -> JobDetail:
    """A job with its progress, its history and its recipe."""
    found = job_for(service, caller, job)
    return detail(found, service.settings.limits.attempts, store.events(service.engine, found.id))


@router.post(
    "/jobs/{job}/cancel", status_code=202, response_model=JobShown, responses=described(s409="it has ended already")
)
def cancel(service: Shared, caller: Submitter, job: str) -> JobShown:
    """Cancel a job. What ran is kept; a job that is being cancelled already stays so."""
    for _ in range(3):  # it may move on while we look
        found = job_for(service, caller, job)
        if found.state in ENDED:
            word = "cancelled already" if found.state == CANCELLED else f"{found.state} already"
            raise ApiProblem(409, "ended", f"job {found.id} is {word}; there is nothing to cancel")
        if found.state == CANCELLING or store.ask_cancel(service.engine, found):
            break
    return show(job_for(service, caller, job), service.settings.limits.attempts)
