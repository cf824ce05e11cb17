"""The device of this process, and collective operations among the processes of ``torchrun``."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from fvpipe.errors import TrainingError


@dataclass(frozen=True, slots=True)
class ExecutionDevice:
    """Device of this process, its rank, and the number of processes of ``torchrun``."""

    device: torch.device
    rank: int = 0
    world_size: int = 1


def find_device(device: str) -> ExecutionDevice:
    """Find the device of this process, and join the process group of ``torchrun`` where it has started one.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda"}
        ``auto`` takes a GPU where there is one.

    Raises
    ------
    TrainingError
        No such device, or fewer GPUs than processes.
    """
    world, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    kind = device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    if kind == "cuda" and not torch.cuda.is_available():
        raise TrainingError("no CUDA device is visible to torch here; use --device cpu, or install torch for your CUDA")
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if kind == "cuda":
        if local >= torch.cuda.device_count():
            raise TrainingError(
                f"process {local} has no GPU of its own: torch sees {torch.cuda.device_count()}; use --nproc-per-node "
                f"{torch.cuda.device_count()}, or --device cpu"
            )
        torch.cuda.set_device(local)
        torch.backends.cudnn.allow_tf32 = False  # full fp32; bf16 is the option for speed
    if world > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if kind == "cuda" else "gloo")
    return ExecutionDevice(torch.device(kind, local) if kind == "cuda" else torch.device(kind), rank, world)


def leave_process_group() -> None:
    """Leave the process group that :func:`find_device` joined."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def device_name(device: torch.device) -> str:
    """Name for records: the model of the GPU, or ``cpu``."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def set_deterministic(wanted: bool) -> None:
    """Let torch reject nondeterministic operations; or allow them, and let cuDNN choose its algorithms by timing."""
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(wanted)
    torch.backends.cudnn.benchmark = not wanted


def own_share(chunk: Tensor, execution: ExecutionDevice) -> tuple[Tensor, bool]:
    """Take this process's part of a batch; where it is empty, one image that does not count (False)."""
    own = chunk[execution.rank :: execution.world_size]
    return (own, True) if len(own) else (chunk[:1], False)


def wait_for_all(execution: ExecutionDevice) -> None:
    """Wait until every process has arrived here."""
    if execution.world_size > 1:
        dist.barrier()


def sum_over_processes(value: Tensor, execution: ExecutionDevice) -> Tensor:
    """Sum over all processes, in place."""
    if execution.world_size > 1:
        dist.all_reduce(value)
    return value


def decision_of_first(decision: bool, execution: ExecutionDevice) -> bool:
    """Take the decision of the first process, so that all stop together."""
    if execution.world_size == 1:
        return decision
    shared = [decision]
    dist.broadcast_object_list(shared)
    return shared[0]
