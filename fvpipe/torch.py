"""Shards as a PyTorch data set, for :mod:`fvpipe.training` and for training code of other projects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fvpipe.errors import DependencyError, ParameterError
from fvpipe.io.folding import folded
from fvpipe.shards.reader import Shards
from fvpipe.types import LABEL_NAMES

try:
    import torch
    from torch.utils.data import Dataset
except ImportError as error:
    raise DependencyError(f"PyTorch cannot be imported ({error}): pip install 'fvpipe[train]'") from error


class ShardDataset(Dataset[tuple[torch.Tensor, Any]]):
    """Images and labels, or another target, of one shard folder, or of several of one pipeline, one after the other.

    Parameters
    ----------
    shards : Shards or sequence of Shards
        From :func:`fvpipe.open_shards`.
    indices : sequence of int or bool, or None
        Which samples, in which order, or for each sample whether it is wanted; counted over all folders. None: all that are
        labelled, since a label of -1 is not a class.
    transform : callable or None
        Applied to each image tensor by indexing; :meth:`images` does not apply it.
    target : str
        ``label``, or a fact that the pipeline of each folder names in `targets`. With `indices` None, all samples of which it
        is known are taken.

    Attributes
    ----------
    indices : int64 array, shape (n,)
        Chosen samples.
    labels : int64 or float32 array, shape (n,)
        Label: 1 malignant, 0 benign, -1 unlabelled. Class: its number in `classes`, -1 not known. Number: float32, NaN not
        known.
    classes : tuple of str
        Names of the classes of all folders, those of the first one first; empty for a number.

    Raises
    ------
    ParameterError
        There is no folder, they are not from :func:`fvpipe.open_shards` or of different pipelines, one has no such target, or
        they mean different things by it.

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
        target: str = "label",
    ) -> None:
        self.folders = (shards,) if isinstance(shards, Shards) else tuple(shards)
        _check_folders(self.folders)
        self.transform = transform
        self._starts = np.cumsum([0, *map(len, self.folders)])
        self.classes, labels = _values(self.folders, target)
        # By numpy's own rules for a list, so that a mask is a mask and a number without a sample is an error here.
        known = ~np.isnan(labels) if labels.dtype == np.float32 else labels >= 0
        chosen = known if indices is None else indices
        self.indices: NDArray[np.int64] = np.arange(len(labels))[_positions(chosen)]
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
        indices : int array of shape (n,), or bool array with a value for each position
            Positions in this data set.

        Returns
        -------
        float32 tensor, shape (n, C, H, W)
            In [0, 1]. The checksum of an image is compared when it is read for the first time.

        Raises
        ------
        IndexError
            An index is out of range or no integer.
        """
        chosen = self.indices[_positions(indices)]
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

    def __getitem__(self, index: int) -> tuple[torch.Tensor, Any]:
        if np.ndim(index) or np.asarray(index).dtype.kind not in "iu":
            raise TypeError(f"expected one integer, got {index!r}; for several samples use images(indices) and labels[indices]")
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[torch.Tensor, Any]]:
        """Read several samples in one gather: images (C, H, W), and labels: ints, or float32 tensors of a number."""
        chosen = self.labels[_positions(indices)]
        labels = chosen.tolist() if chosen.dtype == np.int64 else torch.from_numpy(chosen)  # a float would become float64
        images = self.images(indices)
        return [(self.transform(i) if self.transform else i, label) for i, label in zip(images, labels, strict=True)]


def _positions(indices: ArrayLike) -> NDArray[Any]:
    """Return indices that numpy takes by its own rules: a mask stays a mask, and a fraction is an IndexError there."""
    positions = np.asarray(indices).reshape(-1)
    return positions if positions.size else positions.astype(np.int64)


def _check_folders(folders: Sequence[object]) -> None:
    opened = [each for each in folders if isinstance(each, Shards)]
    if not opened or len(opened) < len(folders):
        got = next((type(each).__name__ for each in folders if not isinstance(each, Shards)), "none")
        raise ParameterError(f"expected shard folders that fvpipe.open_shards opened, got {got}")
    first, *rest = (each.receipt for each in opened)
    made = first.pipeline_digest, first.preprocessing_version
    for each, other in zip(opened[1:], rest, strict=True):
        if (other.pipeline_digest, other.preprocessing_version) != made:
            raise ParameterError(
                f"{opened[0].folder} and {each.folder}: built by different pipelines or preprocessing versions "
                f"({first.pipeline} {made[0][:12]}, version {made[1]}; {other.pipeline} {other.pipeline_digest[:12]}, version "
                f"{other.preprocessing_version}), by which a model could tell them apart; build both alike, or join two data "
                "sets by torch.utils.data.ConcatDataset"
            )


def _values(folders: Sequence[Shards], target: str) -> tuple[tuple[str, ...], NDArray[Any]]:
    """Classes of a target, and its values in all folders: int64 codes, or float32 where there are no classes."""
    if target == "label":
        return (LABEL_NAMES[0], LABEL_NAMES[1]), np.concatenate([folder.labels for folder in folders]).astype(np.int64)
    for folder in folders:
        if target not in folder.targets:
            known = ", ".join(["label", *folder.targets])
            todo = "Name it in `targets` of the pipeline and build again"
            raise ParameterError(f"{folder.folder}: has no target {target!r}; known: {known}. {todo}")
    forms = [folder.targets[target] for folder in folders]
    if len({(form.kind, form.unit) for form in forms}) > 1:
        kinds = " and ".join(sorted({f"{form.kind} {form.unit}".strip() for form in forms}))
        raise ParameterError(f"target {target!r}: the folders mean different things by it: {kinds}")
    values = [folder.columns[form.path] for folder, form in zip(folders, forms, strict=True)]
    if forms[0].kind == "number":
        return (), np.concatenate(values)
    classes = tuple(dict.fromkeys(name for form in forms for name in form.classes))
    spelled: dict[str, str] = {}
    for name in classes:
        if (other := spelled.setdefault(folded(name), name)) != name:
            raise ParameterError(
                f"target {target!r}: the folders write a class as {other!r} and {name!r}, which would be two; expected one "
                "spelling: give its column `values` in one adapter's declaration, and build again"
            )
    codes = [np.array([*map(classes.index, form.classes), -1], np.int64) for form in forms]  # the last is that of -1
    return classes, np.concatenate([code[value] for code, value in zip(codes, values, strict=True)])
