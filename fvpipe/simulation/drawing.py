"""Simulated mammograms with a known outline of the breast, pectoral muscle and lesion.

Only additions, products, quotients and square roots of float64 are used, and integers. Every processor computes them
alike, so that the same seed gives the same file everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fvpipe.types import CropBox, Laterality, View

Plane = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Anatomy:
    """Properties of a breast that both views share."""

    height: float  # half the extent along the chest wall, as a share of the rows
    depth: float  # chest wall to nipple, as a share of the whole extent along the chest wall
    density: float  # 0 fatty to 1 dense
    lesion: tuple[float, float, float] | None  # depth and height in the breast, and radius as a share of the rows


@dataclass(frozen=True, slots=True)
class Drawing:
    """Drawing of one view."""

    tissue: Plane  # (rows, columns): brightness in [0, 1], 0 outside the breast
    mask: NDArray[np.bool_]  # (rows, columns): True inside the breast, including the pectoral muscle
    lesion: CropBox | None  # bounding box of the lesion

    @property
    def box(self) -> CropBox:
        """Bounding box of the breast."""
        return _bounding_box(self.mask)


def anatomy(rng: np.random.Generator, lesion: bool) -> Anatomy:
    """Draw the properties of a breast at random, with or without a lesion."""
    place = (_uniform(rng, 0.35, 0.65), _uniform(rng, -0.35, 0.35), _uniform(rng, 0.030, 0.045)) if lesion else None
    return Anatomy(_uniform(rng, 0.25, 0.36), _uniform(rng, 0.45, 0.80), _uniform(rng, 0.2, 0.9), place)


def draw(rng: np.random.Generator, shape: tuple[int, int], view: View, side: Laterality, breast: Anatomy) -> Drawing:
    """Draw one view.

    Parameters
    ----------
    rng : Generator
        Source of random numbers.
    shape : (int, int)
        Rows and columns.
    view : View
        The MLO has a pectoral muscle and an axilla.
    side : Laterality
        The chest wall of a left breast is on the left.
    breast : Anatomy
        Properties shared with the other view.
    """
    rows, columns = shape
    y = (np.arange(rows, dtype=np.float64) + 0.5)[:, None]
    x = (np.arange(columns, dtype=np.float64) + 0.5)[None, :]
    half = breast.height * rows
    depth = min(breast.depth * 2 * half, 0.85 * columns)
    middle = (0.5 if view is View.CC else 0.60) * rows + _uniform(rng, -0.02, 0.02) * rows
    inside = _ellipse(y, x, middle, 0.0, half, depth)
    nipple = _ellipse(y, x, middle, depth, 0.014 * rows, 0.012 * rows)
    if view is View.MLO:
        axilla = _uniform(rng, 0.25, 0.40) * columns
        t = np.clip(y / middle, 0.0, 1.0)
        edge = axilla + (depth - axilla) * (2 * t - t * t)
        above = 1 - (x / edge) * (x / edge)
        inside = np.where(y < middle, above, inside)
    level = np.maximum(inside, 0.15 * nipple)
    mask = level > 0
    level = np.clip(level, 0.0, 1.0)
    thickness = np.minimum(1.0, 2.2 * np.sqrt(level))  # a compressed breast is flat, and rounded at the skin
    gland = np.clip(_noise(rng, shape, (5, 12, 28, 64)) * 2.6 - 1.55 + 0.9 * breast.density, 0.0, 1.0) * level
    strands = 1 - np.abs(2 * _noise(rng, shape, (12, 30, 70)) - 1)  # bright where smooth noise crosses 0.5
    strands = strands * strands * strands * strands * strands * strands
    grain = _noise(rng, shape, (40, 90, 200))
    tissue = thickness * (0.13 + 0.08 * grain + 0.13 * strands + 0.34 * gland * (0.75 + 0.25 * grain))
    if view is View.MLO:
        tissue += 0.26 * _pectoral(rng, y, x, rows, columns) * thickness
    box = None
    if breast.lesion is not None:
        tissue, box = _with_lesion(rng, tissue, mask, (middle, half, depth), breast.lesion)
    tissue = np.where(mask, np.clip(tissue, 0.035, 1.0), 0.0)  # the skin is never black
    if side is Laterality.RIGHT:
        tissue, mask = tissue[:, ::-1], mask[:, ::-1]
        box = box and CropBox(box.top, box.bottom, columns - box.right, columns - box.left)
    return Drawing(np.ascontiguousarray(tissue), np.ascontiguousarray(mask), box)


def _ellipse(y: Plane, x: Plane, cy: float, cx: float, ry: float, rx: float) -> Plane:
    """Level set of an ellipse: 1 in the center, 0 on the contour, negative outside."""
    v, u = (y - cy) / ry, (x - cx) / rx
    return 1 - v * v - u * u


def _pectoral(rng: np.random.Generator, y: Plane, x: Plane, rows: int, columns: int) -> Plane:
    """Pectoral muscle: a triangle in the upper corner of the chest wall, with a soft edge."""
    width, length = _uniform(rng, 0.18, 0.27) * columns, _uniform(rng, 0.42, 0.60) * rows
    inward = (1 - y / length) - x / width
    return np.clip(inward * 12, 0.0, 1.0)


def _with_lesion(
    rng: np.random.Generator,
    tissue: Plane,
    mask: NDArray[np.bool_],
    frame: tuple[float, float, float],
    lesion: tuple[float, float, float],
) -> tuple[Plane, CropBox]:
    """Add a spiculated mass, a bright core with rays, and return its bounding box."""
    rows, columns = tissue.shape
    middle, half, depth = frame
    radius = lesion[2] * rows
    cy, cx = int(middle + lesion[1] * half), int(lesion[0] * depth)
    y, x = np.arange(rows, dtype=np.float64)[:, None], np.arange(columns, dtype=np.float64)[None, :]
    core = np.clip(_ellipse(y, x, cy, cx, radius, radius), 0.0, 1.0)
    rays = np.zeros(tissue.shape, np.uint8)
    for _ in range(14):
        dy, dx = _uniform(rng, -1, 1), _uniform(rng, -1, 1)
        length = radius * _uniform(rng, 1.2, 1.8) / max((dy * dy + dx * dx) ** 0.5, 0.1)
        cv2.line(rays, (cx, cy), (int(cx + dx * length), int(cy + dy * length)), 255, max(1, int(radius / 14)))
    drawn = (rays > 0) & mask
    blurred = cv2.blur(rays, (5, 5)) / 255.0
    added = tissue + 0.36 * core * (2 - core) + 0.14 * blurred
    return np.where(mask, added, tissue), _bounding_box((core > 0) & mask | drawn)


def _noise(rng: np.random.Generator, shape: tuple[int, int], cells: tuple[int, ...]) -> Plane:
    """Smooth noise in [0, 1]: random values on successively finer lattices, each with half the weight of the one before."""
    total, weight = np.zeros(shape, np.float64), 0.0
    for octave, count in enumerate(cells):
        amplitude = 1 / (1 << octave)
        lattice = rng.random((count + 2, count * shape[1] // shape[0] + 2))
        total += amplitude * _spread(lattice, shape)
        weight += amplitude
    return total / weight


def _spread(lattice: Plane, shape: tuple[int, int]) -> Plane:
    rows, down = _lattice_places(shape[0], lattice.shape[0] - 1)
    columns, across = _lattice_places(shape[1], lattice.shape[1] - 1)
    wide = lattice[:, columns] * (1 - across) + lattice[:, columns + 1] * across
    tall: Plane = wide[rows] * (1 - down)[:, None] + wide[rows + 1] * down[:, None]
    return tall


def _lattice_places(length: int, cells: int) -> tuple[NDArray[np.int64], Plane]:
    at = np.arange(length, dtype=np.float64) * cells / length
    cell = np.floor(at).astype(np.int64)
    t = at - cell
    return cell, t * t * (3 - 2 * t)


def stored_pixels(
    rng: np.random.Generator,
    drawing: Drawing,
    bits: int,
    *,
    used: float = 0.9,
    noise: float = 0.004,
    pedestal: float = 0.0,
    plate: str = "",
    monochrome1: bool = False,
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Convert tissue to stored values.

    Parameters
    ----------
    rng : Generator
        Source of random numbers.
    drawing : Drawing
        Tissue and mask.
    bits : int
        Bits Stored.
    used : float
        Brightest tissue, as a share of the range.
    noise : float
        Standard deviation of the noise, as a share of the range; the background has noise only on a pedestal.
    pedestal : float
        Background level, as a share of the range.
    plate : str
        Text of a bright label in the background, or empty.
    monochrome1 : bool
        Invert the values, so that 0 is white.

    Returns
    -------
    pixels : uint8 or uint16 array, shape (rows, columns)
        Stored values.
    """
    top = (1 << bits) - 1
    values = np.rint((pedestal + drawing.tissue * (used - pedestal)) * top).astype(np.int64)
    amplitude = int(
        noise * top * 1.7320508
    )  # half the sum of four uniform numbers of this half width has the standard deviation `noise`, nearly
    if amplitude:
        rough = rng.integers(-amplitude, amplitude + 1, (4, *values.shape), dtype=np.int32).sum(axis=0) // 2
        values += np.where(drawing.mask | (pedestal > 0), rough, 0)
    values = np.clip(values, np.where(drawing.mask, 1, 0), top)
    if plate:
        _stamp(values, drawing, plate, int(0.95 * top))
    if monochrome1:
        values = top - values
    return values.astype(np.uint8) if bits <= 8 else values.astype(np.uint16)


def _stamp(values: NDArray[np.int64], drawing: Drawing, text: str, level: int) -> None:
    """Write the label into the upper corner away from the chest wall."""
    rows, columns = values.shape
    canvas = np.zeros(values.shape, np.uint8)
    size = rows / 900
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, max(1, rows // 400))
    left = int(0.93 * columns) - width if drawing.mask[:, 0].any() else int(0.07 * columns)
    cv2.putText(canvas, text, (left, int(0.05 * rows) + height), cv2.FONT_HERSHEY_SIMPLEX, size, 255, max(1, rows // 400))
    values[(canvas > 0) & ~drawing.mask] = level


def _bounding_box(mask: NDArray[np.bool_]) -> CropBox:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return CropBox(int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)


def _uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(rng.random())
