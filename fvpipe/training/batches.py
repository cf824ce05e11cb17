"""Batches of images on a device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fvpipe.torch import ShardDataset

READ_IMAGES = 256  # read at once when all are kept on the device
DEVICE_MEMORY_SHARE = 0.5  # of the free memory; the rest is for the model
MAX_RESIDENT_BYTES = 2**30  # on a CPU: beyond it the memory maps of the shards are as fast as a copy


class DeviceLoader:
    """Images of a data set on a device: all of them where they fit, else each batch is read while the one before is computed.

    Parameters
    ----------
    dataset : ShardDataset
        All images.
    indices : int64 array, shape (n,)
        Positions in `dataset` of those to load.
    device : torch.device
        Where batches are wanted.
    memory_format : torch.memory_format
        Of the batches.
    resident : bool or None
        Keep all images on the device; None: where they fit.
    """

    def __init__(
        self,
        dataset: ShardDataset,
        indices: NDArray[np.int64],
        device: torch.device,
        memory_format: torch.memory_format = torch.contiguous_format,
        resident: bool | None = None,
    ) -> None:
        self.dataset, self.indices, self.device, self.memory_format = dataset, indices, device, memory_format
        self.labels = torch.from_numpy(dataset.labels[indices]).to(device)
        shape = (len(indices), *dataset.image_shape)
        self.images: Tensor | None = None
        if _fits(int(np.prod(shape)) * 4, device) if resident is None else resident:
            # In parts: neither the host nor the device ever holds a second copy of all.
            self.images = torch.empty(shape, device=device, memory_format=memory_format)
            for start in range(0, len(indices), READ_IMAGES):
                some = dataset.images(indices[start : start + READ_IMAGES])
                self.images[start : start + len(some)].copy_(some)

    def __len__(self) -> int:
        return len(self.indices)

    def _read(self, chosen: NDArray[np.int64]) -> Tensor:
        images = self.dataset.images(self.indices[chosen])
        return images.pin_memory() if self.device.type == "cuda" else images

    def batches(self, chunks: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images (n, C, H, W) and labels (n,) on the device, for each chunk of positions in `indices`."""
        moved = [chunk.to(self.device) for chunk in chunks]
        if self.images is not None:
            for chunk in moved:
                yield self.images[chunk].contiguous(memory_format=self.memory_format), self.labels[chunk]
            return
        with ThreadPoolExecutor(1) as reader:
            ahead = reader.submit(self._read, chunks[0].numpy()) if chunks else None
            for i, chunk in enumerate(moved):
                assert ahead is not None
                images = ahead.result()
                ahead = reader.submit(self._read, chunks[i + 1].numpy()) if i + 1 < len(chunks) else None
                on_device = images.to(self.device, non_blocking=True)
                yield on_device.contiguous(memory_format=self.memory_format), self.labels[chunk]


def _fits(size: int, device: torch.device) -> bool:
    if device.type == "cuda":
        return size < DEVICE_MEMORY_SHARE * torch.cuda.mem_get_info(device)[0]
    return size < MAX_RESIDENT_BYTES
