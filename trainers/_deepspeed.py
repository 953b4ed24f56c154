"""DeepSpeed for one worker: the process group, and a clean exit.

Every choice here avoids a build at run time: DeepSpeed compiles C++ for its shared-memory collectives on CPU and
for its CPU optimizer, 60 to 390 s, and a process killed while it compiles leaves a lock that hangs all later ones.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def process_group() -> Iterator[tuple[int, int]]:
    """Join the workers that RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT name (as torchrun sets them).

    Without these variables the group has one member, this process. Yields (rank, number of workers). On leaving,
    the variables and the global state of accelerate and transformers are as before, so that one process can train
    several times. The group itself stays until the process ends: DeepSpeed keeps handles of it that nothing resets.
    """
    before = dict(os.environ)
    on_gpu = torch.cuda.is_available()
    if not on_gpu:
        # DeepSpeed reads it on import; without it a machine without GPU is probed for every accelerator it knows.
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
        # DeepSpeed's Muon file has three @torch.compile functions: importing the compiler for them takes 1 s.
        os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
        os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))  # or accelerate takes all cores
    if "RANK" not in os.environ:
        alone = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
        os.environ.update(alone, MASTER_ADDR="127.0.0.1", MASTER_PORT="0")  # asked for, and not used: see below
    if on_gpu:  # before the first collective, or all workers of a node would meet on its first device
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    import deepspeed
    import deepspeed.ops
    from deepspeed.ops.op_builder.cpu import ShareMemCommBuilder

    # Only inference_all_reduce uses this collective, and asking for it starts the compiler.
    deepspeed.ops.__compatible_ops__[ShareMemCommBuilder.NAME] = False
    if os.environ["WORLD_SIZE"] == "1" and not torch.distributed.is_initialized():
        # Nobody else has to find this process, so nothing has to listen on a port that another one may take first.
        store = torch.distributed.HashStore()  # type: ignore[attr-defined]  # public, but not in __all__
        torch.distributed.init_process_group("nccl" if on_gpu else "gloo", store=store, rank=0, world_size=1)
    # Before any configuration or model: ZeRO-3 reads the number of workers when the model is built.
    deepspeed.init_distributed(dist_backend="nccl" if on_gpu else "gloo", auto_mpi_discovery=False, verbose=False)
    try:
        yield torch.distributed.get_rank(), torch.distributed.get_world_size()
    finally:
        forget()
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)


def sum_over_workers(values: torch.Tensor) -> torch.Tensor:
    """Sum of `values` over all workers, on every worker; also a barrier."""
    return _reduced(values, torch.distributed.ReduceOp.SUM)


def max_over_workers(value: float) -> float:
    """Largest `value` of all workers, on every worker."""
    return float(_reduced(torch.tensor(value, dtype=torch.float64), torch.distributed.ReduceOp.MAX))


def barrier() -> None:
    """Wait for all workers."""
    sum_over_workers(torch.zeros(1))


def _reduced(values: torch.Tensor, operation: Any) -> torch.Tensor:
    device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
    total = values.detach().clone().to(device)
    torch.distributed.all_reduce(total, operation)
    return total.cpu()


def forget() -> None:
    """Let go of what accelerate and transformers keep of a training, so that this process can start another one."""
    from accelerate.state import AcceleratorState
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    unset_hf_deepspeed_config()
    AcceleratorState._reset_state(True)
