"""Shards as a PyTorch data set, for :mod:`fvpipe.training` and for training code of other projects."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fvpipe.errors import DependencyError
from fvpipe.shards.reader import Shards

try:
    import torch
    from torch.utils.data import Dataset
except ImportError as error:
    raise DependencyError(f"PyTorch cannot be imported ({error}): pip install 'fvpipe[train]'") from error


class ShardDataset(Dataset[tuple[torch.Tensor, int]]):
    """Images and labels of one shard folder, or of several of the same image shape, one after the other.

    Parameters
    ----------
    shards : Shards or sequence of Shards
        From :func:`fvpipe.open_shards`.
    indices : sequence of int or bool, or None
        Which samples, in which order, or for each sample whether it is wanted; counted over all folders. None: all that are
        labelled, since a label of -1 is no class.
    transform : callable or None
        Applied to each image tensor by indexing; :meth:`images` does not apply it.

    Attributes
    ----------
    indices : int64 array, shape (n,)
        Chosen samples.
    labels : int64 array, shape (n,)
        1 malignant, 0 benign, -1 unlabelled.

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
        shards: Shards | Sequence[Shards],
        indices: ArrayLike | None = None,
        transform: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        self.folders = (shards,) if isinstance(shards, Shards) else tuple(shards)
        self.transform = transform
        self._starts = np.cumsum([0, *map(len, self.folders)])
        labels = np.concatenate([folder.labels for folder in self.folders]).astype(np.int64)
        # By numpy's own rules for a list, so that a mask is a mask and a number without a sample is an error here.
        chosen = labels >= 0 if indices is None else np.asarray(indices)
        self.indices: NDArray[np.int64] = np.arange(len(labels))[chosen if chosen.size else chosen.astype(np.int64)]
        self.labels = labels[self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of an image."""
        *channels, rows, columns = next(folder.image_shape for folder in self.folders if len(folder))
        return channels[0] if channels else 1, rows, columns

    def images(self, indices: ArrayLike) -> torch.Tensor:
        """Read several images, in one gather a shard.

        Parameters
        ----------
        indices : int array, shape (n,)
            Positions in this data set.

        Returns
        -------
        float32 tensor, shape (n, C, H, W)
            In [0, 1]. The checksum of an image is compared when it is read for the first time.
        """
        chosen = self.indices[np.asarray(indices, np.int64)]
        folder_of = np.searchsorted(self._starts, chosen, side="right") - 1
        present = np.unique(folder_of)
        if len(present) == 1:
            images = self.folders[present[0]].images(chosen - self._starts[present[0]])
            return torch.from_numpy(images.reshape(len(chosen), *self.image_shape))
        out = np.empty((len(chosen), *self.image_shape), np.float32)
        for i in present:
            here = folder_of == i
            out[here] = self.folders[i].images(chosen[here] - self._starts[i]).reshape(-1, *self.image_shape)
        return torch.from_numpy(out)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[torch.Tensor, int]]:
        """Read several samples in one gather: images (C, H, W), and labels."""
        labels = self.labels[np.asarray(indices, np.int64)].tolist()
        images = self.images(indices)
        return [(self.transform(i) if self.transform else i, label) for i, label in zip(images, labels, strict=True)]
