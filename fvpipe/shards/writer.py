"""Writer of one shard: an HDF5 file and the digests of its contents."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from fvpipe.errors import StorageError
from fvpipe.reasons import NO_FLAG, Flag
from fvpipe.shards.coordinates import WARP_COLUMNS, coordinates_of
from fvpipe.shards.format import ShardEntry, flag_names, sha256_outside_images, shard_name
from fvpipe.shards.targets import TargetForm
from fvpipe.types import SCALES, FusedSample, Laterality


@dataclass(frozen=True, slots=True)
class ShardRow:
    """Columns of a sample that its pixels do not determine.

    Attributes
    ----------
    flags : Flag
        In addition to those of the fused sample.
    spacing : ((float or None, float or None), (float or None, float or None))
        CC, MLO: millimeters per source pixel, down and across; None where the header does not say.
    """

    breast_id: str
    patient_id: str
    laterality: Laterality
    label: int
    flags: Flag = NO_FLAG
    spacing: tuple[tuple[float | None, float | None], tuple[float | None, float | None]] = ((None, None), (None, None))


def write_shard(
    path: Path,
    rows: Sequence[ShardRow],
    samples: Iterable[FusedSample],
    attributes: Mapping[str, str | int],
    content: str,
    targets: Iterable[tuple[TargetForm, NDArray[Any]]] = (),
) -> ShardEntry:
    """Write one shard, one sample at a time.

    Parameters
    ----------
    path : Path
        Temporary file; the caller renames it into place.
    rows : sequence of ShardRow
        One row per sample.
    samples : iterable of FusedSample
        Samples of the same image shape and dtype, in the order of `rows`.
    attributes : mapping of str to str or int
        Root attributes, including ``shard_index``. They must not depend on time, host or paths.
    content : str
        Digest of sample keys, labels and identifiers, for the receipt.
    targets : iterable of (TargetForm, array)
        Values of each target, in the order of `rows`.

    Returns
    -------
    entry : ShardEntry
        Entry for the receipt.

    Raises
    ------
    StorageError
        If the file cannot be written. It is removed.
    """
    columns: defaultdict[str, list[Any]] = defaultdict(list)
    flags = Counter[str]()
    image: h5py.Dataset | None = None
    try:
        # The earliest format, so that the bytes do not depend on the version of the HDF5 library. Times are not tracked.
        with _DeferredErrorFile(path, "w+") as target, h5py.File(target, "w", libver=("earliest", "v110")) as file:
            # Strict: a missing sample would be read as a black image.
            for i, (row, sample) in enumerate(zip(rows, samples, strict=True)):
                if image is None:
                    image = file.create_dataset("image", (len(rows), *sample.image.shape), sample.image.dtype)
                    image.attrs["scale"] = np.float64(SCALES[sample.image.dtype.name])
                stored = np.ascontiguousarray(sample.image)
                image[i] = stored
                for name, value in _sample_columns(sample, row, stored).items():
                    columns[name].append(value)
                flags.update(flag.code for flag in sample.flags | row.flags)
                target.check()
            arrays = {name: np.array(column) for name, column in columns.items()}
            arrays["label"] = np.array([row.label for row in rows], np.int8)
            for name in ("breast_id", "patient_id", "laterality"):
                arrays[name] = np.array([str(getattr(row, name)).encode("utf-8", "replace") for row in rows])
            for name, array in sorted(arrays.items()):
                text = array.dtype.kind == "S"  # fixed-length UTF-8: contiguous like everything else
                file.create_dataset(
                    name, data=array.astype(h5py.string_dtype("utf-8", array.dtype.itemsize)) if text else array
                )
            for form, values in targets:
                column = file.create_dataset(form.path, data=values)
                for name, value in form.attributes.items():  # of fixed length: they lie in the header, in no heap
                    data = value.encode()
                    column.attrs.create(name, data, dtype=h5py.string_dtype("utf-8", max(len(data), 1)))
            for name, value in {**attributes, "flag_names": json.dumps(flag_names())}.items():
                file.attrs[name] = value
            offset, length = (image.id.get_offset(), image.nbytes) if image else (0, 0)
        target.check()
        with open(path, "rb+") as raw:
            os.fsync(raw.fileno())
            sha256 = hashlib.file_digest(raw, "sha256").hexdigest()
            rest = sha256_outside_images(raw, offset, length)
        size, index = path.stat().st_size, int(attributes["shard_index"])
        return ShardEntry(shard_name(index), index, len(rows), size, sha256, offset, length, rest, content, dict(flags))
    except OSError as error:
        path.unlink(missing_ok=True)
        reason = error.strerror or str(error).partition("\n")[0]
        raise StorageError(f"{path}: cannot be written ({reason}); is the disk full or the folder read-only?") from None


def stored_facts(path: Path) -> tuple[list[Flag], list[tuple[str, str]]]:
    """Flags of the samples of a shard that was just written or verified, in its order, and how CC and MLO were resized.

    ``equal_area``, or ``crop`` where the outline did not allow it; empty for a view that is not in the image. A pipeline that
    warps none has no such words.
    """
    with h5py.File(path, "r", locking=False) as file:
        flags = list(map(Flag, file["flags"][()].tolist()))
        if WARP_COLUMNS[0] not in file:
            return flags, []
        warped = np.isfinite(file[WARP_COLUMNS[0]][:, :, 0])
        words = np.where(file["placement"][:, :, 0] < 0, "", np.where(warped, "equal_area", "crop"))
        return flags, [(cc, mlo) for cc, mlo in words.tolist()]


class _DeferredErrorFile(io.FileIO):
    """File for HDF5 that keeps the first write error until :meth:`check`.

    HDF5 crashes the process if it cannot complete a file, so every write is reported to it as successful.
    """

    _error: OSError | None = None

    def write(self, data: Any, /) -> int:
        """Write all of `data`, or keep the error."""
        rest = memoryview(data).cast("B")
        try:
            while rest:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self._error = self._error or error
        return len(data)

    def truncate(self, size: int | None = None, /) -> int:
        """Resize the file, or keep the error."""
        try:
            return super().truncate(size)
        except OSError as error:
            self._error = self._error or error
            return size or 0

    def check(self) -> None:
        """Raise the first error, if there was one."""
        if self._error:
            raise self._error


def _sample_columns(sample: FusedSample, row: ShardRow, stored: NDArray[Any]) -> dict[str, Any]:
    """Values of one sample by dataset; `stored` is its image, contiguous."""
    scales = np.array([coordinates_of(sample, view).scale() for view in (0, 1)])
    warps = {name: getattr(sample, name) for name in WARP_COLUMNS}  # None where the pipeline does not warp
    return {
        "crop_box": sample.boxes,
        "source_shape": sample.source_shape,
        "placement": sample.placement,
        "intensity_range": sample.intensity_range,
        "breast_area": sample.breast_area,
        "breast_mean": sample.breast_mean,
        "mm_per_pixel": (scales * np.array(row.spacing, np.float64)).astype(np.float32),  # NaN for a view that is not in it
        "source_digest": np.array([digest.encode() for digest in sample.source_digests]),
        "pixel_digest": np.array([digest.encode() for digest in sample.pixel_digests]),
        "flags": np.uint32(sample.flags | row.flags),
        "image_crc32": np.uint32(zlib.crc32(stored.data)),
    } | {name: warp for name, warp in warps.items() if warp is not None}
