"""What is no breast though it is bright, and what is breast though it lies apart: stripes, light leaks, a nipple."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from fvpipe.imaging.morphology import OPENING, components
from fvpipe.imaging.threshold import BINS
from fvpipe.imaging.thumbnail import Indices, Mask, Thumbnail, border_of
from fvpipe.types import Edge

LEAK_WIDTH, LEAK_LENGTH, LEAK_GAIN = 0.20, 0.03, 1.5  # shares of columns and rows; tissue must outshine a leak so much
LEAK_NARROW, LEAK_UNLIKE = 0.12, 0.18  # of the columns: a wider one must keep its width, and each column its brightness
STRIPE_WIDTH = 0.16  # at most, as a share
STRIPE_LENGTH = 0.10  # of a stripe that does not start at the frame's edge, as a share
NIPPLE = 0.02  # of the breast at most, as a share


def rejoined(mask: Mask, binary: Mask, dim: Mask, radius: int, chest_wall: Edge) -> Mask:
    """Give back a nipple that a dim ring parts from the breast: small, above the threshold, and linked by what is `dim`."""
    left, top, width, height = cv2.boundingRect(mask)
    if not width:
        return mask
    beside = binary & ~mask
    beside[:top], beside[top + height :] = 0, 0
    reach = 4 * radius
    if chest_wall is Edge.LEFT:
        wall, far = slice(0, left + width // 2), slice(left + width + reach, None)
    else:
        wall, far = slice(left + width // 2, None), slice(0, max(left - reach, 0))
    beside[:, wall] = 0  # where leaks are
    if cv2.countNonZero(beside) == cv2.countNonZero(np.ascontiguousarray(beside[:, far])):
        return mask  # what there is, labels for the most part, is out of reach
    blobs, areas = components(beside)
    small = np.flatnonzero((areas >= radius * radius) & (areas <= NIPPLE * cv2.countNonZero(mask)))
    blob = np.isin(blobs, small[small > 0])
    left, top, width, height = cv2.boundingRect(blob.view(np.uint8))
    if not width:
        return mask
    around = tuple(slice(max(at - 2 * reach, 0), at + size + 2 * reach) for at, size in ((top, height), (left, width)))
    joined = mask.copy()
    here, blob, blobs = joined[around], blob[around], blobs[around]
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    bridge = (np.asarray(cv2.dilate(here, kernel), np.uint8) & dim[around]) | here
    _, linked = cv2.connectedComponents(bridge, connectivity=4)
    reached = np.isin(linked, np.unique(np.asarray(linked)[here > 0])) & (bridge > 0)
    blob = np.isin(blobs, np.unique(blobs[blob & reached])) & blob
    if not blob.any():
        return mask
    ring = reached & (cv2.dilate(blob.view(np.uint8), kernel) > 0)
    here[blob | ring] = 255
    contours, _ = cv2.findContours(joined, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros_like(mask)
    cv2.drawContours(filled, [max(contours, key=cv2.contourArea)], -1, 255, cv2.FILLED)
    return filled


def cut_stripes(binary: Mask, mask: Mask, thumbnail: Thumbnail, chest_wall: Edge) -> bool:
    """Take stripes of the background and the paddle's line, which join the breast to the frame, out of `binary`.

    They keep their width from the frame's edge to the breast; a breast that is cut by the frame widens at once.
    """
    indices = thumbnail.indices
    if chest_wall is Edge.RIGHT:
        binary, mask, indices = binary[:, ::-1], mask[:, ::-1], indices[:, ::-1]
    left, top, width, height = cv2.boundingRect(np.ascontiguousarray(mask))
    if not width:
        return False
    rows, columns = mask.shape
    across = (binary[:, ::-1].T, mask[:, ::-1].T, indices[:, ::-1].T)
    found = _cut_stripes_of(*across, thumbnail.relative, columns - left - width, 0)
    # From the top, from the bottom; `cut_leaks` sees to the chest wall.
    for order, line in ((slice(None), top), (slice(None, None, -1), rows - top - height)):
        found |= _cut_stripes_of(binary[order], mask[order], indices[order], thumbnail.relative, line, 1)
    return found


def _cut_stripes_of(binary: Mask, mask: Mask, indices: Indices, relative: NDArray[np.float64], line: int, first: int) -> bool:
    """The same for those that run on from the mask's first `line`, at place `first` or after."""
    depth, places = mask.shape
    shortest = LEAK_LENGTH * depth
    if line:  # where padding ends; a nipple does not keep its width for so long
        line, shortest = min(line + round(OPENING * max(mask.shape)), depth - 1), STRIPE_LENGTH * depth
    found = False
    ends = np.flatnonzero(np.diff(np.concatenate([[0], mask[line] > 0, [0]]).astype(np.int8))).tolist()
    for start, end in zip(ends[::2], ends[1::2], strict=True):
        width = end - start
        if start < first or width > STRIPE_WIDTH * places:
            continue
        beside = 2 + width // 4
        around = slice(max(start - beside, 0), end + beside)
        covered = (mask[line:, around] > 0).sum(axis=1)
        room = mask[:, around].shape[1] - width  # less than twice `beside` in a corner of the frame
        other = np.flatnonzero((covered > width + room / 2) | (covered < width / 2))
        length = int(other[0]) if len(other) else depth - line
        if length >= shortest:
            stripe = relative[indices[: line + length, around]]
            level = np.median(stripe[line:, start - around.start : end - around.start])
            binary[: line + length, around][stripe <= LEAK_GAIN * level] = 0
            found = True
    return found


def cut_leaks(binary: Mask, mask: Mask, thumbnail: Thumbnail) -> bool:
    """Take light that leaks along the chest wall, above and below the breast, out of `binary`.

    A digitised film's edge, and the paddle's shadow, join the breast and stretch its box to the frame's height. They
    differ from tissue in running to the frame's top or bottom as a strip of one width, with one brightness at each
    distance from the edge; where the breast begins beneath it, it outshines the leak.
    """
    rows, columns = mask.shape
    wall = next((column for column in (0, columns - 1) if mask[:, column].any()), None)
    if wall is None:
        return False
    from_wall = slice(None) if wall == 0 else slice(None, None, -1)
    reach = min(math.ceil(1.3 * LEAK_WIDTH * columns) + 4, columns)  # whatever is wider is no leak, how wide it may be
    beside = mask[:, from_wall][:, :reach]
    widths = np.where(beside.min(axis=1) > 0, columns, np.argmin(beside, axis=1))
    found = False
    for order in (slice(None), slice(None, None, -1)):  # from the top, from the bottom
        first = int(np.flatnonzero(widths[order])[0])  # not 0 where rows were padded on
        shortest = STRIPE_LENGTH if first else LEAK_LENGTH
        first = min(first + (round(OPENING * max(mask.shape)) if first else 0), rows - 1)
        end = int(widths[order][first])
        if not 0 < end <= LEAK_WIDTH * columns:
            continue
        wide = end > LEAK_NARROW * columns  # a breast that the frame cuts is wide too, and may widen slowly
        steady = 1.15 if wide else 1.3
        other = np.flatnonzero((widths[order] > steady * end + 2)[first:])
        length = first + int(other[0]) if len(other) else rows
        if length - first < max(shortest * rows, end / 2):
            continue
        reach = min(round(1.5 * end) + 3, columns)
        strip = thumbnail.relative[thumbnail.indices[order, from_wall][:length, :reach]]
        middle = max((first + length) // 2, first + 1)
        lines = np.sort(strip[min(max(first, border_of(mask.shape)), middle - 1) : middle], axis=0)  # no film's border
        leak, tenth = np.median(lines, axis=0), len(lines) // 10
        unlike = np.median((lines[-1 - tenth] - lines[tenth])[:end] / np.maximum(leak[:end], 1 / BINS))
        if wide and unlike > LEAK_UNLIKE:
            continue
        binary[order, from_wall][:length, :reach][strip <= LEAK_GAIN * leak] = 0
        found = True
    return found
