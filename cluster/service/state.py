"""What requests share: one frozen value, made at start and handed to routes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast

import sqlalchemy as sa
from anyio import CapacityLimiter
from fastapi import Depends, Query, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes

from . import store
from .domain import Domain, Permits
from .fronts import Fronts
from .jobs import Job
from .lately import Callers, Endings
from .looks import Looks
from .metrics import Metrics
from .problems import ApiProblem
from .settings import Settings
from .supervisor import Supervisor
from .tickets import Tickets
from .tokens import ANYONE, Caller
from .worker import Worker


@dataclass(frozen=True)
class Service:
    """Everything that routes use."""

    settings: Settings
    permits: Permits
    engine: sa.Engine
    domain: Domain
    checker: Worker
    reader: Worker
    metrics: Metrics
    supervisor: Supervisor
    fronts: Fronts
    callers: Callers
    endings: Endings
    looks: Looks
    tickets: Tickets
    checks: CapacityLimiter
    """Threads that wait for the checker: a queue of its own, so that listing never waits behind it."""
    reads: CapacityLimiter
    """Threads that wait for a front."""
    downloads: CapacityLimiter
    """Threads that read the next piece of a checkpoint, maybe from a slow disk."""
    pulse: CapacityLimiter
    """The thread that asks whether the database answers."""


async def service_of(request: Request) -> Service:
    """The service that a request came to. Not a plain function: FastAPI would start a thread for it."""
    return _service(request)


def _service(request: Request) -> Service:
    return cast(Service, request.app.state.service)


_bearer = HTTPBearer(auto_error=False, description="`mergefront token add OWNER --scope read` makes one.")


async def _caller(
    request: Request,
    scopes: SecurityScopes,
    given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Caller:
    service = _service(request)
    if not service.settings.auth:
        return ANYONE
    ask = {"WWW-Authenticate": "Bearer"}
    if given is None:
        detail = "a token is needed: send `Authorization: Bearer TOKEN`, or set MERGEFRONT_TOKEN for the client"
        raise ApiProblem(401, "no-token", detail, headers=ask)
    caller = await service.callers.of(given.credentials)
    if isinstance(caller, str):
        detail = f"{caller}; ask the operator for a new one (`mergefront token add`)"
        raise ApiProblem(401, "bad-token", detail, headers=ask | {"WWW-Authenticate": 'Bearer error="invalid_token"'})
    for scope in scopes.scopes:
        if not caller.may(scope):
            detail = f"this token may not do that: it needs the scope {scope}, and has {', '.join(caller.scopes)}"
            raise ApiProblem(403, "missing-scope", detail)
    return caller


async def _downloader(
    request: Request,
    job: str,
    name: str,
    given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    ticket: Annotated[
        str | None, Query(max_length=100, description="of the answer to POST, in place of a token")
    ] = None,
) -> Caller:
    if ticket is not None:
        if _service(request).tickets.good(ticket, job, name):
            return ANYONE  # the ticket names the job and the checkpoint; whoever got it may see them
        raise ApiProblem(401, "bad-ticket", "this link has expired or was made for something else; ask for a new one")
    return await _caller(request, SecurityScopes(["read"]), given)


Shared = Annotated[Service, Depends(service_of)]
Reader = Annotated[Caller, Security(_caller, scopes=["read"])]
Submitter = Annotated[Caller, Security(_caller, scopes=["submit"])]
Downloader = Annotated[Caller, Depends(_downloader)]
Watcher = Annotated[Caller, Security(_caller, scopes=["metrics"])]


def job_for(service: Service, caller: Caller, job: str) -> Job:
    """A job that the caller may see.

    Raises:
        ApiProblem: 404 where there is none, or it is somebody else's: the two look the same.
    """
    plain = len(job) == 12 and all(letter in "0123456789abcdef" for letter in job)
    found = store.job_by_id(service.engine, job, caller.sees) if plain else None
    if found is None:
        said = f"there is no job {job[:40]!r} for this token; `mergefront jobs` lists yours"
        raise ApiProblem(404, "unknown-job", said)
    return found
