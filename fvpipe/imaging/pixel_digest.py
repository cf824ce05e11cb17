"""Digest of the pixels of an image, by which equal and mirrored images are found."""

from __future__ import annotations

import struct
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_128

from fvpipe.imaging.histogram import bands, stored_range
from fvpipe.types import Digest

EDGE_COLUMNS = 16  # compared at a time with those of the other edge


def pixel_digest(stored: NDArray[Any], scale: int = 1, zero: int = 0) -> Digest:
    """Digest of size and values by XXH3 (128 bits), of which the last bit tells an image from its mirror image.

    It is the same for the same values in every transfer syntax and under any number of bits. It only finds equal images, and
    nobody gains by a forged one: a sample's key is made of BLAKE3 digests of the files.

    Parameters
    ----------
    stored : uint8 or uint16 array, shape (rows, columns)
        Stored values.
    scale : int
        How often finer the whole image is: one decoded at a fraction of its resolution never has the digest of a whole one.
    zero : int
        Stored value of 0: signed values are stored with an offset.
    """
    if not zero:
        return digest_and_largest(stored, scale)[0]
    negative = stored_range(stored)[0] < zero
    return digest_and_largest(stored.astype(np.uint16) - np.uint16(zero), scale, negative)[0]


def digest_and_largest(values: NDArray[Any], scale: int = 1, negative: bool = False) -> tuple[Digest, int]:
    """Return the digest and the largest value, which the same pass finds; `negative`: the values are two's complement."""
    mirrored = _is_mirrored(values)
    hasher, largest = xxh3_128(struct.pack("<3I?", *values.shape, scale, negative)), 0
    for band in bands(values):  # read twice while it is in the processor's cache
        largest = max(largest, stored_range(band)[1])
        hasher.update(np.ascontiguousarray(cv2.flip(band, 1) if mirrored else band).data)
    if values.itemsize > 1 and largest < 256:
        return digest_and_largest(values.astype(np.uint8), scale, negative)[0], largest
    return Digest(f"{hasher.intdigest() & ~1 | mirrored:032x}"), largest


def _is_mirrored(values: NDArray[Any]) -> bool:
    """Whether the mirror image is the one to digest: the one with the smaller value where they first differ."""
    for start in range(0, (values.shape[1] + 1) // 2, EDGE_COLUMNS):
        edge, other = values[:, start : start + EDGE_COLUMNS], values[:, ::-1][:, start : start + EDGE_COLUMNS]
        differ = edge != other
        if differ.any():
            first = np.unravel_index(np.argmax(differ), differ.shape)
            return bool(edge[first] > other[first])
    return False


def unmirrored(digest: str) -> Digest:
    """Return what the digests of an image and of its mirror image have in common."""
    return Digest(f"{digest[:-1]}{int(digest[-1], 16) & ~1:x}" if digest else "")
