"""Reader of shards.

The dataset ``image`` is contiguous and uncompressed, so it is memory-mapped at its offset in the file and a batch is
gathered in one pass. All data is checked before it is returned: everything but the images when the folder is opened,
before HDF5 parses it (a flipped bit in the HDF5 structure can crash the library), and the CRC-32 of each image when it
is first read.
"""

from __future__ import annotations

import mmap
import os
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fvpipe.errors import ChecksumError, MissingShardError, ShardError, SwappedShardError, TruncatedShardError
from fvpipe.reasons import Flag
from fvpipe.regular_files import open_regular
from fvpipe.shards.coordinates import WARP_COLUMNS, Coordinates, coordinates
from fvpipe.shards.format import Receipt, ShardEntry, read_receipt, sha256_outside_images
from fvpipe.shards.mapping import map_images
from fvpipe.shards.schema import check_alike, empty_columns, opened, read_columns
from fvpipe.types import SCALES, VIEWS, Laterality, View

COMMIT_ATTEMPTS, COMMIT_SECONDS = 20, 0.1  # wait so often and so long for a build that is just replacing the receipt


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One breast of a shard folder. Arrays of two rows are in the order CC, MLO.

    Attributes
    ----------
    image : float32 array, shape (H, W) or (C, H, W)
        Fused image in [0, 1].
    label : int
        1 malignant, 0 benign, -1 unlabelled.
    breast_id, patient_id : str
        Pseudonyms of the data set, or keyed digests.
    laterality : Laterality
        Side of the breast.
    crop_box : int32 array, shape (2, 4)
        Top, bottom, left, right of each crop in source pixels.
    source_shape : int32 array, shape (2, 2)
        Rows and columns of each source image.
    placement : float32 array, shape (2, 4)
        Top, bottom, left, right of each crop in pixels of `image`; left > right if mirrored; -1 for a view that is not
        in the image.
    intensity_range : float32 array, shape (2,), or (2, 2) if each view was normalized by itself
        Values that became 0 and 1.
    flags : Flag
        Flags of the sample.
    warps : tuple of arrays
        Equal-area warps of its views, for :meth:`coordinates`; empty if the pipeline warps none.
    targets : mapping of str to str, float or None
        Further facts that the pipeline names in `targets`: the name of a class, a number, or None where it is not known.
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
    warps: tuple[NDArray[np.float64], ...] = ()
    targets: Mapping[str, str | float | None] = field(default_factory=dict)

    def to_image(self, view: View, row: float, column: float) -> tuple[float, float]:
        """Map a point of a source image to `image`.

        Parameters
        ----------
        view : View
            View of the source image.
        row, column : float
            Point in source pixels; 0 is the outer edge of pixel 0.

        Returns
        -------
        row, column : float
            Point in pixels of `image`, counted in the same way.

        Raises
        ------
        ValueError
            If the view is not in the image.
        """
        return self.coordinates(view).to_image(row, column)

    def to_source(self, view: View, row: float, column: float) -> tuple[float, float]:
        """Map a point of `image` to a source image, the inverse of :meth:`to_image`."""
        return self.coordinates(view).to_source(row, column)

    def coordinates(self, view: View) -> Coordinates:
        """Map between the source image of `view` and `image`, for points, arrays of points, and boxes.

        Raises
        ------
        ValueError
            If the view is not in the image.
        """
        i = VIEWS.index(view)
        if self.placement[i][0] < 0:
            raise ValueError(f"{view} is not in this image; its pipeline keeps the other view alone")
        return coordinates(self.crop_box, self.placement, self.warps, i)


class Shards(Sequence[Sample]):
    """Shard folder open for reading, a sequence of :class:`Sample`. Opened by :func:`open_shards`.

    It keeps read-only memory maps of the committed files and no file handles. It may be shared by threads, inherited by
    forked processes and pickled to spawned ones. A build that runs meanwhile does not change its contents.

    Attributes
    ----------
    folder : Path
        Absolute path of the folder.
    receipt : Receipt
        Contents of ``index.json``.
    labels : int8 array, shape (N,)
        1 malignant, 0 benign, -1 unlabelled.
    breast_ids, patient_ids, lateralities : str array, shape (N,)
        Identifiers, and ``L`` or ``R``.
    flags : uint32 array, shape (N,)
        Bits of :class:`fvpipe.reasons.Flag`.
    columns : dict of str to array, first dimension N
        All datasets but ``image``, as stored; those of targets are ``targets/<name>``.
    targets : dict of str to TargetForm
        Meaning and coding of each target, by name.
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
        self.targets = {form.name: form for form in receipt.targets}
        self._images = images
        self._starts = np.cumsum([0, *(len(image) for image in images)])
        self._checked = np.zeros(len(self.labels), bool)
        self._scale = np.float32(SCALES[images[0].dtype.name]) if images else np.float32(1)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of an image: (H, W) or (C, H, W); empty if there are no samples."""
        return self._images[0].shape[1:] if self._images else ()

    def __getitem__(self, index: Any) -> Any:
        """Sample at an integer index; negative ones count from the end."""
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
            warps=tuple(rows[name] for name in WARP_COLUMNS if name in rows),
            targets={name: form.decode(rows[form.path]) for name, form in self.targets.items()},
        )

    def __iter__(self) -> Iterator[Sample]:
        return (self[i] for i in range(len(self)))

    def images(self, indices: ArrayLike | slice = slice(None)) -> NDArray[np.float32]:
        """Read several images at once.

        Parameters
        ----------
        indices : int array, bool array of shape (N,), or slice
            Samples to read, all by default. Negative indices count from the end.

        Returns
        -------
        images : float32 array, shape (n, H, W) or (n, C, H, W)
            Images in [0, 1], in the order of `indices`.

        Raises
        ------
        ChecksumError
            If the bytes of an image are not those that were written.
        IndexError
            If an index is out of range or not an integer.
        """
        if not isinstance(indices, slice):
            indices = np.asarray(indices)
            indices = indices if indices.size else indices.astype(np.int64)
        wanted = np.arange(len(self))[indices].reshape(-1)
        out = np.empty((len(wanted), *self.image_shape), np.float32)
        shard_of = np.searchsorted(self._starts, wanted, side="right") - 1
        for shard in np.unique(shard_of):
            of_shard = np.flatnonzero(shard_of == shard)
            stored = self._images[shard][wanted[of_shard] - self._starts[shard]]
            self._check(wanted[of_shard], stored, int(shard))
            out[of_shard] = stored * self._scale
        return out

    def _check(self, samples: NDArray[np.int64], stored: NDArray[Any], shard: int) -> None:
        """Compare the CRC-32 of each image that is read for the first time, computed on the bytes to be returned."""
        for i in np.flatnonzero(~self._checked[samples]):
            sample = int(samples[i])
            if zlib.crc32(np.ascontiguousarray(stored[i]).data) != int(self.columns["image_crc32"][sample]):
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
        Shard folder, for example ``cache/shards/cropped/cmmd``.

    Returns
    -------
    shards : Shards
        Sequence of :class:`Sample`.

    Raises
    ------
    ReceiptError
        If the receipt is missing or invalid.
    MissingShardError, TruncatedShardError, SwappedShardError, ChecksumError
        If a shard does not match the receipt. All are a ShardError.

    Examples
    --------
    >>> shards = fvpipe.open_shards("cache/shards/cropped/cbis")  # doctest: +SKIP
    >>> shards[0].image.shape  # doctest: +SKIP
    (256, 256)
    """
    path = Path(os.path.abspath(folder))
    receipt = read_receipt(path)
    for _ in range(COMMIT_ATTEMPTS):
        try:
            return _open_shards(path, receipt)
        except ShardError:
            # A build that is just committing replaces its receipt last. If the receipt does not change, the folder is damaged.
            time.sleep(COMMIT_SECONDS)
            newer = read_receipt(path)
            if newer == receipt:
                raise
            receipt = newer
    return _open_shards(path, receipt)


def _reopen(folder: Path, receipt: Receipt) -> Shards:
    shards = open_shards(folder)
    if shards.receipt != receipt:
        raise ShardError(f"{folder}: was built again since it was opened; open it again in the main process too")
    return shards


def _open_shards(folder: Path, receipt: Receipt) -> Shards:
    images: list[NDArray[Any]] = []
    parts: list[dict[str, NDArray[Any]]] = []
    forms: set[object] = set()
    for entry in receipt.shards:
        image, columns = open_shard(folder / entry.file, entry, receipt)
        check_alike(folder / entry.file, forms, image, columns)
        images.append(image)
        parts.append(columns)
    parts = parts or [empty_columns(receipt.targets)]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Shards(folder, receipt, images, columns)


def open_shard(path: Path, entry: ShardEntry, receipt: Receipt) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
    """Open one shard and check everything but its images against the receipt.

    Parameters
    ----------
    path : Path
        Shard file.
    entry : ShardEntry
        Its entry in the receipt.
    receipt : Receipt
        Receipt of the folder, to recognize a file that belongs to another shard or data set.

    Returns
    -------
    images : memory map, shape (n, H, W) or (n, C, H, W)
        Stored images, not yet checked.
    columns : dict of str to array, first dimension n
        All other datasets.

    Raises
    ------
    ShardError
        If the shard is missing, truncated, swapped or damaged.
    """
    try:
        with open_regular(path) as raw:
            size = os.fstat(raw.fileno()).st_size
            if size != entry.bytes or sha256_outside_images(raw, entry.image_offset, entry.image_bytes) != entry.rest:
                raise _diagnose(path, raw, size, entry, receipt)
            with opened(path) as file:
                shape, dtype, columns = read_columns(file, path, entry, receipt.targets)
            if not os.path.samestat(os.stat(path), os.fstat(raw.fileno())):
                raise SwappedShardError(f"{path}: replaced while it was opened; open the folder again")
            return map_images(raw, entry.image_offset, shape, dtype), columns
    except FileNotFoundError:
        raise MissingShardError(f"{path}: the receipt lists this shard and it is not there; build the shards again") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ChecksumError(f"{path}: cannot be read ({reason}); build or download the shards again") from None


def _diagnose(path: Path, file: BinaryIO, size: int, entry: ShardEntry, receipt: Receipt) -> ShardError:
    """Find out how a shard differs from the receipt, without HDF5 because the file cannot be trusted."""
    for other in receipt.shards:
        if size == other.bytes and sha256_outside_images(file, other.image_offset, other.image_bytes) == other.rest:
            return SwappedShardError(f"{path}: holds what the receipt lists as {other.file}; build the shards again")
    if size:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            whole = data[:4] == b"\x89HDF" and data.find(b"pipeline_yaml") >= 0
            if whole and any(data.find(identity.encode()) < 0 for identity in (receipt.dataset, receipt.pipeline_digest)):
                return SwappedShardError(f"{path}: belongs to another data set or pipeline; build the shards again")
    if size != entry.bytes:
        return TruncatedShardError(f"{path}: {size} bytes, the receipt lists {entry.bytes}; build the shards again")
    return ChecksumError(f"{path}: labels or other columns differ from what was written; build the shards again")
