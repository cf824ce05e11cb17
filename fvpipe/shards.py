"""Step 5: samples -> HDF5 shards, and back. Needs numpy and h5py alone, so that other projects can read without the rest.

A shard folder is ``shard-00000.h5``, ..., ``breasts.csv``, ``rejected.csv`` and, written last, ``index.json``: the receipt
and commit point. Datasets are contiguous and uncompressed, so that a reader maps the file at the image's offset and
gathers a batch in one pass. Every dataset has the same first dimension and none is a scalar.

What a reader is served was checked: everything but the images when the folder is opened, before HDF5 sees a byte of it
(a flipped bit in its structure can crash the library), and each image's CRC-32 the first time it is read.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from fvpipe.errors import (
    ChecksumError,
    MissingShardError,
    ReceiptError,
    ShardError,
    StorageError,
    SwappedShardError,
    TruncatedShardError,
)
from fvpipe.reasons import NO_FLAG, Flag
from fvpipe.types import VIEWS, FusedSample, Laterality, View
from fvpipe.versions import SCHEMA_VERSION

RECEIPT = "index.json"
SCALES = {"uint16": 1 / 65535, "uint8": 1 / 255, "float32": 1.0}
"""Stored value x scale lies in [0, 1], by dtype."""


def shard_name(index: int) -> str:
    """The file name of shard `index`."""
    return f"shard-{index:05d}.h5"


def shard_index(patient_id: str, shard_count: int) -> int:
    """The shard of a patient: by a digest of the id, so that a new patient moves nobody."""
    digest = hashlib.blake2b(patient_id.encode("utf-8", "surrogatepass"), digest_size=8, person=b"fvpipe-shard").digest()
    return int.from_bytes(digest, "little") % shard_count


# --- the receipt ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """One shard as it was committed.

    Attributes
    ----------
    file : str
    index, samples, bytes : int
    sha256 : str
        Of the whole file.
    image_offset, image_bytes : int
        Where the images lie in the file.
    rest : str
        SHA-256 of every other byte: columns, the images' CRC-32s among them, attributes, structure.
    content : str
        Digest of what the shard was made from: sample keys, labels, identifiers. Equal content is not written again.
    flags : dict of str to int
        How many samples carry each flag.
    """

    file: str
    index: int
    samples: int
    bytes: int
    sha256: str
    image_offset: int
    image_bytes: int
    rest: str
    content: str
    flags: dict[str, int]


@dataclass(frozen=True, slots=True)
class Receipt:
    """``index.json``."""

    schema_version: int
    preprocessing_version: int
    dataset: str
    made: bool
    license: str
    pipeline: str
    pipeline_digest: str
    pipeline_yaml: str
    shard_count: int
    samples: int
    labels: dict[str, int]
    rejections: dict[str, int]
    flags: dict[str, int]
    tables: dict[str, str]
    shards: tuple[ShardEntry, ...]

    def to_json(self) -> str:
        """Stable, readable text."""
        return json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"


def read_receipt(folder: str | os.PathLike[str]) -> Receipt:
    """Read and check ``index.json``.

    Raises
    ------
    ReceiptError
        It is missing, not JSON, of an unknown schema version, incomplete or contradicts itself.
    """
    path = Path(folder) / RECEIPT
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        state = "its build was interrupted, or it is no shard folder" if path.parent.is_dir() else "the folder does not exist"
        raise ReceiptError(f"{path}: not found; {state}. Build it with `fvpipe build-shards`") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ReceiptError(f"{path}: not readable as JSON ({type(error).__name__}); build the shards again") from None
    if not isinstance(data, dict) or data.get("schema_version") != SCHEMA_VERSION:
        found = data.get("schema_version") if isinstance(data, dict) else type(data).__name__
        raise ReceiptError(f"{path}: schema version is {found!r}; this fvpipe reads {SCHEMA_VERSION}. Build the shards again")
    try:
        receipt = Receipt(**{**data, "shards": tuple(ShardEntry(**entry) for entry in data["shards"])})
        if not (_typed(receipt) and all(map(_typed, receipt.shards))):
            raise TypeError
        sound = (
            receipt.samples == sum(entry.samples for entry in receipt.shards) == sum(receipt.labels.values())
            and [e.file for e in receipt.shards] == [shard_name(e.index) for e in receipt.shards]
            and [e.index for e in receipt.shards] == sorted({e.index for e in receipt.shards})
        )
    except (TypeError, KeyError, AttributeError):
        raise ReceiptError(f"{path}: keys are missing, unknown or of the wrong type; build the shards again") from None
    if not sound:
        raise ReceiptError(f"{path}: its counts or shard names contradict each other; build the shards again")
    return receipt


def _typed(value: Receipt | ShardEntry) -> bool:
    """Whether every field holds what it is declared to hold."""
    return all(type(getattr(value, f.name)).__name__ == str(f.type).partition("[")[0] for f in fields(value))


# --- writing ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ShardRow:
    """What is known of a sample beside its pixels."""

    breast_id: str
    patient_id: str
    laterality: Laterality
    label: int
    flags: Flag = NO_FLAG  # beside those that the pixels determine


def write_shard(
    path: Path, rows: Sequence[ShardRow], samples: Iterable[FusedSample], attributes: Mapping[str, str | int], content: str
) -> ShardEntry:
    """Write one shard, sample by sample.

    Parameters
    ----------
    path : Path
        Where it is written; the caller renames it into place.
    rows : sequence of ShardRow
        In the order of `samples`.
    samples : iterable of FusedSample
        All with the same image shape and dtype.
    attributes : mapping
        Root attributes, `shard_index` among them; nothing of time, host or place may be in them.
    content : str
        Digest of what the shard is made from, for the receipt.

    Returns
    -------
    ShardEntry

    Raises
    ------
    StorageError
    """
    columns: dict[str, list[Any]] = {name: [] for name in _SAMPLE_COLUMNS}
    flags: dict[str, int] = {}
    image: h5py.Dataset | None = None
    try:
        # The earliest format: the bytes do not change with the HDF5 library. No times are tracked.
        with _Sink(path, "w+") as sink, h5py.File(sink, "w", libver=("earliest", "v110")) as file:
            for i, (row, sample) in enumerate(zip(rows, samples, strict=True)):  # as many samples as rows: no hole
                if image is None:
                    image = file.create_dataset("image", (len(rows), *sample.image.shape), sample.image.dtype)
                    image.attrs["scale"] = np.float64(SCALES[sample.image.dtype.name])
                stored = np.ascontiguousarray(sample.image)
                image[i] = stored
                for name, value in zip(_SAMPLE_COLUMNS, _sample_columns(sample, row, stored), strict=True):
                    columns[name].append(value)
                for flag in sample.flags | row.flags:
                    flags[str(flag.name).lower()] = flags.get(str(flag.name).lower(), 0) + 1
                sink.check()
            arrays = {name: np.array(column) for name, column in columns.items()}
            arrays["label"] = np.array([row.label for row in rows], np.int8)
            for name in ("breast_id", "patient_id", "laterality"):
                arrays[name] = np.array([str(getattr(row, name)).encode("utf-8", "replace") for row in rows])
            for name, array in sorted(arrays.items()):
                text = array.dtype.kind == "S"  # fixed-length UTF-8: contiguous like everything else
                file.create_dataset(
                    name, data=array.astype(h5py.string_dtype("utf-8", array.dtype.itemsize)) if text else array
                )
            for name, value in {**attributes, "flag_names": json.dumps(flag_names())}.items():
                file.attrs[name] = value
            offset, length = (image.id.get_offset(), image.nbytes) if image else (0, 0)
        sink.check()
        with open(path, "rb+") as raw:
            os.fsync(raw.fileno())
            sha256 = hashlib.file_digest(raw, "sha256").hexdigest()
            rest = _rest_sha256(raw, offset, length)
        size, index = path.stat().st_size, int(attributes["shard_index"])
        return ShardEntry(shard_name(index), index, len(rows), size, sha256, offset, length, rest, content, flags)
    except OSError as error:
        path.unlink(missing_ok=True)
        reason = error.strerror or str(error).partition("\n")[0]
        raise StorageError(f"{path}: cannot be written ({reason}); is the disk full or the folder read-only?") from None


class _Sink(io.FileIO):
    """What HDF5 writes into. It crashes the process where it cannot finish a file, so no failed write is told to it."""

    _error: OSError | None = None

    def write(self, data: Any, /) -> int:
        """Write all of `data`, or remember why not."""
        rest = memoryview(data).cast("B")
        try:
            while rest:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self._error = self._error or error
        return len(data)

    def truncate(self, size: int | None = None, /) -> int:
        """Cut or lengthen the file, or remember why not."""
        try:
            return super().truncate(size)
        except OSError as error:
            self._error = self._error or error
            return size or 0

    def check(self) -> None:
        """Raise what was not told."""
        if self._error:
            raise self._error


def flag_names() -> dict[str, int]:
    """Name of each bit of ``flags``, with its value."""
    return {str(flag.name).lower(): int(flag) for flag in Flag}


_SAMPLE_COLUMNS = (
    "crop_box", "source_shape", "placement", "intensity_range", "breast_area", "breast_mean", "source_digest", "pixel_digest",
    "flags", "image_crc32",
)  # fmt: skip


def _sample_columns(sample: FusedSample, row: ShardRow, stored: NDArray[Any]) -> tuple[Any, ...]:
    return (
        sample.boxes,
        sample.source_shape,
        sample.placement,
        sample.intensity_range,
        sample.breast_area,
        sample.breast_mean,
        np.array([digest.encode() for digest in sample.source_digests]),
        np.array([digest.encode() for digest in sample.pixel_digests]),
        np.uint32(sample.flags | row.flags),
        np.uint32(zlib.crc32(stored.data)),
    )


def _rest_sha256(file: BinaryIO, image_offset: int, image_bytes: int) -> str:
    """Digest the bytes before and after the images."""
    file.seek(0)
    hasher = hashlib.sha256(file.read(image_offset))
    file.seek(image_offset + image_bytes)
    hasher.update(file.read())
    return hasher.hexdigest()


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
        """Map a point of a source picture into `image`. Both count edges, so that 0 is the outer edge of pixel 0.

        Raises
        ------
        ValueError
            The view is not in the image.
        """
        i = self._index(view)
        return to_image(self.crop_box[i], self.placement[i], row, column)

    def to_source(self, view: View, row: float, column: float) -> tuple[float, float]:
        """Map a point of `image` into a source picture: the inverse of :meth:`to_image`."""
        i = self._index(view)
        return to_source(self.crop_box[i], self.placement[i], row, column)

    def _index(self, view: View) -> int:
        i = VIEWS.index(view)
        if self.placement[i][0] < 0:
            raise ValueError(f"{view} is not in this image; its pipeline keeps the other view alone")
        return i


def to_image(crop_box: NDArray[Any], placement: NDArray[Any], row: float, column: float) -> tuple[float, float]:
    """Map a point of a source picture into the stored image, given one view's ``crop_box`` and ``placement``."""
    (top, left), (down, across), (box_top, box_left) = _scale(crop_box, placement)
    return top + (row - box_top) * down, left + (column - box_left) * across


def to_source(crop_box: NDArray[Any], placement: NDArray[Any], row: float, column: float) -> tuple[float, float]:
    """Map a point of the stored image into a source picture: the inverse of :func:`to_image`."""
    (top, left), (down, across), (box_top, box_left) = _scale(crop_box, placement)
    return box_top + (row - top) / down, box_left + (column - left) / across


def _scale(crop_box: NDArray[Any], placement: NDArray[Any]) -> tuple[tuple[float, float], tuple[float, float], tuple[int, int]]:
    top, bottom, left, right = (float(number) for number in placement)
    box_top, box_bottom, box_left, box_right = (int(number) for number in crop_box)
    return (top, left), ((bottom - top) / (box_bottom - box_top), (right - left) / (box_right - box_left)), (box_top, box_left)


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
        image, columns = _open_shard(folder / entry.file, entry, receipt)
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


def _open_shard(path: Path, entry: ShardEntry, receipt: Receipt) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
    try:
        with open(path, "rb") as raw:
            size = os.fstat(raw.fileno()).st_size
            if size != entry.bytes or _rest_sha256(raw, entry.image_offset, entry.image_bytes) != entry.rest:
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
        if size == other.bytes and _rest_sha256(file, other.image_offset, other.image_bytes) == other.rest:
            return SwappedShardError(f"{path}: holds what the receipt lists as {other.file}; build the shards again")
    file.seek(0)
    data = file.read()
    whole = data.startswith(b"\x89HDF") and b"pipeline_yaml" in data
    if whole and not all(identity.encode() in data for identity in (receipt.dataset, receipt.pipeline_digest)):
        return SwappedShardError(f"{path}: belongs to another data set or pipeline; build the shards again")
    if size != entry.bytes:
        return TruncatedShardError(f"{path}: {size} bytes, the receipt lists {entry.bytes}; build the shards again")
    return ChecksumError(f"{path}: labels or other columns differ from what was written; build the shards again")


# --- verifying --------------------------------------------------------------------------------------------------------


def verify(folder: str | os.PathLike[str]) -> list[str]:
    """Check every byte of a shard folder against its receipt.

    Returns
    -------
    list of str
        One sentence a problem; empty where all is well.

    Raises
    ------
    ReceiptError
        There is no receipt to check against.
    """
    path = Path(folder)
    receipt = read_receipt(path)
    problems = []
    for entry in receipt.shards:
        file = path / entry.file
        try:
            image, columns = _open_shard(file, entry, receipt)
            crcs = [zlib.crc32(np.ascontiguousarray(image[i]).data) for i in range(len(image))]
            names = np.char.decode(columns["breast_id"], "utf-8")
            damaged = np.flatnonzero(np.array(crcs, np.uint32) != columns["image_crc32"])
            problems += [f"{file}: sample {i} ({names[i]}) is damaged" for i in damaged]
            if not len(damaged) and _sha256(file) != entry.sha256:
                problems.append(f"{file}: its bytes differ from what was written")
        except ShardError as error:
            problems.append(str(error))
    for name, sha256 in receipt.tables.items():
        file = path / name
        if not file.is_file():
            problems.append(f"{file}: the receipt lists this table and it is not there")
        elif _sha256(file) != sha256:
            problems.append(f"{file}: its bytes differ from what was written")
    known = {entry.file for entry in receipt.shards}
    strays = [file.name for file in path.iterdir() if re.fullmatch(r"shard-\d+\.h5", file.name) and file.name not in known]
    problems += [f"{path / name}: a shard that the receipt does not list" for name in sorted(strays)]
    return problems


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
