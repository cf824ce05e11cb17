"""The value of each stored value, as a table: Modality LUT or rescale, then window or VOI LUT, then polarity.

The arithmetic is that of PS3.3 C.11, on at most 65,536 float64 values instead of on an image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fvpipe.dicom.decoding.layout import PixelLayout
from fvpipe.dicom.elements import RejectedFile
from fvpipe.dicom.value_mapping import InvalidValue, LookupTable, PixelPadding, ValueMapping, Window
from fvpipe.reasons import Flag, Reason


@dataclass(frozen=True, slots=True)
class ValueTable:
    """Values by index, and the range that the header declares for them, whether or not they fill it."""

    values: NDArray[np.float64]  # (2 ** bits_stored,): value of each stored value
    low: float  # of the declared range
    high: float


@np.errstate(over="ignore", invalid="ignore")  # values that are not finite are rejected
def value_table(layout: PixelLayout, mapping: ValueMapping, voi: str) -> tuple[NDArray[np.float64], Flag]:
    """Compute the value of each stored value.

    Parameters
    ----------
    layout : PixelLayout
        Its stored bits and sign give the stored values.
    mapping : ValueMapping
        Applied in the order of the standard.
    voi : {"none", "window", "lut", "auto"}
        What is applied after the Modality LUT or rescale: nothing, the first window, the first VOI LUT, or the first of
        window and VOI LUT that is valid (nothing where neither is).

    Returns
    -------
    values : float64 array, shape (2 ** bits_stored,)
        By index: stored value, plus 2 ** (bits_stored - 1) for signed ones. Larger is brighter.
    flags : Flag
        ``VOI_INVALID`` and ``VOI_ABSENT`` where they apply.

    Raises
    ------
    RejectedFile
        Values that are not finite, or an invalid window or VOI LUT that `voi` demands.
    """
    count = 1 << layout.bits_stored
    stored = np.arange(count, dtype=np.float64) - (count // 2 if layout.signed else 0)
    if isinstance(mapping.modality, LookupTable):
        table = apply_table(stored, mapping.modality)
    else:
        slope, intercept = mapping.modality.slope, mapping.modality.intercept
        values = stored * slope + intercept
        if not np.isfinite(values).all():
            raise RejectedFile(
                Reason.RESCALE_INVALID, f"slope {slope:g}, intercept {intercept:g} give values that are not finite"
            )
        table = ValueTable(values, float(values.min()), float(values.max()))
    table, flags = _apply_voi(table, mapping, voi)
    if mapping.inverted:
        return table.high + table.low - table.values, flags  # over the declared range, not the image's own
    return table.values, flags


def apply_table(inputs: NDArray[np.float64], lut: LookupTable) -> ValueTable:
    """Look up each input, rounded to the nearest integer."""
    entries = np.frombuffer(lut.words, "<u2").astype(np.float64)
    first, low, high = lut.first, float(inputs.min()), float(inputs.max())
    # The word may have been written with the other sign (US for SS): then the table begins beyond every input.
    other = first - (1 << 16) if first >= 1 << 15 else first + (1 << 16) if first < 0 else first
    if first > high or first + len(entries) <= low:
        first = other if low < other + len(entries) and other <= high else first
    at = np.clip(np.rint(inputs) - first, 0, len(entries) - 1)
    return ValueTable(entries[at.astype(np.intp)], 0.0, 2.0**lut.bits - 1)


def apply_window(table: ValueTable, window: Window) -> ValueTable:
    """Apply PS3.3 C.11.2.1.2 and C.11.2.1.3. The output keeps the declared range, whatever the sign of the slope."""
    center, width = window.center, window.width
    if window.function == "SIGMOID":
        share = 1 / (1 + np.exp(-4 * (table.values - center) / width))
    else:
        if window.function == "LINEAR":
            center, width = center - 0.5, width - 1
        offset = table.values - center
        share = np.clip(offset / width + 0.5, 0, 1) if width else (offset > 0).astype(np.float64)
    return ValueTable(share * (table.high - table.low) + table.low, table.low, table.high)


def _apply_voi(table: ValueTable, mapping: ValueMapping, voi: str) -> tuple[ValueTable, Flag]:
    valid = (found for found in (mapping.window, mapping.voi_lut) if found and not isinstance(found, InvalidValue))
    applied = next(valid, None) if voi == "auto" else {"none": None, "window": mapping.window, "lut": mapping.voi_lut}[voi]
    if isinstance(applied, InvalidValue):
        raise RejectedFile(applied.reason, applied.detail)
    invalid = isinstance(mapping.window, InvalidValue) or isinstance(mapping.voi_lut, InvalidValue)
    flags = Flag.VOI_INVALID if invalid else Flag(0)
    if isinstance(applied, Window):
        return apply_window(table, applied), flags
    if isinstance(applied, LookupTable):
        return apply_table(table.values, applied), flags
    return table, flags if voi == "none" else flags | Flag.VOI_ABSENT


def padding_range(layout: PixelLayout, padding: PixelPadding | InvalidValue | None) -> tuple[int, int] | None:
    """Return the first and last stored value that are Pixel Padding.

    Its two bytes are read with the sign of the pixels, whatever value representation they have (PS3.3 C.7.5.1.1.2).

    Parameters
    ----------
    layout : PixelLayout
        Its stored bits and sign give the stored values.
    padding : PixelPadding, InvalidValue or None
        By the header.

    Returns
    -------
    (int, int) or None
        Within the range of stored values. None where the header declares none, where no stored value is padding, and where all
        are, so that nothing of the image would be left.
    """
    if padding is None or isinstance(padding, InvalidValue):
        return None
    low = -(1 << layout.bits_stored - 1) if layout.signed else 0
    high = low + (1 << layout.bits_stored) - 1
    half = 1 << 15 if layout.signed else 0
    ends = [((word + half) & 0xFFFF) - half for word in (padding.first, padding.last)]
    first, last = max(min(ends), low), min(max(ends), high)
    return None if first > last or (first, last) == (low, high) else (first, last)


def padding_marks(layout: PixelLayout, padding: PixelPadding | InvalidValue | None) -> NDArray[np.bool_] | None:
    """Mark the indices that are Pixel Padding, which is compared with stored values, never with rescaled ones.

    Returns
    -------
    marks : bool array, shape (2 ** bits_stored,), or None
        None where :func:`padding_range` gives none.
    """
    found = padding_range(layout, padding)
    if found is None:
        return None
    count = 1 << layout.bits_stored
    offset = count // 2 if layout.signed else 0
    marks = np.zeros(count, np.bool_)
    marks[found[0] + offset : found[1] + offset + 1] = True
    return marks
