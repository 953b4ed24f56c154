"""Reservations that nobody gives back.

A placement group that an actor made outlives that actor until the whole job ends (Ray: it is done when job *and*
creator are). So when Tune kills a trial that holds a worker group, the workers' CPUs stay taken, and whatever the
same session does next waits for them. Ray Train's own cleaner needs the dashboard, which a local session has not.
"""

from __future__ import annotations

from typing import Any


def unnamed_groups() -> frozenset[str]:
    """Ids of the placement groups without a name that this job holds; those of Tune have names."""
    import ray
    from ray.util import placement_group_table

    job = ray.get_runtime_context().get_job_id()
    table: dict[str, dict[str, Any]] = placement_group_table()
    # An id ends with the id of its job.
    return frozenset(
        key for key, entry in table.items() if key.endswith(job) and not entry["name"] and entry["state"] != "REMOVED"
    )


def give_back(ids: frozenset[str]) -> None:
    """Remove placement groups by id."""
    from ray._raylet import PlacementGroupID
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    for key in sorted(ids):
        remove_placement_group(PlacementGroup(PlacementGroupID.from_hex(key)))
