"""For whoever runs the service: health and metrics."""

from __future__ import annotations

import time

import sqlalchemy as sa
from anyio import move_on_after, to_thread
from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from .. import store
from ..models import Health
from ..problems import described
from ..state import Shared, Watcher

router = APIRouter(tags=["operation"])
LATE_S = 180.0
"""A step may wait this long for a cluster that starts."""
ANSWER_S = 5.0
"""A database that takes longer to say anything does not work."""


@router.get("/health", response_model=Health, responses={503: {"model": Health, "description": "it cannot work"}})
async def health(service: Shared, response: Response) -> Health:
    """Whether the service works. Needs no token, tells nothing of jobs."""
    from importlib.metadata import version

    database = False
    with move_on_after(ANSWER_S):  # a thread of its own: all others may wait for the database that is asked about
        database = await to_thread.run_sync(_answers, service.engine, abandon_on_cancel=True, limiter=service.pulse)
    supervised = time.monotonic() - service.supervisor.begun < LATE_S
    cluster = service.supervisor.reached
    response.status_code = 200 if database and supervised else 503
    status = "ok" if database and supervised and cluster else "waiting for the cluster" if database else "failing"
    return Health(
        status=status, database=database, cluster=cluster, supervisor=supervised, version=version("mergefront")
    )


def _answers(engine: sa.Engine) -> bool:
    try:
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT 1"))
    except sa.exc.SQLAlchemyError:
        return False
    return True


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **described()},
)
def metrics(service: Shared, caller: Watcher) -> Response:
    """Figures for Prometheus."""
    return Response(service.metrics.text(store.counts(service.engine)), headers={"Content-Type": CONTENT_TYPE_LATEST})
