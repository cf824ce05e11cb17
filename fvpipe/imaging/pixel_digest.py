"""Digest of the pixels of an image, by which an image is found again, mirrored or turned or not."""

from __future__ import annotations

import struct
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_128

from fvpipe.imaging.histogram import bands, stored_range
from fvpipe.types import Digest

ROW_STEPS = (128, 8, 1)  # rows at these steps decide how an image lies, unless it is symmetric in them
WAYS: tuple[int | None, ...] = (None, 1, 0, -1)
"""How an image may lie, as cv2.flip takes it: as it is, mirrored, upside down, turned by 180 degrees."""


def pixel_digest(stored: NDArray[Any], scale: int = 1, zero: int = 0) -> Digest:
    """Digest of size and values by XXH3 (128 bits), whose last two bits encode how the image lies.

    It is the same for the same values in every transfer syntax and under any number of bits, and but for these two bits the
    same for an image that is mirrored, upside down or turned by 180 degrees. It only finds equal images, and nobody gains by a
    forged one: a sample's key is made of BLAKE3 digests of the files.

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
    way = _way(values)
    hasher, largest, parts = xxh3_128(struct.pack("<3I?", *values.shape, scale, negative)), 0, [*bands(values)]
    for band in parts if way in (None, 1) else reversed(parts):  # read twice while it is in the processor's cache
        largest = max(largest, stored_range(band)[1])
        hasher.update(np.ascontiguousarray(band if way is None else cv2.flip(band, way)).data)
    if values.itemsize > 1 and largest < 256:
        return digest_and_largest(values.astype(np.uint8), scale, negative)[0], largest
    return Digest(f"{hasher.intdigest() & ~3 | WAYS.index(way):032x}"), largest


def _way(values: NDArray[Any]) -> int | None:
    """The one of :data:`WAYS` in which the image is digested: that with the least bytes in a few rows, then in more."""
    ways: list[int | None] = list(WAYS)
    for step in ROW_STEPS:
        upper = np.arange(0, (len(values) + 1) // 2, step)
        rows = values[np.union1d(upper, len(values) - 1 - upper)]
        turned = {way: np.ascontiguousarray(rows if way is None else cv2.flip(rows, way)).tobytes() for way in ways}
        ways = [way for way in ways if turned[way] == min(turned.values())]
        if len(ways) == 1:
            break
    return ways[0]


def unturned(digest: str) -> Digest:
    """Return the digest without the bits that encode how the image lies."""
    return Digest(f"{digest[:-1]}{int(digest[-1], 16) & ~3:x}" if digest else "")
