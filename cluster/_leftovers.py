"""Reservations that nobody gives back.

A placement group outlives the actor that made it until the whole job ends. So when a trial dies, or gives up on a
worker that died while starting, the workers' CPUs stay taken, and whatever the same session does next waits for them.
Ray Train's own cleaner needs the dashboard, which a local session has not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

_NIL = b"\xff"


def release_orphans() -> int:
    """Remove the placement groups of this job whose maker is dead; returns how many."""
    # What the driver itself made counts as made by a dead nobody.
    return _release(lambda group: group.creator_actor_dead and group.creator_actor_id.strip(_NIL))


def release_own() -> int:
    """Remove the placement groups that this very actor made; returns how many. A driver is no actor: none."""
    import ray

    actor = ray.get_runtime_context().get_actor_id()
    return _release(lambda group: group.creator_actor_id == bytes.fromhex(actor)) if actor else 0


def _release(wanted: Callable[[Any], Any]) -> int:
    """Reads the table that ``ray.util.placement_group_table`` shows without the makers."""
    import ray
    from ray._private.state import state
    from ray._raylet import PlacementGroupID
    from ray.core.generated.gcs_pb2 import PlacementGroupTableData
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    job = bytes.fromhex(ray.get_runtime_context().get_job_id())
    removed = 0
    for record in state._connect_and_get_accessor().get_placement_group_table():
        group = PlacementGroupTableData.FromString(record)
        if (
            wanted(group)
            and not group.is_detached
            and group.creator_job_id == job
            and group.state != PlacementGroupTableData.REMOVED
        ):
            remove_placement_group(PlacementGroup(PlacementGroupID(group.placement_group_id)))
            removed += 1
    return removed


def wait_for_orphans(limit_s: float) -> None:
    """Remove orphans as soon as there are any; an actor is known to be dead only some time after its end."""
    deadline = time.monotonic() + limit_s
    while not release_orphans() and time.monotonic() < deadline:
        time.sleep(0.2)
