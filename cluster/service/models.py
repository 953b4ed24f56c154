"""The shapes of answers, for OpenAPI and for people who read it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from .jobs import STATES, Event, Job

JOB_EXAMPLE: dict[str, Any] = {
    "id": "5f0c2a9be174",
    "name": "six-languages",
    "owner": "ada",
    "state": "RUNNING",
    "reason": "",
    "priority": 0,
    "needs": {"cpus": 1.81, "gpus": 0.0},
    "attempt": 1,
    "attempts": 4,
    "candidates": 96,
    "progress": {"stage": "search", "scored": 41, "of": 101, "trained": 4, "to_train": 4, "share": 0.41},
    "created": 1795266153.6,
    "started": 1795266160.2,
    "finished": None,
}


class Problem(BaseModel):
    """An error (RFC 9457, `application/problem+json`)."""

    type: str = Field(description="urn:mergefront:CODE; programs may rely on the code")
    title: str
    status: int
    detail: str = Field(description="one line: the rule, the value, the remedy")
    problems: list[dict[str, Any]] = Field(
        default=[], description="of a recipe: file, line, path, rule, value, remedy and text, as `mergefront check`"
    )


class Needs(BaseModel):
    """What a job holds of the cluster while it runs."""

    cpus: float
    gpus: float


class Progress(BaseModel):
    """How far a run has come. `share` is of the points to score; training counts `trained` of `to_train`."""

    model_config = ConfigDict(extra="allow")

    stage: str = ""
    scored: int = 0
    of: int = 0
    trained: int = 0
    to_train: int = 0
    share: float = 0.0
    pool: dict[str, float | None] | None = Field(
        None, description="evaluator actors, candidates that wait, candidates per minute, utilisation, losses so far"
    )
    failures: dict[str, int] = Field({}, description="failed candidates by cause")


class JobShown(BaseModel):
    """A job; times are Unix seconds."""

    model_config = ConfigDict(json_schema_extra={"example": JOB_EXAMPLE})

    id: str
    name: str
    owner: str
    state: str = Field(description=f"one of {', '.join(STATES)}", json_schema_extra={"enum": list(STATES)})
    reason: str = Field(description="why it waits, failed or ended; empty where there is nothing to say")
    priority: int
    needs: Needs
    attempt: int
    attempts: int
    candidates: int
    progress: Progress
    created: float
    started: float | None
    finished: float | None


class EventShown(BaseModel):
    """A change of a job's state."""

    at: float
    state: str
    reason: str


class JobDetail(JobShown):
    """A job with its history and its recipe."""

    events: list[EventShown]
    recipe: str


class JobList(BaseModel):
    """Jobs, newest first; `next` is to be given as `before` for the following ones, null at the end."""

    jobs: list[JobShown]
    next: int | None = None


class ExportShown(BaseModel):
    """A checkpoint: `name` is a pick or a point's id. QUEUED, STARTING, RUNNING, DONE (it can be fetched) or FAILED."""

    name: str
    point: str
    state: str
    reason: str = ""
    bytes: int | None = Field(default=None, description="of the tar file, once DONE")
    ticket: str | None = Field(
        default=None, description="for a link without a token, good for a minute: GET with ?ticket="
    )


class ExportList(BaseModel):
    """The exports of a job."""

    exports: list[ExportShown]


class Health(BaseModel):
    """Whether the parts work; 503 where the service itself cannot."""

    status: str
    database: bool
    cluster: bool = Field(description="a cluster that is away stops no request; jobs wait for it")
    supervisor: bool
    version: str


def show(job: Job, attempts: int) -> JobShown:
    """A job as it is shown."""
    return JobShown(**_fields(job, attempts))


def detail(job: Job, attempts: int, events: tuple[Event, ...]) -> JobDetail:
    """A job with its history."""
    shown = [EventShown(at=event.at, state=event.state, reason=event.reason) for event in events]
    return JobDetail(**_fields(job, attempts), events=shown, recipe=job.recipe)


def _fields(job: Job, attempts: int) -> dict[str, Any]:
    names = ("id", "name", "owner", "state", "reason", "priority", "attempt", "candidates")
    return {
        **{name: getattr(job, name) for name in (*names, "created", "started", "finished")},
        "needs": Needs(cpus=job.cpus, gpus=job.gpus),
        "attempts": attempts,
        "progress": Progress(**job.progress),
    }
