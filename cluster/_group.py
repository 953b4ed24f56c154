"""Ray Train's trainer, with as few processes around the workers as it can do with.

Each process that is not started is 2 s of the time to a training's first step, 1.5 s of CPU and 200 MB. All of this
rests on methods that Ray may rename; where one is, what it kept away is back, and nothing else changes.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

from ray.train.backend import Backend, BackendConfig
from ray.train.v2.api import data_parallel_trainer
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

# What a worker group tells the autoscaler by an actor of its own, besides the placement group that it waits for, which
# the autoscaler reads as well.
_REQUESTS = ("_send_resource_request", "_maybe_send_resource_request", "_cancel_resource_request")
# The manager of Ray Data sets: there are none. The cleaner of placement groups: it asks the dashboard, which a local
# session has not, and ``_leftovers`` does its work.
_IDLE = ("DatasetsCallback", "PlacementGroupCleanerCallback")


class Trainer(DataParallelTrainer):  # type: ignore[misc]  # Ray ships no types
    """Ray's trainer; its controller runs in the calling thread, and not in an actor that the caller waits for.

    A Tune trial is an actor already, and dies with its workers as a controller would.
    """

    def _create_default_callbacks(self) -> list[Any]:
        return [made for made in super()._create_default_callbacks() if type(made).__name__ not in _IDLE]

    def _initialize_and_run_controller(self, **parts: Any) -> Any:
        for name in _REQUESTS:
            setattr(parts["scaling_policy"], name, _nothing)
        controller = data_parallel_trainer.TrainController(**parts)
        asyncio.run(controller.run())
        return controller.get_result()


def _nothing() -> None:
    """In place of a request that nobody needs."""


class Rendezvous(BackendConfig):  # type: ignore[misc]  # Ray ships no types
    """Tells every worker who it is and where the first one listens, as torchrun does."""

    @property
    def backend_cls(self) -> type[_RendezvousBackend]:
        return _RendezvousBackend


class _RendezvousBackend(Backend):  # type: ignore[misc]  # Ray ships no types
    share_cuda_visible_devices = True  # LOCAL_RANK is the device's number, as under torchrun

    def on_start(self, worker_group: Any, backend_config: BackendConfig) -> None:
        address, port = worker_group.execute_single(0, _free_address)
        worker_group.execute(_set_rank, address=address, port=port)


def _free_address() -> tuple[str, int]:
    import ray

    with socket.socket() as probe:
        probe.bind(("", 0))
        return ray.util.get_node_ip_address(), int(probe.getsockname()[1])


def _set_rank(address: str, port: int) -> None:
    import ray.train

    context = ray.train.get_context()
    os.environ.update(
        RANK=str(context.get_world_rank()),
        LOCAL_RANK=str(context.get_local_rank()),
        NODE_RANK=str(context.get_node_rank()),
        WORLD_SIZE=str(context.get_world_size()),
        LOCAL_WORLD_SIZE=str(context.get_local_world_size()),
        MASTER_ADDR=address,
        MASTER_PORT=str(port),
    )
