"""Checkpoints of points that somebody asked for: each is a small Ray job, tried again by asking again."""

from __future__ import annotations

import sqlalchemy as sa

from . import store
from .domain import Domain
from .jobs import DONE, FAILED, QUEUED, RUNNING, STARTING, Export
from .launch import export_place, launch_export
from .logs import last_line
from .ray_jobs import RayJobs, Rejected
from .settings import Settings

AT_ONCE = 1
"""A merge uses every core and the bandwidth of the memory; a second one beside it gains nothing."""


def move_exports(engine: sa.Engine, settings: Settings, domain: Domain, ray: RayJobs) -> None:
    """Look at the exports under way, and start the next.

    Raises:
        ClusterGone: it does not answer.
    """
    under_way = store.exports(engine, states=(STARTING, RUNNING))
    for export in under_way:
        _look(export, engine, settings, domain, ray)
    for export in store.exports(engine, states=(QUEUED,))[: max(0, AT_ONCE - len(under_way))]:
        if store.change_export(engine, export, STARTING):
            _submit(_again(engine, export), engine, settings, domain, ray)


def _look(export: Export, engine: sa.Engine, settings: Settings, domain: Domain, ray: RayJobs) -> None:
    found = ray.look(export.submission)
    if found is None:
        if export.state == STARTING:
            _submit(export, engine, settings, domain, ray)
        else:
            store.change_export(engine, export, FAILED, "the cluster that made it is gone; ask for it again")
    elif found.status == "SUCCEEDED" and export_place(settings, export.job, export.point).is_dir():
        store.change_export(engine, export, DONE)
    elif found.ended:
        said = last_line(settings.job(export.job) / "exports.txt")
        store.change_export(engine, export, FAILED, said or found.message[:300])
    elif export.state == STARTING:
        store.change_export(engine, export, RUNNING)


def _submit(export: Export, engine: sa.Engine, settings: Settings, domain: Domain, ray: RayJobs) -> None:
    try:
        launch_export(export, settings, domain, ray)
    except (Rejected, OSError) as error:
        store.change_export(engine, export, FAILED, str(error))


def _again(engine: sa.Engine, export: Export) -> Export:
    return next(row for row in store.exports(engine, export.job) if row.point == export.point)
