"""Where a training runs: a CPU, a GPU, or one of the processes of ``torchrun``."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from fvpipe.errors import TrainingError


@dataclass(frozen=True, slots=True)
class Place:
    """Where a process computes: its device, and its rank among those of ``torchrun``."""

    device: torch.device
    rank: int = 0
    world: int = 1


def find_place(device: str) -> Place:
    """The device of this process: `device`, or a GPU where there is one; and its rank, under ``torchrun``.

    Raises
    ------
    TrainingError
        The device is not there.
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
        torch.backends.cudnn.allow_tf32 = False  # fp32 is what it says; who wants speed asks for bf16
    if world > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if kind == "cuda" else "gloo")
    return Place(torch.device(kind, local) if kind == "cuda" else torch.device(kind), rank, world)


def leave() -> None:
    """End what ``torchrun`` began."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def device_name(device: torch.device) -> str:
    """What kind of device, for records: the card's name, or ``cpu``."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def be_deterministic(wanted: bool) -> None:
    """Reject every operation that would make two runs differ; or allow them, and let cuDNN choose by trial."""
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(wanted)
    torch.backends.cudnn.benchmark = not wanted


def own_share(chunk: Tensor, place: Place) -> tuple[Tensor, bool]:
    """The part of a batch that is this process's; where none is left for it, one image that does not count."""
    own = chunk[place.rank :: place.world]
    return (own, True) if len(own) else (chunk[:1], False)


def wait_for_all(place: Place) -> None:
    """Go on when every process has come here."""
    if place.world > 1:
        dist.barrier()


def sum_over(value: Tensor, place: Place) -> Tensor:
    """Over all processes, in place."""
    if place.world > 1:
        dist.all_reduce(value)
    return value


def from_first(decision: bool, place: Place) -> bool:
    """The first process's decision, so that all end together."""
    if place.world == 1:
        return decision
    shared = [decision]
    dist.broadcast_object_list(shared)
    return shared[0]
