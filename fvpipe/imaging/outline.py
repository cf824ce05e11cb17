"""The breast's own extent in a mask, and measurements that tell whether a mask is a breast.

The chest wall is expected on the left.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from fvpipe.imaging.threshold import log_bins
from fvpipe.imaging.thumbnail import MAX_MARGIN, Mask, Thumbnail

GATES = {
    "share": (0.02, 0.85),
    "fill": (0.50, 0.94),
    "aspect": (0.10, 0.95),
    "wall": (0.40, 1.0),
    "far_side": (0.0, 0.25),
    "margin": (0.0, MAX_MARGIN),
}
"""Quality gates, each with its allowed range: mask area as a share of the image and of its bounding box, width / height of
the bounding box, share of the mask's rows that start at one column, rows at the opposite edge of the image relative to those
at that column, and the columns before it as a share of all."""

# Shares of the width at the widest row
ARM_NOTCH, ARM_RISE = 0.92, 0.06  # above the widest row, an arm follows a row narrower than the first, wider by the second
FOLD_NOTCH, FOLD_RISE = 0.60, 0.05  # the same for the abdomen or a second fold below it
# On a grid of COARSE_SIDE pixels
COARSE_SIDE = 144
RING = (2, 5)  # distances from the outline at which its surroundings are measured
AIR_DISTANCE = 8  # from the outline, of the air to which they are compared
MIN_AIR = 0.02  # of the image
TOP_SHARE = 0.2  # of the rows, in which the widest row is not looked for: an arm may lie there


def breast_extent(mask: Mask) -> Mask:
    """Cut arm and abdomen off, where the outline turns from the breast outwards again.

    Parameters
    ----------
    mask : uint8 array, shape (rows, columns)
        255 on the breast and what is joined to it.

    Returns
    -------
    mask : uint8 array, shape (rows, columns)
        A new mask, or `mask` itself if nothing was cut off.
    """
    left, top, width, height = cv2.boundingRect(mask)
    if not width:
        return mask
    rows = mask[top : top + height, left : left + width] > 0
    profile = np.where(rows.any(axis=1), width - np.argmax(rows[:, ::-1], axis=1), 0)
    first = round(TOP_SHARE * height)
    widest = first + int(np.argmax(profile[first:]))
    most = int(profile[widest])
    arm = _notch(profile[widest::-1], most, ARM_NOTCH, ARM_RISE)
    fold = _notch(profile[widest:], most, FOLD_NOTCH, FOLD_RISE)
    if arm is None and fold is None:
        return mask
    cut = mask.copy()
    if arm is not None:
        cut[: top + widest - arm + 1, left + most :] = 0
    if fold is not None:
        cut[top + widest + fold :] = 0
    return cut


def _notch(profile: NDArray[np.int64], most: int, notch: float, rise: float) -> int | None:
    """Index of the narrowest row before `profile` rises again, if it falls below `notch`; None if it does not."""
    lowest = np.minimum.accumulate(profile)
    risen = np.flatnonzero((lowest < notch * most) & (profile > lowest + rise * most))
    if not len(risen):
        return None
    before = profile[: risen[0]]
    return int(len(before) - 1 - np.argmin(before[::-1]))


def measure_outline(mask: Mask) -> dict[str, float]:
    """Measurements for :data:`GATES`; empty if the mask is empty."""
    area = cv2.countNonZero(mask)
    if not area:
        return {}
    left, top, width, height = cv2.boundingRect(mask)
    rows, columns = mask.shape
    inside = mask[top : top + height, left : left + width] > 0
    starts = left + np.argmax(inside, axis=1)[inside.any(axis=1)]
    at = np.bincount(starts, minlength=columns)
    tolerance = max(round(0.01 * columns), 1)
    near = np.convolve(at, np.ones(2 * tolerance + 1, np.int64))[tolerance:-tolerance]
    wall = int(np.argmax(near))
    return {
        "share": area / mask.size,
        "fill": area / (width * height),
        "aspect": width / height,
        "wall": int(near[wall]) / height,
        "far_side": int(np.count_nonzero(mask[:, -1])) / int(near[wall]),
        "margin": max(wall - tolerance, 0) / columns,
    }


def measure_surroundings(mask: Mask, thumbnail: Thumbnail, air: float | NDArray[np.float64]) -> dict[str, float]:
    """Brightness of what lies around an outline, which must be air: dark and even.

    Parameters
    ----------
    mask : uint8 array, shape (rows, columns)
        255 on the breast.
    thumbnail : Thumbnail
        Brightness of each pixel.
    air : float or float64 array, shape (rows, columns)
        Background, as a share of the range.

    Returns
    -------
    measurements : dict of str to float
        In logarithmic bins: ``ring``, by how much the ring around the outline is brighter than the air further away, and
        ``unevenness`` of that air. 0 where there is no such air.
    """
    border, step = thumbnail.border, coarse_step(mask.shape)
    coarse = slice(border, -border, step)
    background = air if isinstance(air, float) else air[coarse, coarse]
    deviation = (thumbnail.relative.take(thumbnail.stored[coarse, coarse]) - background).astype(np.float32)
    deviation = np.asarray(cv2.medianBlur(np.ascontiguousarray(deviation), 5), np.float32)  # noise must not count
    outside = cv2.compare(np.ascontiguousarray(mask[coarse, coarse]), 0.0, cv2.CMP_EQ)  # type: ignore[call-overload]  # takes numbers too
    distance = cv2.distanceTransform(outside, cv2.DIST_L1, 3)
    ring, far = deviation[(distance >= RING[0]) & (distance <= RING[1])], deviation[distance > AIR_DISTANCE]
    if not len(ring) or len(far) < MIN_AIR * deviation.size:
        return {"ring": 0.0, "unevenness": 0.0}
    far = np.sort(far)
    values = np.array([far[len(far) // 10], far[len(far) // 2], far[len(far) * 3 // 4], np.sort(ring)[len(ring) * 3 // 4]], np.float64)
    low, middle, high, around = (log_bins(values).astype(int) - log_bins(-values)).tolist()
    return {"ring": float(max(around - middle, 0)), "unevenness": float(high - low)}


def coarse_step(shape: tuple[int, ...]) -> int:
    """Pixels of a thumbnail of `shape` per pixel of the coarse grid."""
    return max(round(max(shape) / COARSE_SIDE), 1)


def passes_gates(gates: Mapping[str, float]) -> bool:
    """Whether all measurements lie within the ranges of :data:`GATES`."""
    return bool(gates) and all(low <= gates[name] <= high for name, (low, high) in GATES.items())
