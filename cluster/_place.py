"""Where things are put: workers over all nodes, and what must not be lost beside the driver."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

HEAD = "node:__internal_head__"


def driver_node() -> str:
    """Id of the node that the driver is on."""
    import ray

    return str(ray.get_runtime_context().get_node_id())


def beside_the_driver() -> dict[str, float]:
    """A trace of a resource that only the driver's node has: what asks for it dies with the driver or not at all.

    A node's own resource is named by its address; the head's has a name of its own, which also holds where several
    nodes share an address, as in tests.
    """
    import ray

    here = driver_node()
    for node in ray.nodes():
        if node["NodeID"] == here:
            own = HEAD if HEAD in node["Resources"] else f"node:{node['NodeManagerAddress']}"
            return {own: 0.001} if own in node["Resources"] else {}
    return {}


def here_only() -> Any:
    """The scheduling strategy of an actor that must share the driver's fate."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(driver_node(), soft=False)


def room(worker: Mapping[str, float]) -> int:
    """How many more workers the cluster can hold now; `worker`: what each holds, by resource."""
    from ray._private.state import available_resources_per_node

    count = 0
    for free in available_resources_per_node().values():
        fits = [math.floor(free.get(kind, 0.0) / amount + 1e-6) for kind, amount in worker.items() if amount > 0]
        count += max(0, min(fits, default=0))
    return count


def is_alive(node: str) -> bool:
    """Whether the cluster still counts a node as alive."""
    import ray

    return any(one["NodeID"] == node and one["Alive"] for one in ray.nodes())
