"""What each stored value means: Modality LUT or rescale, window or VOI LUT, polarity, padding."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from fvpipe.dicom.elements import RejectedFile, items, number, raise_transient, text, texts
from fvpipe.dicom.layout import PixelLayout
from fvpipe.reasons import Flag, Reason


def check_rescale(header: Dataset) -> None:
    """Slope and intercept are finite and the slope is not 0; a Modality LUT, which wins over them, is whole."""
    tables = items(header, "ModalityLUTSequence")
    if tables:
        lookup_table(tables[0], "Modality LUT")
        return
    slope, intercept = number(header, "RescaleSlope", 1.0), number(header, "RescaleIntercept", 0.0)
    if slope == 0 or not math.isfinite(slope) or not math.isfinite(intercept):
        found = f"slope {slope:g}, intercept {intercept:g}"
        raise RejectedFile(Reason.RESCALE_INVALID, f"{found}; expected finite numbers and a slope other than 0")


@dataclass(frozen=True, slots=True)
class LookupTable:
    """An item of a Modality LUT or VOI LUT Sequence (PS3.3 C.11.1.1).

    Attributes
    ----------
    first : int
        The value that the first entry stands for; smaller values have it too, larger ones than the last the last.
    bits : int
        Of an entry.
    entries : sequence of int
    """

    first: int
    bits: int
    entries: Sequence[int]


def lookup_table(item: Dataset, name: str) -> LookupTable:
    """Read a table whose descriptor agrees with its data; `name` is what messages call it."""
    try:
        count, first, bits = (int(part) for part in item.LUTDescriptor)
        count = count or 65536
        entries = item.LUTData
        if isinstance(entries, bytes):  # OW: words, or bytes padded to an even number
            order = "<" if item.original_encoding[1] else ">"
            single = bits <= 8 and len(entries) == count + count % 2
            entries = list(entries[:count]) if single else struct.unpack(f"{order}{len(entries) // 2}H", entries)
        found = len(entries)
    except Exception as error:
        raise_transient(error)
        raise RejectedFile(Reason.LUT_INVALID, f"{name} without a readable descriptor and data") from None
    if found != count or not 1 <= bits <= 16:
        raise RejectedFile(Reason.LUT_INVALID, f"{name} of {found} entries and {bits} bits; its descriptor says {count}")
    return LookupTable(first, bits, entries)


def value_table(header: Dataset, layout: PixelLayout, voi: str) -> tuple[NDArray[np.float64], Flag]:
    """What each index means: Modality LUT or rescale, then the VOI, then MONOCHROME1 turned over, once."""
    count = 1 << layout.bits_stored
    stored = np.arange(count, dtype=np.float64) - (count // 2 if layout.signed else 0)
    tables = items(header, "ModalityLUTSequence")
    if tables:
        meaning = _looked_up(stored, lookup_table(tables[0], "Modality LUT"))
    else:
        slope, intercept = number(header, "RescaleSlope", 1.0), number(header, "RescaleIntercept", 0.0)
        values = stored * slope + intercept
        if not np.isfinite(values).all():
            raise RejectedFile(
                Reason.RESCALE_INVALID, f"slope {slope:g}, intercept {intercept:g} give values that are not finite"
            )
        meaning = _Meaning(values, float(values.min()), float(values.max()))
    meaning, flags = _apply_voi(meaning, header, voi)
    if layout.photometric_interpretation == "MONOCHROME1":
        return meaning.high + meaning.low - meaning.values, flags  # over the declared range, not the image's own
    return meaning.values, flags


@dataclass(frozen=True, slots=True)
class _Meaning:
    """A table of values, and the range that they are declared to have, whether or not they fill it."""

    values: NDArray[np.float64]
    low: float
    high: float


def _looked_up(values: NDArray[np.float64], table: LookupTable) -> _Meaning:
    entries = np.asarray(table.entries, np.float64)
    at = np.clip(np.rint(values) - table.first, 0, len(entries) - 1)
    return _Meaning(entries[at.astype(np.intp)], 0.0, 2.0**table.bits - 1)


def _apply_voi(meaning: _Meaning, header: Dataset, voi: str) -> tuple[_Meaning, Flag]:
    """Apply the first window or VOI LUT; what breaks the standard is rejected where it would be applied, else flagged."""
    flags = Flag(0)
    window: _Window | None = None
    table: LookupTable | None = None
    try:
        window = _window(header)
    except RejectedFile:
        if voi == "window":
            raise
        flags |= Flag.VOI_INVALID
    try:
        tables = [lookup_table(item, "VOI LUT") for item in items(header, "VOILUTSequence")]
        table = tables[0] if tables else None
    except RejectedFile:
        if voi == "lut":
            raise
        flags |= Flag.VOI_INVALID
    if voi == "window" and window is not None:
        return _windowed(meaning, window), flags
    if voi == "lut" and table is not None:
        return _looked_up(meaning.values, table), flags
    return meaning, flags if voi == "none" else flags | Flag.VOI_ABSENT


@dataclass(frozen=True, slots=True)
class _Window:
    function: str
    center: float
    width: float


def _window(header: Dataset) -> _Window | None:
    """The first window of the header, by PS3.3 C.11.2."""
    centers, widths = texts(header, "WindowCenter"), texts(header, "WindowWidth")
    if len(centers) != len(widths):
        raise RejectedFile(Reason.WINDOW_INVALID, f"{len(centers)} window centers and {len(widths)} widths")
    function = text(header, "VOILUTFunction").upper() or "LINEAR"
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise RejectedFile(Reason.WINDOW_INVALID, "unknown VOI LUT Function; expected LINEAR, LINEAR_EXACT or SIGMOID")
    if not centers:
        return None
    try:
        center, width = float(centers[0]), float(widths[0])
    except ValueError:
        raise RejectedFile(Reason.WINDOW_INVALID, "a window that is no number") from None
    if not np.isfinite([center, width]).all() or width <= 0 or (function == "LINEAR" and width < 1):
        found = f"window center {center:g}, width {width:g}"
        raise RejectedFile(Reason.WINDOW_INVALID, f"{found}; expected finite, and a positive width")
    return _Window(function, center, width)


def _windowed(meaning: _Meaning, window: _Window) -> _Meaning:
    """PS3.3 C.11.2.1.2 and C.11.2.1.3. The output keeps the declared range, from dark to bright whatever the slope's sign."""
    center, width = window.center, window.width
    if window.function == "SIGMOID":
        share = 1 / (1 + np.exp(-4 * (meaning.values - center) / width))
    else:
        if window.function == "LINEAR":
            center, width = center - 0.5, width - 1
        offset = meaning.values - center
        share = np.clip(offset / width + 0.5, 0, 1) if width else (offset > 0).astype(np.float64)
    return _Meaning(share * (meaning.high - meaning.low) + meaning.low, meaning.low, meaning.high)


def padding_marks(header: Dataset, layout: PixelLayout) -> NDArray[np.bool_] | None:
    """Which indices are Pixel Padding: compared as stored values, never as rescaled ones."""
    ends = [texts(header, keyword) for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    if not ends[0]:
        return None
    count = 1 << layout.bits_stored
    offset = count // 2 if layout.signed else 0
    try:
        first = int(ends[0][0]) + offset
        last = int(ends[1][0]) + offset if ends[1] else first
    except ValueError:
        return None  # raw bytes of the wrong length: no value that a pixel could be compared with
    first, last = sorted((first, last))
    if last < 0 or first >= count:
        return None
    marks = np.zeros(count, np.bool_)
    marks[max(first, 0) : last + 1] = True
    return marks
