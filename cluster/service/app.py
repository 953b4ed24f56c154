"""The application: settings in, an ASGI app out. Nothing is started before the server starts it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import sqlalchemy as sa
from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from . import problems
from .domain import Domain, Permits
from .fronts import Fronts
from .guard import LOOPBACK, Guard
from .lately import Callers, Endings
from .looks import Looks
from .metrics import Metrics
from .models import Problem
from .routes import exports, fronts, jobs, logs, operate, page
from .settings import Settings
from .state import Service
from .supervisor import Supervisor
from .tickets import Tickets
from .worker import Worker

ABOUT = """Submit a recipe, walk away, come back to a front of exported checkpoints.

Errors are `application/problem+json`. Every request but `/health` carries `Authorization: Bearer TOKEN`."""


THREADS = 4
"""Threads for short work: database queries and looks at files.

They share the interpreter with the loop that serves all connections. With anyio's 40, two hundred clients had the list
of jobs after 1.0 s (99th percentile; 90 lists a second at most), with 4 after 0.2 s (180 a second). What can take long
has limits of its own (`state.Service`).
"""


def create_app(settings: Settings, permits: Permits, engine: sa.Engine, domain: Domain, version: str) -> FastAPI:
    """The service as an ASGI application.

    Args:
        settings: how it runs.
        permits: what recipes may name.
        engine: of its database, migrated (`database.open_database`).
        domain: what a recipe is.
        version: of mergefront.
    """
    metrics, checker, reader = Metrics(), Worker("checking a recipe"), Worker("reading a run")
    supervisor = Supervisor(settings, engine, domain, metrics)
    endings = Endings(engine)
    service = Service(
        settings=settings,
        permits=permits,
        engine=engine,
        domain=domain,
        checker=checker,
        reader=reader,
        metrics=metrics,
        supervisor=supervisor,
        fronts=Fronts(settings, domain, reader),
        callers=Callers(engine),
        endings=endings,
        looks=Looks(settings, endings),
        tickets=Tickets(),
        checks=CapacityLimiter(4),
        reads=CapacityLimiter(8),
        downloads=CapacityLimiter(16),
        pulse=CapacityLimiter(1),
    )

    @asynccontextmanager
    async def life(_app: FastAPI) -> AsyncIterator[None]:
        to_thread.current_default_thread_limiter().total_tokens = THREADS
        supervisor.start()
        try:
            yield
        finally:
            checker.close()
            reader.close()
            supervisor.stop()
            engine.dispose()

    app = FastAPI(title="mergefront", version=version, description=ABOUT, lifespan=life, docs_url=None, redoc_url=None)
    app.state.service = service
    for part in (jobs, logs, fronts, exports, operate, page):
        app.include_router(part.router)
    problems.install(app)
    hosts = None if settings.auth else (*LOOPBACK, settings.host, *settings.names)
    app.add_middleware(Guard, metrics=metrics, hosts=hosts)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # FastAPI's documented way to extend the schema
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's schema with the problem's, and with its own word on 422 taken out: ours has another shape."""
    if app.openapi_schema is None:
        made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        schemas = made["components"]["schemas"]
        schemas["Problem"] = Problem.model_json_schema()
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        content = problems.described(s422="a parameter that is none")[422]
        for path in made["paths"].values():
            for operation in path.values():
                if "HTTPValidationError" in str(operation["responses"].get("422", "")):
                    operation["responses"]["422"] = content
        app.openapi_schema = made
    return app.openapi_schema
