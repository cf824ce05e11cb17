"""Near-duplicates: images that were encoded again and so have other digests.

A difference hash of 256 bits proposes pairs. The correlation of detail confirms them: of a small image less its blurred copy,
since all breasts share the coarse shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fvpipe.shards.coordinates import view_slices
from fvpipe.shards.reader import Shards
from fvpipe.types import VIEWS

SIDE = 16
BITS = SIDE * SIDE
MAX_HASH_DISTANCE = 24  # bits of 256 that may differ in a proposed pair
DETAIL = 32  # side of the small image
MIN_CORRELATION = 0.97  # of detail, in a confirmed pair
FLAT = 0.004  # smaller differences are background or noise and set no bit


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """Hash and detail of both views of each sample.

    Attributes
    ----------
    hashes : uint64 array, shape (N, 2, 4)
        256 bits.
    details : float16 array, shape (N, 2, 1024)
        Unit length; zeros for a view that is not in the image.
    """

    hashes: NDArray[np.uint64]
    details: NDArray[np.float16]

    @staticmethod
    def joined(several: Sequence[Fingerprints]) -> Fingerprints:
        """Concatenate those of several shard folders."""
        return Fingerprints(np.concatenate([f.hashes for f in several]), np.concatenate([f.details for f in several]))


def fingerprints(shards: Shards, indices: Sequence[int] | None = None) -> Fingerprints:
    """Compute hash and detail of each view of the samples at `indices`, by default of all."""
    chosen = range(len(shards)) if indices is None else indices
    hashes = np.zeros((len(chosen), len(VIEWS), BITS // 64), np.uint64)
    details = np.zeros((len(chosen), len(VIEWS), DETAIL * DETAIL), np.float16)
    for i, index in enumerate(chosen):
        sample = shards[index]
        for v, placement in enumerate(sample.placement):
            area = view_slices(placement)
            if area is None:
                continue
            image = sample.image[v] if sample.image.ndim == 3 else sample.image
            view = np.ascontiguousarray(image[area])
            small = cv2.resize(view, (SIDE + 1, SIDE), interpolation=cv2.INTER_AREA)
            hashes[i, v] = np.packbits(small[:, 1:] - small[:, :-1] > FLAT).view(np.uint64)
            thumbnail = cv2.resize(view, (DETAIL, DETAIL), interpolation=cv2.INTER_AREA)
            detail = (thumbnail - cv2.blur(thumbnail, (5, 5))).ravel()
            details[i, v] = detail / max(float(np.sqrt((detail * detail).sum())), 1e-6)
    return Fingerprints(hashes, details)


def near_pairs(found: Fingerprints, owners: Sequence[object]) -> list[tuple[int, int]]:
    """Find pairs (i, j), i < j, of samples of different owners with nearly the same image in a view."""
    pairs = set()
    for v in range(len(VIEWS)):
        hashes, details = found.hashes[:, v], found.details[:, v].astype(np.float32)
        for i in range(len(hashes) - 1):
            distance = np.bitwise_count(hashes[i + 1 :] ^ hashes[i]).sum(axis=1)
            for j in (np.flatnonzero(distance <= MAX_HASH_DISTANCE) + i + 1).tolist():
                if owners[i] != owners[j] and float((details[i] * details[j]).sum()) >= MIN_CORRELATION:
                    pairs.add((i, j))
    return sorted(pairs)
