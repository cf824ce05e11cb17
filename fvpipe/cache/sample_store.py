"""The content-addressed store of finished samples: ``cache/samples``, safe to delete at any time.

A sample's key is made of everything that decides its bytes and nothing else: both source files' digests, the side,
the pipeline's digest, :data:`PREPROCESSING_VERSION`, the decoder's version where a lossy syntax lets two versions differ, and
polarity, orientation and kind of the images, which a declaration or a table may decide, too. Labels and identifiers are no
part of it, so a corrected label table never needs a decode. A rejection is a result like any other and is stored under the
same key: a broken file is not decoded again at each build.

Each sample is one file, written aside and renamed, and ends in a digest of itself: a torn or rotten one counts as absent.
"""

from __future__ import annotations

import json
import os
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3

from fvpipe.config.loading import digest_of
from fvpipe.errors import StorageError
from fvpipe.io.atomic import write_atomic
from fvpipe.io.locking import in_common_use
from fvpipe.reasons import Flag, Reason
from fvpipe.regular_files import read_regular
from fvpipe.shards.coordinates import WARP_COLUMNS
from fvpipe.types import Digest, FusedSample, Laterality, View
from fvpipe.versions import PREPROCESSING_VERSION

MAX_SAMPLE_BYTES = 1 << 30  # of one sample: more than the largest image of the largest type takes


@dataclass(frozen=True, slots=True)
class ViewRejection:
    """A view, or both views as a pair, rejected when the pixels were read. Without a path: the store knows none."""

    view: View | None  # None: the pair
    reason: Reason
    detail: str
    pixel_digests: tuple[Digest, Digest] | None = None  # of a rejected pair, to find other breasts with the same pixels


def sample_key(
    sources: tuple[Digest, Digest],
    laterality: Laterality,
    pipeline: Digest,
    lossy_decoders: tuple[str, str],
    read_as: tuple[str, str],
) -> Digest:
    """The name of a sample in the store.

    Parameters
    ----------
    sources : (Digest, Digest)
        Of the CC's and the MLO's file; empty for a view that the breast lacks.
    pipeline : Digest
        :meth:`fvpipe.config.pipeline.Pipeline.digest`.
    lossy_decoders : (str, str)
        :func:`fvpipe.dicom.decoding.decoders.lossy_decoder` of each file's transfer syntax.
    read_as : (str, str)
        What else decides how each file is shown and flagged, and may change while the file does not.
    """
    return digest_of([PREPROCESSING_VERSION, *sources, laterality.value, pipeline, *lossy_decoders, *read_as])


class SampleStore:
    """Samples and rejections by key, in 4,096 folders so that a million of them stay quick to find.

    Parameters
    ----------
    folder : Path
        Made when first used.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def in_use(self) -> AbstractContextManager[None]:
        """Use the store for a build; where no other build does, parts of samples that killed workers left are removed."""
        return in_common_use(self.folder, self._remove_parts)

    def _remove_parts(self) -> None:
        for part in self.folder.glob("[0-9a-f][0-9a-f][0-9a-f]/.*.part"):
            with suppress(OSError):  # another user's
                part.unlink()

    def path(self, key: Digest) -> Path:
        """Path of the sample of `key`."""
        return self.folder / key[:3] / f"{key}.sample"

    def rejection_path(self, key: Digest) -> Path:
        """Path of the rejection of `key`. A file `.rejected` is of a version that blamed files for a lack of memory."""
        return self.folder / key[:3] / f"{key}.rejection"

    def has(self, key: Digest) -> bool:
        """Whether `key` is finished, either way."""
        return os.path.exists(self.path(key)) or os.path.exists(self.rejection_path(key))

    def get(self, key: Digest) -> FusedSample | ViewRejection | None:
        """Read the sample or rejection of `key`; None where it is absent or damaged (a damaged file is removed)."""
        for path in (self.path(key), self.rejection_path(key)):
            try:
                data = read_regular(path, MAX_SAMPLE_BYTES)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise StorageError(f"{path}: cannot be read ({error.strerror}); delete it, or the whole store") from None
            try:
                found = _unpack(key, data)
            except (ValueError, LookupError, TypeError):  # written by another version, which has other reasons or columns
                found = None
            if found is not None and path == self._path_of(key, found):
                return found
            with suppress(OSError):  # another user's: what is made in its place cannot be stored, and says so
                path.unlink()
        return None

    def put(self, key: Digest, result: FusedSample | ViewRejection) -> None:
        """Store `result`; a reader sees all of it or nothing.

        Raises
        ------
        StorageError
            The disk is full or the folder cannot be written.
        """
        write_atomic(self._path_of(key, result), _pack(key, result), durable=False)

    def _path_of(self, key: Digest, result: FusedSample | ViewRejection) -> Path:
        return self.rejection_path(key) if isinstance(result, ViewRejection) else self.path(key)


_ARRAYS = (
    "image", "boxes", "source_shape", "placement", "intensity_range", "breast_area", "breast_mean", *WARP_COLUMNS,
)  # fmt: skip


def _pack(key: Digest, result: FusedSample | ViewRejection) -> bytes:
    head: dict[str, Any]
    if isinstance(result, ViewRejection):
        head = {"view": result.view, "reason": result.reason.value, "detail": result.detail, "pixels": result.pixel_digests}
        body = b""
    else:
        found = ((name, getattr(result, name)) for name in _ARRAYS)
        arrays = {name: np.ascontiguousarray(array) for name, array in found if array is not None}
        head = {
            "arrays": [[name, array.dtype.str, list(array.shape)] for name, array in arrays.items()],
            "sources": result.source_digests,
            "pixels": result.pixel_digests,
            "flags": int(result.flags),
        }
        body = b"".join(array.tobytes() for array in arrays.values())
    packed = json.dumps(head | {"key": key}, sort_keys=True).encode() + b"\n" + body
    return packed + blake3(packed).digest()


def _unpack(key: Digest, data: bytes) -> FusedSample | ViewRejection | None:
    packed, digest = data[:-32], data[-32:]
    if blake3(packed).digest() != digest:
        return None
    line, _, body = packed.partition(b"\n")
    head = json.loads(line)
    if head.get("key") != key:  # a file that was exchanged with another, or renamed
        return None
    if "reason" in head:
        view, pixels = head["view"] and View(head["view"]), head["pixels"] and tuple(head["pixels"])
        return ViewRejection(view, Reason(head["reason"]), head["detail"], pixels)
    arrays, at = {}, 0
    for name, dtype, shape in head["arrays"]:
        count = int(np.prod(shape))
        arrays[name] = np.frombuffer(body, np.dtype(dtype), count, at).reshape(shape)
        at += count * np.dtype(dtype).itemsize
    return FusedSample(
        **arrays, source_digests=tuple(head["sources"]), pixel_digests=tuple(head["pixels"]), flags=Flag(head["flags"])
    )
