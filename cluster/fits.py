"""Whether the cluster can ever hold what is asked of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ._errors import InputError


def check_fits(bundles: Sequence[Mapping[str, float]], what: str) -> None:
    """Refuse what this cluster can never give: Ray itself would wait for ever, without a word.

    Args:
        bundles: each must fit on one node, and all of them together on the cluster.
        what: what needs them, for the message.

    Raises:
        InputError: naming the resource, the amount needed and the amount present.
    """
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    total: dict[str, float] = {}
    for bundle in bundles:
        for kind, amount in bundle.items():
            total[kind] = total.get(kind, 0.0) + amount
            most = max((node.get(kind, 0.0) for node in nodes), default=0.0)
            if amount > most + 1e-9:
                raise InputError(
                    f"{what} needs {amount:g} {kind} on one node and the largest node has {most:g}; "
                    "ask for less or add nodes"
                )
    for kind, needed in total.items():
        present = sum(node.get(kind, 0.0) for node in nodes)
        if needed > present + 1e-9:
            raise InputError(
                f"{what} needs {needed:g} {kind} and the cluster has {present:g}; ask for less or add nodes"
            )
