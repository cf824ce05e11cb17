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
NIPPLE_LENGTH, NIPPLE_WIDTH = 0.12, 0.08  # of the rows and of the width: a nipple does not extend further beyond the breast
NOISE_LENGTH = 0.03  # of the rows: shorter peaks of the outline are no arm and no fold
PLATE_BRIGHTNESS = 0.9  # quantile of the breast's values: a label plate is brighter
NOTCH_REACH = 0.5  # of the rows, in which the notch is looked for
NOTCH_END = 0.85  # of the rows, in which the widest row of the breast is looked for


def breast_extent(mask: Mask, thumbnail: Thumbnail) -> tuple[Mask, float]:
    """Cut off arm and abdomen, where the outline turns from the breast outwards again, and label plates that touch the skin.

    Parameters
    ----------
    mask : uint8 array, shape (rows, columns)
        255 on the breast and what is joined to it.
    thumbnail : Thumbnail
        Brightness of each pixel: a label plate is brighter than nearly all of the breast.

    Returns
    -------
    mask : uint8 array, shape (rows, columns)
        A new mask, or `mask` itself if nothing was cut off.
    excess : float
        How far the rest extends beyond the breast's own profile, as a share of the breast's width.
    """
    left, top, width, height = cv2.boundingRect(mask)
    if not width:
        return mask, 0.0
    cut = mask.copy()
    inside = mask[top : top + height, left : left + width] > 0
    profile = np.where(inside.any(axis=1), width - np.argmax(inside[:, ::-1], axis=1), 0)
    peakless = _opening(profile, NIPPLE_LENGTH)
    plates = np.flatnonzero(profile > peakless + NIPPLE_WIDTH * max(int(peakless.max()), 1))
    if len(plates):
        relative = thumbnail.relative.take(thumbnail.stored[top : top + height, left : left + width])
        limit = np.sort(relative[inside])[int(PLATE_BRIGHTNESS * (np.count_nonzero(inside) - 1))]
        for rows in np.split(plates, np.flatnonzero(np.diff(plates) > 1) + 1):
            beyond = np.concatenate([relative[row, peakless[row] : profile[row]] for row in rows.tolist()])
            if np.sort(beyond)[len(beyond) // 2] >= limit:
                for row in rows.tolist():
                    cut[top + row, left + peakless[row] :] = 0
                profile[rows] = peakless[rows]
    smooth = _opening(profile, NOISE_LENGTH)
    fold = _notch(smooth[::-1], FOLD_NOTCH, FOLD_RISE)
    if fold is not None:
        cut[top + height - fold :] = 0
        smooth, profile = smooth[: height - fold], profile[: height - fold]
    arm = _notch(smooth, ARM_NOTCH, ARM_RISE)
    if arm is not None:
        most = int(profile[arm:].max())
        cut[: top + arm + 1, left + most :] = 0
        profile[:arm] = np.minimum(profile[:arm], most)
    most = max(int(_opening(profile, NIPPLE_LENGTH).max()), 1)
    excess = float(profile.max() - most) / most
    return (mask if np.array_equal(cut, mask) else cut), excess


def _opening(profile: NDArray[np.int64], share: float) -> NDArray[np.int64]:
    """Profile without peaks shorter than a share of its rows; its ends are repeated."""
    length = max(round(share * len(profile)), 1)
    padded = np.pad(profile, length, mode="edge")
    lowest = np.lib.stride_tricks.sliding_window_view(padded, length).min(axis=1)
    opened: NDArray[np.int64] = np.lib.stride_tricks.sliding_window_view(lowest, length).max(axis=1)
    return opened[1 : len(profile) + 1]


def _notch(profile: NDArray[np.int64], notch: float, rise: float) -> int | None:
    """Row up to which what comes before the breast reaches, if the breast's profile narrows there to less than `notch`."""
    upper = profile[: round(NOTCH_REACH * len(profile))]
    rest = np.maximum.accumulate(profile[: round(NOTCH_END * len(profile))][::-1])[::-1][: len(upper)]
    before = np.maximum.accumulate(upper)
    deep = (upper < notch * rest) & (np.minimum(before, rest) > upper + rise * rest)
    if not deep.any():
        return None
    at = np.flatnonzero(deep)
    return int(at[np.argmin(upper[at])])


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
