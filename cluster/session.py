"""A Ray session: started or joined with every choice stated, and always left clean.

Ray's own defaults depend on leftovers (a token file in the home directory switches authentication on), report usage,
and print what workers print. Each of these is set here, once, before Ray is imported.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ._errors import InputError

OBJECT_STORE_BYTES = 256 * 2**20  # tasks carry coefficients and per-item scores, never weights
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


def machine_cpus() -> int:
    """CPUs that this process may use: the affinity mask, cut down to the container's quota."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        with open("/sys/fs/cgroup/cpu.max") as file:
            quota, period = file.read().split()
    except (OSError, ValueError):
        return usable
    return usable if quota == "max" else max(1, min(usable, int(quota) // int(period)))


def driver_node() -> str:
    """The resource that only this node has: a part of it, asked for, keeps work here, beside the run's database.

    A SQLite file that processes of several machines write over a network loses rows.
    """
    import ray

    here = ray.get_runtime_context().get_node_id()
    (resources,) = (node["Resources"] for node in ray.nodes() if node["NodeID"] == here)
    return next(str(name) for name in resources if name.startswith("node:") and name != "node:__internal_head__")


@contextmanager
def session(address: str = "local", *, cpus: int | None = None) -> Iterator[None]:
    """Hold a Ray session open.

    Args:
        address: `local` starts a cluster of this machine alone and stops it at the end; `auto` joins the cluster that
            this machine belongs to and leaves it running.
        cpus: CPUs to offer when the cluster is started here; all usable ones by default.

    Raises:
        InputError: `auto`, and no cluster runs here.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if address == "local" and "ray" not in sys.modules:
        # Ray listens beyond loopback, and whoever reaches it runs code: a token of this session alone, so that
        # behaviour never depends on a leftover ~/.ray/auth_token. Ray reads the mode when it is imported; where a
        # notebook has done that before, its own choice stands, since driver and cluster must agree.
        mode = os.environ.setdefault("RAY_AUTH_MODE", "token")
        if mode == "token":
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    import ray

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
    if address == "local":
        ray.init(
            address="local",
            num_cpus=cpus or machine_cpus(),
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            **options,
        )
    else:
        try:
            ray.init(address=address, **options)
        except ConnectionError as error:
            raise InputError(
                f"cluster.address: {address}: no Ray cluster answers ({str(error).splitlines()[0]}); "
                "start one with `ray start --head`, or say `address: local`"
            ) from None
    try:
        yield
    finally:
        ray.shutdown()
