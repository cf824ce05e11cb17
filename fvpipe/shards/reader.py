"""Step 5: samples -> HDF5 shards, and back. Needs numpy and h5py alone, so that other projects can read without the rest.

A shard folder is ``shard-00000.h5``, ..., ``breasts.csv``, ``rejected.csv`` and, written last, ``index.json``: the receipt
and commit point. Datasets are contiguous and uncompressed, so that a reader maps the file at the image's offset and
gathers a batch in one pass. Every dataset has the same first dimension and none is a scalar.

What a reader is served was checked: everything but the images when the folder is opened, before HDF5 sees a byte of it
(a flipped bit in its structure can crash the library), and each image's CRC-32 the first time it is read.
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from fvpipe.errors import ChecksumError, MissingShardError, ReceiptError, ShardError, SwappedShardError, TruncatedShardError
from fvpipe.reasons import Flag
from fvpipe.shards.format import SCALES, Receipt, ShardEntry, read_receipt, rest_sha256, to_image, to_source
from fvpipe.types import VIEWS, Laterality, View

# --- reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One breast as a shard holds it.

    Attributes
    ----------
    image : float32, (H, W) or (C, H, W)
        [0, 1].
    label : int
        1 malignant, 0 benign, -1 unlabelled.
    crop_box, source_shape, placement, intensity_range : ndarray
        As in :class:`fvpipe.types.FusedSample`.
    """

    image: NDArray[np.float32]
    label: int
    breast_id: str
    patient_id: str
    laterality: Laterality
    crop_box: NDArray[np.int32]
    source_shape: NDArray[np.int32]
    placement: NDArray[np.float32]
    intensity_range: NDArray[np.float32]
    flags: Flag

    def to_image(self, view: View, row: float, column: float) -> tuple[float, float]:
        """Map a point of a source image into `image`. Both count edges, so that 0 is the outer edge of pixel 0.

        Raises
        ------
        ValueError
            The view is not in the image.
        """
        i = self._index(view)
        return to_image(self.crop_box[i], self.placement[i], row, column)

    def to_source(self, view: View, row: float, column: float) -> tuple[float, float]:
        """Map a point of `image` into a source image: the inverse of :meth:`to_image`."""
        i = self._index(view)
        return to_source(self.crop_box[i], self.placement[i], row, column)

    def _index(self, view: View) -> int:
        i = VIEWS.index(view)
        if self.placement[i][0] < 0:
            raise ValueError(f"{view} is not in this image; its pipeline keeps the other view alone")
        return i


class Shards(Sequence[Sample]):
    """A shard folder, open for reading. Made by :func:`open_shards`.

    No file handle is kept, only read-only memory maps of the committed files: it may be shared by threads, inherited by
    forked processes and sent to spawned ones, and a build that runs meanwhile does not change what it serves.

    Attributes
    ----------
    folder : Path
    receipt : Receipt
    labels : int8, (N,)
    breast_ids, patient_ids, lateralities : str, (N,)
    flags : uint32, (N,)
    columns : dict of str to ndarray
        Every dataset but the image.
    """

    def __init__(self, folder: Path, receipt: Receipt, images: list[NDArray[Any]], columns: dict[str, NDArray[Any]]) -> None:
        self.folder = folder
        self.receipt = receipt
        self.columns = columns
        self.labels: NDArray[np.int8] = columns["label"]
        self.breast_ids, self.patient_ids, self.lateralities = (
            np.char.decode(columns[name], "utf-8") for name in ("breast_id", "patient_id", "laterality")
        )
        self.flags: NDArray[np.uint32] = columns["flags"]
        self._images = images
        self._starts = np.cumsum([0, *(len(image) for image in images)])
        self._checked = np.zeros(len(self.labels), bool)
        self._scale = np.float32(SCALES[images[0].dtype.name]) if images else np.float32(1)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(H, W), or (C, H, W); empty where there is no sample."""
        return self._images[0].shape[1:] if self._images else ()

    def __getitem__(self, index: Any) -> Any:
        """The sample at an integer `index`."""
        if not isinstance(index, int | np.integer):
            raise TypeError(
                "shards are indexed by one integer; for several use shards.images(indices) and shards.labels[indices]"
            )
        i = range(len(self))[index]
        rows = {name: column[i] for name, column in self.columns.items()}
        return Sample(
            image=self.images([i])[0],
            label=int(rows["label"]),
            breast_id=str(self.breast_ids[i]),
            patient_id=str(self.patient_ids[i]),
            laterality=Laterality(str(self.lateralities[i])),
            **{name: rows[name] for name in ("crop_box", "source_shape", "placement", "intensity_range")},
            flags=Flag(int(rows["flags"])),
        )

    def __iter__(self) -> Iterator[Sample]:
        return (self[i] for i in range(len(self)))

    def images(self, indices: ArrayLike | slice = slice(None)) -> NDArray[np.float32]:
        """Several images, in one gather.

        Parameters
        ----------
        indices : array of int, array of bool, or slice
            All by default. Negative ones count from the end; an array of bool says of each sample whether it is wanted.

        Returns
        -------
        float32, (n, H, W) or (n, C, H, W)
            In the order of `indices`, each in [0, 1].

        Raises
        ------
        ChecksumError
            A sample's bytes are not those that were written.
        IndexError
        """
        if not isinstance(indices, slice):
            indices = np.asarray(indices)
            indices = indices if indices.size else indices.astype(np.int64)
        wanted = np.arange(len(self))[indices].reshape(-1)
        out = np.empty((len(wanted), *self.image_shape), np.float32)
        shard_of = np.searchsorted(self._starts, wanted, side="right") - 1
        for shard in np.unique(shard_of):
            places = np.flatnonzero(shard_of == shard)
            stored = self._images[shard][wanted[places] - self._starts[shard]]
            self._check(wanted[places], stored, int(shard))
            out[places] = stored * self._scale
        return out

    def _check(self, samples: NDArray[np.int64], stored: NDArray[Any], shard: int) -> None:
        """Compare the CRC-32 of each sample that is read for the first time, on the very bytes that are served."""
        for place in np.flatnonzero(~self._checked[samples]):
            sample = int(samples[place])
            if zlib.crc32(np.ascontiguousarray(stored[place]).data) != int(self.columns["image_crc32"][sample]):
                file = self.folder / self.receipt.shards[shard].file
                row = sample - int(self._starts[shard])
                raise ChecksumError(f"{file}: sample {row} ({self.breast_ids[sample]}) is damaged; build the shards again")
            self._checked[sample] = True

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.folder, self.receipt)

    def __repr__(self) -> str:
        r = self.receipt
        return f"<Shards {r.pipeline}/{r.dataset}: {len(self)} samples of {self.image_shape} in {len(r.shards)} files>"


def open_shards(folder: str | os.PathLike[str]) -> Shards:
    """Open a shard folder for reading.

    Parameters
    ----------
    folder : path
        For example ``cache/shards/cropped/cmmd``.

    Returns
    -------
    Shards
        A sequence of :class:`Sample`.

    Raises
    ------
    ShardError
        One of its kinds, naming the file: missing receipt, missing, truncated, swapped or damaged shard.

    Examples
    --------
    >>> shards = fvpipe.open_shards("cache/shards/cropped/cbis")  # doctest: +SKIP
    >>> shards[0].image.shape  # doctest: +SKIP
    (256, 256)
    """
    path = Path(os.path.abspath(folder))
    receipt = read_receipt(path)
    for _ in range(20):
        try:
            return _open(path, receipt)
        except ShardError:
            # A build may be just committing: its receipt comes last. Only a receipt that stays is a damaged folder.
            time.sleep(0.1)
            newer = read_receipt(path)
            if newer == receipt:
                raise
            receipt = newer
    return _open(path, receipt)


def _reopen(folder: Path, receipt: Receipt) -> Shards:
    shards = open_shards(folder)
    if shards.receipt != receipt:
        raise ShardError(f"{folder}: was built again since it was opened; open it again in the main process too")
    return shards


def _open(folder: Path, receipt: Receipt) -> Shards:
    images, parts = [], []
    for entry in receipt.shards:
        image, columns = open_shard(folder / entry.file, entry, receipt)
        images.append(image)
        parts.append(columns)
    names = parts[0].keys() if parts else _EMPTY.keys()
    columns = {name: np.concatenate([part[name] for part in parts]) if parts else _EMPTY[name] for name in names}
    return Shards(folder, receipt, images, columns)


_EMPTY: dict[str, NDArray[Any]] = {
    "label": np.zeros(0, np.int8),
    "breast_id": np.zeros(0, "S1"),
    "patient_id": np.zeros(0, "S1"),
    "laterality": np.zeros(0, "S1"),
    "flags": np.zeros(0, np.uint32),
    "image_crc32": np.zeros(0, np.uint32),
}


def open_shard(path: Path, entry: ShardEntry, receipt: Receipt) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
    """Map one shard's images and read its other columns, checked against the receipt."""
    try:
        with open(path, "rb") as raw:
            size = os.fstat(raw.fileno()).st_size
            if size != entry.bytes or rest_sha256(raw, entry.image_offset, entry.image_bytes) != entry.rest:
                raise _what_is_wrong(path, raw, size, entry, receipt)
            with h5py.File(path, "r") as file:
                image, columns = file["image"], {name: file[name][()] for name in file if name != "image"}
                shape, dtype = image.shape, image.dtype
            if len(columns["label"]) != entry.samples:
                raise ReceiptError(f"{path}: {len(columns['label'])} samples, the receipt lists {entry.samples}")
            if not os.path.samestat(os.stat(path), os.fstat(raw.fileno())):
                raise SwappedShardError(f"{path}: replaced while it was opened; open the folder again")
            return np.memmap(raw, dtype, "r", entry.image_offset, shape), columns
    except FileNotFoundError:
        raise MissingShardError(f"{path}: the receipt lists this shard and it is not there; build the shards again") from None
    except OSError as error:
        raise ChecksumError(f"{path}: cannot be read ({error.strerror or type(error).__name__})") from None


def _what_is_wrong(path: Path, file: BinaryIO, size: int, entry: ShardEntry, receipt: Receipt) -> ShardError:
    """Name the fault without HDF5: nothing in the file is to be trusted."""
    for other in receipt.shards:
        if size == other.bytes and rest_sha256(file, other.image_offset, other.image_bytes) == other.rest:
            return SwappedShardError(f"{path}: holds what the receipt lists as {other.file}; build the shards again")
    file.seek(0)
    data = file.read()
    whole = data.startswith(b"\x89HDF") and b"pipeline_yaml" in data
    if whole and not all(identity.encode() in data for identity in (receipt.dataset, receipt.pipeline_digest)):
        return SwappedShardError(f"{path}: belongs to another data set or pipeline; build the shards again")
    if size != entry.bytes:
        return TruncatedShardError(f"{path}: {size} bytes, the receipt lists {entry.bytes}; build the shards again")
    return ChecksumError(f"{path}: labels or other columns differ from what was written; build the shards again")
