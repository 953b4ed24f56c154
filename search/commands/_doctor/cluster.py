"""Ray as a run would find it: authentication, usage statistics, a cluster that this machine belongs to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

TOKEN_FILE = Path("~/.ray/auth_token")


def lines() -> Iterator[str]:
    """The settings in force, never a token itself; then nodes and what is free, where there is a cluster."""
    from cluster.session import ENVIRONMENT

    mode = os.environ.get("RAY_AUTH_MODE", "not set (address: local takes token, with a token of its own)")
    token = "set" if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH") else "not set"
    statistics = os.environ.get("RAY_USAGE_STATS_ENABLED", ENVIRONMENT["RAY_USAGE_STATS_ENABLED"])
    yield f"ray: RAY_AUTH_MODE {mode}; token {token}; usage statistics {'off' if statistics == '0' else 'ON'}"
    address = _running()
    yield f"ray cluster here: {address or 'none'}"
    if address:
        yield from _nodes()


def warnings() -> Iterator[str]:
    """A token file that only some commands would use."""
    if TOKEN_FILE.expanduser().exists() and "RAY_AUTH_MODE" not in os.environ:
        yield "~/.ray/auth_token exists: `ray start` would ask for it; set RAY_AUTH_MODE to disabled or token"


def _running() -> str:
    """Address of the cluster that `address: auto` would join; "" where there is none."""
    if given := os.environ.get("RAY_ADDRESS"):
        return given
    from ray._private.services import find_gcs_addresses

    found = sorted(find_gcs_addresses())
    return ", ".join(found)


def _nodes() -> Iterator[str]:
    """Joined for a moment, in a process of its own: this one keeps no session."""
    import json
    import subprocess
    import sys

    code = (
        "import json, ray; from cluster.session import session\n"
        "with session('auto'):\n"
        "    free = ray.available_resources()\n"
        "    print(json.dumps([[n['NodeManagerAddress'], n['Alive'], n['Resources']] for n in ray.nodes()]))\n"
        "    print(json.dumps({k: free.get(k, 0) for k in ('CPU', 'GPU')}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        yield f"it cannot be joined: {(done.stderr.strip().splitlines() or ['no reason given'])[-1][:300]}"
        return
    nodes, free = (json.loads(line) for line in done.stdout.strip().splitlines()[-2:])
    for address, alive, has in nodes:
        amounts = ", ".join(f"{has[kind]:g} {kind}" for kind in ("CPU", "GPU") if kind in has)
        yield f"node {address}: {(amounts or 'no CPU') if alive else 'dead'}"
    yield f"free now: {free['CPU']:g} CPU, {free['GPU']:g} GPU"
