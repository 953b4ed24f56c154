"""A Ray session: started or joined with every choice stated, and always left clean.

Ray's own defaults depend on leftovers (a token file in the home directory switches authentication on), report usage,
and print what workers print. Each of these is set here, once, before Ray is imported.
"""

from __future__ import annotations

import os
import secrets
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ._errors import InputError

OBJECT_STORE_BYTES = 256 * 2**20  # tasks carry coefficients and per-item scores, never weights
_REACH_S = 20.0
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


def _reach(address: str) -> None:
    """Look whether anybody listens at HOST:PORT: Ray itself would try for minutes, with a page of messages.

    Raises:
        InputError: nobody does.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH_S).close()
    except OSError as error:
        said = f"nobody answers there ({error.strerror or error}); name the head of a running cluster, or say auto"
        raise InputError(f"cluster.address: {address}: {said}") from None


def _refusal(error: Exception) -> str:
    """Why a cluster was not joined, and the remedy; Ray says some of it in several lines."""
    text = " ".join(str(error).split())
    if "oken" in text or "nauthenticated" in text or "UNAUTHENTICATED" in text:
        mode = os.environ.get("RAY_AUTH_MODE", "not set")
        return (
            f"the cluster refuses this process (RAY_AUTH_MODE is {mode}); set RAY_AUTH_MODE=token and "
            "RAY_AUTH_TOKEN to the cluster's, or RAY_AUTH_MODE=disabled if it has none"
        )
    if "ersion" in text:
        return f"{text[:300]}; use the cluster's versions of Ray and Python"
    where = "run on a node of the cluster (`ray start --address=...` makes this machine one)"
    return f"no Ray cluster answers here ({text[:160]}); start one with `ray start --head`, {where}, or say local"


def take_token() -> None:
    """Let a cluster that this process starts ask for a token that only its children know.

    Ray listens beyond loopback, and whoever reaches it runs code: a token of this process alone, so that behaviour
    never depends on a leftover ~/.ray/auth_token. Ray reads the mode when it is imported; where a notebook has done
    that before, its own choice stands, since driver and cluster must agree.
    """
    if "ray" not in sys.modules and os.environ.setdefault("RAY_AUTH_MODE", "token") == "token":
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


@contextmanager
def session(address: str = "local", *, cpus: int | None = None) -> Iterator[None]:
    """Hold a Ray session open.

    Args:
        address: `local` starts a cluster of this machine alone and stops it at the end; `auto` joins the cluster that
            this machine is a node of and leaves it running; HOST:PORT does so with the one of several whose head
            listens there. Authentication is the cluster's: RAY_AUTH_MODE and RAY_AUTH_TOKEN must be what it has.
        cpus: CPUs to offer when the cluster is started here; all usable ones by default.

    Raises:
        InputError: no such cluster runs here, it asks for another token, or its Ray or Python is of another version.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if address == "local":
        take_token()
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
        _reach(os.environ.get("RAY_ADDRESS", "") if address == "auto" else address)
        try:
            ray.init(address=address, **options)
        except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
            raise InputError(f"cluster.address: {address}: {_refusal(error)}") from None
    try:
        yield
    finally:
        ray.shutdown()
