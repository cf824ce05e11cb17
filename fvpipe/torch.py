"""Shards as a torch data set, for training code anywhere. With :mod:`fvpipe.training`, the only import of torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fvpipe.errors import DependencyError
from fvpipe.shards.reader import Shards

try:
    import torch
    from torch.utils.data import Dataset
except ImportError as error:
    raise DependencyError(f"PyTorch cannot be imported ({error}): pip install 'fvpipe[train]'") from error


class ShardDataset(Dataset[tuple[torch.Tensor, int]]):
    """Images and labels of a shard folder.

    Parameters
    ----------
    shards : Shards
        From :func:`fvpipe.open_shards`.
    indices : sequence of int or None
        Which samples, in which order, or of each sample whether it is wanted; None: all that are labelled, since a label
        of -1 is no class.
    transform : callable or None
        Applied to each image tensor.

    Notes
    -----
    A ``DataLoader`` fetches whole batches in one gather (``__getitems__``). Worker processes are seldom worth it: handing
    over an image costs more than reading it.

    Examples
    --------
    >>> data = fvpipe.torch.ShardDataset(fvpipe.open_shards("cache/shards/cropped/cbis"))  # doctest: +SKIP
    >>> image, label = data[0]  # doctest: +SKIP
    >>> image.shape  # doctest: +SKIP
    torch.Size([1, 256, 256])
    """

    def __init__(
        self,
        shards: Shards,
        indices: Sequence[int] | None = None,
        transform: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        self.shards = shards
        # By numpy's own rules for a list, so that a mask is a mask and a number without a sample is an error here.
        self.indices = np.flatnonzero(shards.labels >= 0) if indices is None else np.arange(len(shards))[list(indices)]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[torch.Tensor, int]]:
        """Several samples in one gather: float32 images (C, H, W) in [0, 1], int labels."""
        chosen = self.indices[np.asarray(indices, np.int64)]
        images: Any = torch.from_numpy(self.shards.images(chosen))
        if images.ndim == 3:
            images = images.unsqueeze(1)
        labels = self.shards.labels[chosen].tolist()
        return [(self.transform(i) if self.transform else i, label) for i, label in zip(images, labels, strict=True)]
