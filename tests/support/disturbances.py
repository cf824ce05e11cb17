"""Disturbances of air and frame, put on a plane of values in [0, 1]: a simulated image, or a real one scaled to its range.

Each takes and returns float64, clipped to [0, 1]. Edges are `left`, `right`, `top`
and `bottom`; amounts are shares of the range.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fvpipe.types import CropBox

Plane = NDArray[np.float64]


def with_ramp(values: Plane, amount: float, edge: str, share: Plane | float = 1.0) -> Plane:
    """Add a ramp that falls from `amount` at an edge to 0 at the opposite one, times a `share` of each pixel."""
    return clipped(values + amount * _from_edge(values.shape, edge) * share)


def with_vignette(values: Plane, amount: float) -> Plane:
    """Brighten the corners by `amount`, or the center by a negative one, with the squared distance from the center."""
    rows, columns = values.shape
    square = (np.linspace(-1, 1, rows)[:, None] ** 2 + np.linspace(-1, 1, columns)[None, :] ** 2) / 2
    return clipped(values + (amount * square if amount > 0 else amount * (square - 1)))


def with_pedestal(values: Plane, amount: float, noise: float, rng: np.random.Generator) -> Plane:
    """Raise black to `amount`, keep white, and add normal noise of standard deviation `noise`."""
    return clipped(amount + (1 - amount) * values + rng.normal(0.0, noise, values.shape))


def with_glow(values: Plane, amount: float, width: float, edge: str = "left", down: bool = True, fade: float = 0.6) -> Plane:
    """Add light that has leaked in along the chest wall.

    Parameters
    ----------
    values : float64 array, shape (rows, columns)
        Values in [0, 1].
    amount : float
        Brightness at the edge where the glow is narrow, as a share of the range.
    width : float
        Columns over which the glow decays at its wide end, as a share of all; a quarter of that at its narrow end.
    edge : str
        ``left`` or ``right``.
    down : bool
        The glow widens and fades from top to bottom, instead of upwards.
    fade : float
        Share of the brightness that is lost on the way.
    """
    along = 1 - _from_edge(values.shape, "top") if down else _from_edge(values.shape, "top")
    distance = 1 - _from_edge(values.shape, edge)
    return clipped(values + (1 - values) * amount * (1 - fade * along) * np.exp(-distance / (width * (0.25 + 0.75 * along))))


def with_two_levels(values: Plane, level: float, field: CropBox) -> Plane:
    """Raise black to `level` inside the field of the collimator, and set everything outside to 0."""
    inside = np.zeros_like(values)
    inside[field.top : field.bottom, field.left : field.right] = 1.0
    return clipped((level + (1 - level) * values) * inside)


def with_margin(values: Plane, share: float, side: str, level: float) -> Plane:
    """Add a strip of a constant level at an edge: `share` is that of the widened (or heightened) frame."""
    axis = 0 if side in ("top", "bottom") else 1
    width = round(values.shape[axis] * share / (1 - share))
    strip = (width, 0) if side in ("left", "top") else (0, width)
    return clipped(np.pad(values, (strip, (0, 0)) if axis == 0 else ((0, 0), strip), constant_values=level))


def with_negative(values: Plane) -> Plane:
    """Exchange black and white."""
    return clipped(1 - values)


def _from_edge(shape: tuple[int, ...], edge: str) -> Plane:
    """1 at an edge, falling to 0 at the opposite one."""
    rows, columns = shape
    plane: Plane = np.linspace(1, 0, columns)[None, :] if edge in ("left", "right") else np.linspace(1, 0, rows)[:, None]
    return 1 - plane if edge in ("right", "bottom") else plane


def clipped(values: Plane) -> Plane:
    """Clip to [0, 1]."""
    return np.clip(values, 0.0, 1.0)
