"""Corrections of a thresholded image: bright stripes and light leaks removed, a separated nipple restored."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fvpipe.imaging.segmentation.morphology import OPENING_RADIUS, fill_largest, label_components
from fvpipe.imaging.segmentation.threshold import BINS
from fvpipe.imaging.segmentation.thumbnail import Mask, Thumbnail, border_width

# Shares are of the rows for a length along the chest wall, of the columns for a width away from it.
LEAK_WIDTH = 0.20  # of a light leak at most
LEAK_LENGTH = 0.03  # of a light leak at least
LEAK_GAIN = 1.5  # tissue is brighter than a leak or stripe by this factor
LEAK_NARROW = 0.12  # a wider leak must keep its width, and each of its columns its brightness
LEAK_VARIATION = 0.18  # relative variation of brightness along a wide leak at most
STRIPE_WIDTH = 0.16  # of a stripe at most
STRIPE_LENGTH = 0.10  # of a stripe that does not start at the edge of the image at least
NIPPLE_AREA = 0.02  # of the breast at most


def rejoin_nipple(mask: Mask, binary: Mask, dim: Callable[[], Mask], radius: int) -> Mask:
    """Add a nipple that a dim ring separates from the breast.

    Parameters
    ----------
    mask : uint8 array, shape (rows, columns)
        255 on the breast.
    binary : uint8 array, shape (rows, columns)
        255 above the threshold. A nipple is a small component of it beyond the middle of the breast.
    dim : callable
        Makes a uint8 array, shape (rows, columns): 255 above a lower threshold, which the ring must exceed.
    radius : int
        Radius of the opening in pixels.

    Returns
    -------
    mask : uint8 array, shape (rows, columns)
        A new mask with nipple and ring, or `mask` itself if no nipple was found.
    """
    left, top, width, height = cv2.boundingRect(mask)
    if not width:
        return mask
    candidates = binary & ~mask
    candidates[:top], candidates[top + height :] = 0, 0
    reach = 4 * radius
    candidates[:, : left + width // 2] = 0  # there are light leaks
    if cv2.countNonZero(candidates) == cv2.countNonZero(np.ascontiguousarray(candidates[:, left + width + reach :])):
        return mask  # all candidates, mostly label plates, are too far away
    labels, areas = label_components(candidates)
    small = np.flatnonzero((areas >= radius * radius) & (areas <= NIPPLE_AREA * cv2.countNonZero(mask)))
    nipple = np.isin(labels, small[small > 0])
    left, top, width, height = cv2.boundingRect(nipple.view(np.uint8))
    if not width:
        return mask
    around = tuple(slice(max(start - 2 * reach, 0), start + size + 2 * reach) for start, size in ((top, height), (left, width)))
    joined = mask.copy()
    part, nipple, labels = joined[around], nipple[around], labels[around]
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    bridge = (np.asarray(cv2.dilate(part, kernel), np.uint8) & dim()[around]) | part
    _, linked = cv2.connectedComponents(bridge, connectivity=4)
    reached = np.isin(linked, np.unique(np.asarray(linked)[part > 0])) & (bridge > 0)
    nipple = np.isin(labels, np.unique(labels[nipple & reached])) & nipple
    if not nipple.any():
        return mask
    ring = reached & (cv2.dilate(nipple.view(np.uint8), kernel) > 0)
    part[nipple | ring] = 255
    return fill_largest(joined)


def remove_stripes(binary: Mask, mask: Mask, thumbnail: Thumbnail) -> bool:
    """Remove stripes of the background, and the line of the paddle, that connect the breast to the edge of the image.

    A stripe keeps its width from the edge to the breast, while a breast that is cut off by the edge widens at once.

    Parameters
    ----------
    binary : uint8 array, shape (rows, columns)
        255 above the threshold; changed in place.
    mask : uint8 array, shape (rows, columns)
        255 on the breast and the stripes connected to it.
    thumbnail : Thumbnail
        Brightness of each pixel.

    Returns
    -------
    changed : bool
        Whether a stripe was removed.
    """
    left, top, width, height = cv2.boundingRect(mask)
    if not width:
        return False
    rows, columns = mask.shape
    stored, relative = thumbnail.stored, thumbnail.relative
    # From the edge opposite to the chest wall, from the top and from the bottom; `remove_leaks` handles the chest wall.
    turned = (binary[:, ::-1].T, mask[:, ::-1].T, stored[:, ::-1].T)
    changed = _remove_stripes_from_top(*turned, relative, columns - left - width, 0)
    for order, row in ((slice(None), top), (slice(None, None, -1), rows - top - height)):
        changed |= _remove_stripes_from_top(binary[order], mask[order], stored[order], relative, row, left + 1)
    return changed


def _remove_stripes_from_top(
    binary: Mask, mask: Mask, stored: NDArray[Any], relative: NDArray[np.float64], row: int, first_column: int
) -> bool:
    """Remove stripes that run downwards from `row`, the first of the mask, at `first_column` or to the right of it."""
    rows, columns = mask.shape
    min_length = LEAK_LENGTH * rows
    if row:  # padding ends here; a nipple does not keep its width over the longer minimum
        row, min_length = min(row + round(OPENING_RADIUS * max(mask.shape)), rows - 1), STRIPE_LENGTH * rows
    changed = False
    ends = np.flatnonzero(np.diff(np.concatenate([[0], mask[row] > 0, [0]]).astype(np.int8))).tolist()
    for start, end in zip(ends[::2], ends[1::2], strict=True):
        width = end - start
        if start < first_column or width > STRIPE_WIDTH * columns:
            continue
        margin = 2 + width // 4
        around = slice(max(start - margin, 0), end + margin)
        covered = (mask[row:, around] > 0).sum(axis=1)
        free = mask[:, around].shape[1] - width  # less than twice the margin in a corner of the image
        other = np.flatnonzero((covered > width + free / 2) | (covered < width / 2))
        length = int(other[0]) if len(other) else rows - row
        if length >= min_length:
            stripe = relative[stored[: row + length, around]]
            level = np.median(stripe[row:, start - around.start : end - around.start])
            tissue = np.sort(relative[stored[mask > 0]])
            if tissue[len(tissue) // 3] < LEAK_GAIN * level:  # as bright as the breast: a nipple
                continue
            binary[: row + length, around][stripe <= LEAK_GAIN * level] = 0
            changed = True
    return changed


def remove_leaks(binary: Mask, mask: Mask, thumbnail: Thumbnail) -> bool:
    """Remove light leaks along the chest wall, above and below the breast.

    The edge of a digitized film, and the shadow of the paddle, connect to the breast and extend its box to the height of
    the image. Unlike tissue they run to the top or bottom edge as a strip of constant width, with a constant brightness
    at each distance from the chest wall; the breast beneath is brighter.

    Parameters
    ----------
    binary : uint8 array, shape (rows, columns)
        255 above the threshold; changed in place.
    mask : uint8 array, shape (rows, columns)
        255 on the breast and the leaks connected to it.
    thumbnail : Thumbnail
        Brightness of each pixel.

    Returns
    -------
    changed : bool
        Whether a leak was removed.
    """
    rows, columns = mask.shape
    left, _, width, _ = cv2.boundingRect(mask)
    if not width:
        return False
    binary, mask, stored = binary[:, left:], mask[:, left:], thumbnail.stored[:, left:]
    reach = min(math.ceil(1.3 * LEAK_WIDTH * columns) + 4, mask.shape[1])  # anything wider is not a leak
    near_wall = mask[:, :reach]
    widths = np.where(near_wall.min(axis=1) > 0, columns, np.argmin(near_wall, axis=1))
    changed = False
    for order in (slice(None), slice(None, None, -1)):  # from the top, from the bottom
        first = int(np.flatnonzero(widths[order])[0])  # not 0 if rows were padded
        min_length = STRIPE_LENGTH if first else LEAK_LENGTH
        first = min(first + (round(OPENING_RADIUS * max(mask.shape)) if first else 0), rows - 1)
        width = int(widths[order][first])
        if not 0 < width <= LEAK_WIDTH * columns:
            continue
        wide = width > LEAK_NARROW * columns  # so is a breast that is cut off by the edge, which may widen slowly
        tolerance = 1.15 if wide else 1.3
        other = np.flatnonzero((widths[order] > tolerance * width + 2)[first:])
        length = first + int(other[0]) if len(other) else rows
        if length - first < max(min_length * rows, width / 2):
            continue
        reach = min(round(1.5 * width) + 3, columns)
        strip = thumbnail.relative[stored[order][:length, :reach]]
        middle = max((first + length) // 2, first + 1)
        lines = np.sort(strip[min(max(first, border_width(mask.shape)), middle - 1) : middle], axis=0)  # without a film border
        leak, tenth = np.median(lines, axis=0), len(lines) // 10
        variation = np.median((lines[-1 - tenth] - lines[tenth])[:width] / np.maximum(leak[:width], 1 / BINS))
        # An implant is brighter than any tissue: the darker part of the breast must be brighter than a leak, too.
        beneath = thumbnail.relative[stored[order][length : 2 * length - first, :width]]
        tissue = np.sort(thumbnail.relative[stored[order][length:][mask[order][length:] > 0]])
        brighter = beneath.size and min(np.median(beneath), tissue[len(tissue) // 3]) >= LEAK_GAIN * np.median(leak[:width])
        if (wide and variation > LEAK_VARIATION) or not brighter:
            continue
        binary[order][:length, :reach][strip <= LEAK_GAIN * leak] = 0
        changed = True
    return changed
