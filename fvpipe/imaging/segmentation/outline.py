"""The breast's own extent in a mask, and measurements that decide whether a mask is a breast.

The chest wall is expected on the left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fvpipe.imaging.segmentation.background import CoarseGrid
from fvpipe.imaging.segmentation.threshold import log_bins
from fvpipe.imaging.segmentation.thumbnail import MAX_MARGIN, Mask, Thumbnail

_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
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

# Shares of the width or of the rows of the mask
ARM_REACH = 0.5  # of the rows, in which the armpit is looked for from the top, and the fold from the bottom
ARM_DEPTH = 0.1  # of the width: an armpit is deeper below the line from arm to breast
FOLD_NOTCH, FOLD_RISE = 0.60, 0.05  # of the width: abdomen follows a row narrower than the first, and is wider by the second
FOLD_END_NOTCH = 0.36  # of the width: what ends within the image is a fold only if the breast has narrowed to less before
FOLD_OVERLAP = 0.06  # of the rows below the narrowest, in which the breast ends behind the fold
FOLD_END = 0.85  # of the rows from the bottom, in which the widest row of the breast is looked for
NIPPLE_LENGTH, NIPPLE_WIDTH = 0.16, 0.08  # of the rows and of the width: a nipple does not extend further beyond the breast
NOISE_LENGTH = 0.03  # of the rows: shorter peaks of the outline are neither arm nor fold
PLATE_BRIGHTNESS = 0.9  # quantile of the breast's values: a label plate is brighter
# On the coarse grid
FAINT_WEIGHT = 200.0  # bins that count as much as a wholly faint outline
RING = (2, 5)  # distances from the outline at which its surroundings are measured
AIR_DISTANCE = 8  # from the outline, of the air to which they are compared
MIN_RISE = 2.0  # of brightness within two pixels of the outline, over the threshold
MIN_AIR = 0.02  # of the image


def breast_extent(mask: Mask, thumbnail: Thumbnail) -> tuple[Mask, dict[str, float]]:
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
    beyond : dict of str to float
        Parts left beyond the breast: ``excess``, how far peaks extend beyond its profile, as a share of its width, and
        ``fold``, the rows of what may be abdomen, a second fold or the lower part of a scarred breast, as a share of all.
    """
    left, top, width, height = cv2.boundingRect(mask)
    if not width:
        return mask, {"excess": 0.0, "fold": 0.0}
    cut, kept = mask.copy(), 0.0
    inside = mask[top : top + height, left : left + width] > 0
    profile = np.where(inside.any(axis=1), width - np.argmax(inside[:, ::-1], axis=1), 0)
    peakless = _opening(profile, NIPPLE_LENGTH)
    plates = np.flatnonzero(profile > peakless + NIPPLE_WIDTH * max(int(peakless.max()), 1))
    if len(plates):
        relative = thumbnail.relative.take(thumbnail.stored[top : top + height, left : left + width])
        limit = np.sort(relative[inside])[int(PLATE_BRIGHTNESS * (np.count_nonzero(inside) - 1))]
        for rows in np.split(plates, np.flatnonzero(np.diff(plates) > 1) + 1):
            beyond = np.concatenate([relative[row, peakless[row] : profile[row]] for row in rows.tolist()])
            if np.sort(beyond)[len(beyond) * 3 // 4] >= limit:  # there are gaps between letters
                for row in rows.tolist():
                    cut[top + row, left + peakless[row] :] = 0
                profile[rows] = peakless[rows]
    smooth = _opening(profile, NOISE_LENGTH)
    fold = _fold(smooth)
    if fold is not None and (top + height == len(mask) or smooth[fold] < FOLD_END_NOTCH * smooth[:fold].max()):
        below = top + fold + round(FOLD_OVERLAP * height)
        cut[top + fold : below, left + int(smooth[fold]) :] = 0
        cut[below:] = 0
        smooth, profile = smooth[:fold], profile[:fold]
    elif fold is not None:  # it may be the lower part of a scarred breast: only what extends beyond the rest is cut
        most = int(profile[:fold].max())
        cut[top + fold :, left + most :] = 0
        profile[fold:] = np.minimum(profile[fold:], most)
        kept = 1 - fold / height
    elif top + height == len(mask):  # what reaches the bottom may be abdomen that joins the breast without a notch
        kept = (height - 1 - int(np.flatnonzero(smooth >= FOLD_NOTCH * smooth.max())[-1])) / height
    arm = _armpit(_opening(profile, NIPPLE_LENGTH))
    if arm is not None:
        most = int(profile[arm:].max())
        cut[: top + arm + 1, left + most :] = 0
        profile[:arm] = np.minimum(profile[:arm], most)
    most = max(int(_opening(profile, NIPPLE_LENGTH).max()), 1)
    excess = float(profile.max() - most) / most
    return (mask if np.array_equal(cut, mask) else cut), {"excess": excess, "fold": kept}


def _opening(profile: NDArray[np.int64], share: float) -> NDArray[np.int64]:
    """Profile without peaks shorter than a share of its rows; its ends are repeated."""
    kernel = np.ones((max(round(share * len(profile)), 1), 1), np.uint8)
    around = (0, 0, len(kernel), len(kernel))
    padded = cv2.copyMakeBorder(profile.astype(np.float32)[None], *around, cv2.BORDER_REPLICATE)
    opened: NDArray[np.int64] = np.asarray(cv2.morphologyEx(padded, cv2.MORPH_OPEN, kernel.T), np.int64)[0]
    return opened[len(kernel) : -len(kernel)]


def _armpit(profile: NDArray[np.int64]) -> int | None:
    """Row at which the outline is most concave between an arm above and the breast below; None if there is no arm."""
    half = round(ARM_REACH * len(profile))
    if profile[0] <= profile[half:].max():  # an arm reaches the top
        return None
    rows = np.arange(len(profile))
    corners = [[0, -1], [len(profile) - 1, -1]]  # below the profile, so that the rest of the hull is its upper side
    hull = cv2.convexHull(np.concatenate([np.stack([rows, profile], axis=1), corners]).astype(np.int32))[:, 0]
    upper = hull[hull[:, 1] >= 0]
    upper = upper[np.argsort(upper[:, 0], kind="stable")]
    depth = np.round(np.interp(rows, upper[:, 0], upper[:, 1]) - profile, 6)  # so that every processor agrees
    depth[half:] = 0
    at = int(np.argmax(depth))
    breast = profile[at:].max()
    return at if depth[at] > ARM_DEPTH * breast and profile[0] > breast else None


def _fold(profile: NDArray[np.int64]) -> int | None:
    """Row at which the abdomen or a second fold begins: the profile rises again after it has narrowed; None if it does not."""
    first = len(profile) - round(ARM_REACH * len(profile))
    lower = profile[first:]
    breast = np.maximum.accumulate(profile[round((1 - FOLD_END) * len(profile)) :])[-len(lower) :]
    beyond = np.maximum.accumulate(lower[::-1])[::-1]
    deep = (lower < FOLD_NOTCH * breast) & (np.minimum(beyond, breast) > lower + FOLD_RISE * breast)
    if not deep.any():
        return None
    at = np.flatnonzero(deep)[::-1]
    return first + int(at[np.argmin(lower[at])])


def measure_outline(mask: Mask, border: int) -> dict[str, float]:
    """Measurements for :data:`GATES`; empty if the mask is empty.

    Parameters
    ----------
    mask : uint8 array, shape (rows, columns)
        Not 0 on the breast.
    border : int
        Width in pixels of the border of the image, in which the mask may end before the edge.
    """
    area = cv2.countNonZero(mask)
    if not area:
        return {}
    left, top, width, height = cv2.boundingRect(mask)
    columns = mask.shape[1]
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
        "far_side": max(int(np.count_nonzero(mask[:, column])) for column in (-1, -1 - border)) / int(near[wall]),
        "margin": max(wall - tolerance, 0) / columns,
    }


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Measurements around an outline, where there must be air: dark and even."""

    faint: float  # share of the outline where brightness hardly rises inwards, as where air is taken for the breast
    # Logarithmic bins by which the 75th percentile of the ring around the outline is above the median of the air further away;
    # 0 if there is no such air
    ring: float
    unevenness: float  # logarithmic bins between the 10th and the 75th percentile of air; 0 if there is none

    @property
    def doubt(self) -> float:
        """How far they are from even air, in bins."""
        return self.ring + self.unevenness + FAINT_WEIGHT * self.faint


def measure_surroundings(mask: Mask, air: CoarseGrid, threshold: float) -> Surroundings:
    """Measure the surroundings of an outline.

    Parameters
    ----------
    mask : uint8 array, shape (rows, columns)
        Not 0 on the breast, on the coarse grid.
    air : CoarseGrid
        Brightness above the background.
    threshold : float
        Threshold above the background, as a share of the range.
    """
    edge = (np.asarray(cv2.dilate(mask, _CROSS)) > 0) & (mask == 0)
    smooth, outside = air.smooth, air.outside
    rises = np.asarray(cv2.dilate(smooth, np.ones((5, 5), np.uint8))) >= MIN_RISE * threshold
    faint = float(np.count_nonzero(edge & ~rises)) / max(int(np.count_nonzero(edge)), 1)
    distance = cv2.distanceTransform(cv2.compare(mask, 0.0, cv2.CMP_EQ), cv2.DIST_L1, 3)  # type: ignore[call-overload]  # takes numbers too
    ring = np.sort(smooth[(distance >= RING[0]) & (distance <= RING[1])])
    is_far = distance > AIR_DISTANCE
    far = np.sort(smooth[is_far if outside is None else is_far & ~outside])
    if not len(ring) or len(far) < MIN_AIR * smooth.size:
        return Surroundings(faint, 0.0, 0.0)
    values = np.array([far[len(far) // 10], far[len(far) // 2], far[len(far) * 3 // 4], ring[len(ring) * 3 // 4]], np.float64)
    low, middle, high, around = (log_bins(values).astype(int) - log_bins(-values)).tolist()
    return Surroundings(faint, float(max(around - middle, 0)), float(high - low))


def passes_gates(gates: Mapping[str, float]) -> bool:
    """Whether all measurements lie within the ranges of :data:`GATES`."""
    return bool(gates) and all(low <= gates[name] <= high for name, (low, high) in GATES.items())
