"""Several Ray nodes on one machine (`ray.cluster_utils.Cluster`): real processes, one disk and one address."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from cluster.session import ENVIRONMENT, take_token

STORE_BYTES = 100 * 2**20


@dataclass
class Nodes:
    """A head without room for workers, and nodes of `cpus` CPUs each."""

    cluster: Any
    cpus: float
    alive: list[Any] = field(default_factory=list)

    @property
    def address(self) -> str:
        """As `cluster.address` takes it."""
        return str(self.cluster.address)

    def add(self) -> None:
        """One more node."""
        self.alive.append(self.cluster.add_node(num_cpus=self.cpus, object_store_memory=STORE_BYTES, wait=True))

    def kill(self, index: int) -> None:
        """End a node as a power cut does: SIGKILL to its raylet, whose workers end with it."""
        node = self.alive.pop(index)
        self.cluster.remove_node(node, allow_graceful=False)


@contextmanager
def nodes(count: int, cpus: float) -> Iterator[Nodes]:
    """A cluster with tokens, as `mergefront` joins it from this process and its children."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # Ray makes its workers yield to everything else of a machine; here they stand for machines of their own.
    os.environ.setdefault("RAY_worker_niceness", "0")
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "300")  # half a minute is not enough on a busy machine
    take_token()
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": STORE_BYTES}
    made = Nodes(Cluster(initialize_head=True, head_node_args=head), cpus)
    try:
        for _ in range(count):
            made.add()
        yield made
    finally:
        made.cluster.shutdown()
        time.sleep(0.5)
