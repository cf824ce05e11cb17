"""The mapping from stored values to values, parsed: Modality LUT or rescale, window, VOI LUT, polarity, padding.

:mod:`fvpipe.dicom.value_table` applies it.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pydantic import ConfigDict
from pydicom.dataset import Dataset

from fvpipe.dicom.elements import RejectedFile, items, number, raise_transient, text, texts
from fvpipe.reasons import Reason

MIN_WORD, MAX_WORD = -(2**15), 2**16 - 1  # of 16 bits, whether read as signed or unsigned
TIMES = 4  # as large steps of a LUT as with the bytes of its entries exchanged: they are
WINDOW_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


@dataclass(frozen=True, slots=True)
class InvalidValue:
    """A window or VOI LUT that breaks the standard: a rejection where a pipeline applies it, else a flag."""

    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Rescale:
    """value = slope x stored value + intercept; both are finite and the slope is not 0."""

    slope: float
    intercept: float


@dataclass(frozen=True, slots=True)
class LookupTable:
    """An item of a Modality LUT or VOI LUT Sequence (PS3.3 C.11.1.1)."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    first: int  # the input of the first entry; smaller inputs give the first entry, inputs beyond the table the last
    bits: int  # of an entry, 1 to 16
    words: bytes  # the entries as little-endian uint16


@dataclass(frozen=True, slots=True)
class Window:
    """The first window of a header (PS3.3 C.11.2.1.2)."""

    function: str  # LINEAR, LINEAR_EXACT or SIGMOID
    # In values after the Modality LUT or rescale. The width is positive, and at least 1 for LINEAR.
    center: float
    width: float


@dataclass(frozen=True, slots=True)
class PixelPadding:
    """Stored values that mark pixels outside the image, from `first` to `last` or the other way round, both included.

    As the header writes them: with the sign of their value representation, which need not be that of the pixels.
    """

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class ValueMapping:
    """Everything that DICOM does to a stored value."""

    # The Modality LUT where there is one, else the rescale (slope 1, intercept 0 where it is absent)
    modality: Rescale | LookupTable
    window: Window | InvalidValue | None  # the first window; None where the header has none
    # The first VOI LUT; invalid where any is invalid; None where the header has none
    voi_lut: LookupTable | InvalidValue | None
    inverted: bool  # MONOCHROME1: the smallest value is white
    padding: PixelPadding | InvalidValue | None  # None where the header declares none


# --- parsing ----------------------------------------------------------------------------------------------------------


def read_modality(dataset: Dataset) -> Rescale | LookupTable:
    """Read the Modality LUT, which takes precedence, or slope and intercept.

    Raises
    ------
    RejectedFile
        An invalid table, a slope of 0, or a slope or intercept that is not a finite number.
    """
    tables = items(dataset, "ModalityLUTSequence")
    if tables:
        return _lookup_table(tables[0], "Modality LUT")
    slope, intercept = number(dataset, "RescaleSlope", 1.0), number(dataset, "RescaleIntercept", 0.0)
    if slope == 0 or not math.isfinite(slope) or not math.isfinite(intercept):
        found = f"slope {slope:g}, intercept {intercept:g}"
        raise RejectedFile(Reason.RESCALE_INVALID, f"{found}; expected finite numbers and a slope other than 0")
    return Rescale(slope, intercept)


def read_window(dataset: Dataset) -> Window | InvalidValue | None:
    """Read the first window, by PS3.3 C.11.2."""
    try:
        return _window(dataset)
    except RejectedFile as rejected:
        return InvalidValue(rejected.reason, rejected.detail)


def read_voi_lut(dataset: Dataset) -> LookupTable | InvalidValue | None:
    """Read the first VOI LUT; the others are only checked."""
    try:
        tables = [_lookup_table(item, "VOI LUT") for item in items(dataset, "VOILUTSequence")]
    except RejectedFile as rejected:
        return InvalidValue(rejected.reason, rejected.detail)
    return tables[0] if tables else None


def read_padding(dataset: Dataset) -> PixelPadding | InvalidValue | None:
    """Read Pixel Padding Value and Range Limit, each one 16-bit word of either sign.

    Raises
    ------
    RejectedFile
        The bytes cannot be read as their value representation.
    """
    value, limit = texts(dataset, "PixelPaddingValue"), texts(dataset, "PixelPaddingRangeLimit")
    if not value and not limit:
        return None
    try:
        (first,) = map(int, set(value))
        (last,) = map(int, set(limit or value))
    except ValueError:  # several values, none, or no whole number
        first = last = MAX_WORD + 1
    if not all(MIN_WORD <= word <= MAX_WORD for word in (first, last)):
        return InvalidValue(Reason.HEADER_UNREADABLE, "Pixel Padding Value or Range Limit is not one 16-bit number")
    return PixelPadding(first, last)


def _window(dataset: Dataset) -> Window | None:
    centers, widths = texts(dataset, "WindowCenter"), texts(dataset, "WindowWidth")
    if len(centers) != len(widths):
        raise RejectedFile(Reason.WINDOW_INVALID, f"{len(centers)} window centers and {len(widths)} widths")
    function = text(dataset, "VOILUTFunction").upper() or "LINEAR"
    if function not in WINDOW_FUNCTIONS:
        raise RejectedFile(Reason.WINDOW_INVALID, "unknown VOI LUT Function; expected LINEAR, LINEAR_EXACT or SIGMOID")
    if not centers:
        return None
    try:
        center, width = float(centers[0]), float(widths[0])
    except ValueError:
        raise RejectedFile(Reason.WINDOW_INVALID, "a window that is not a number") from None
    if not (math.isfinite(center) and math.isfinite(width)) or width <= 0 or (function == "LINEAR" and width < 1):
        found = f"window center {center:g}, width {width:g}"
        raise RejectedFile(Reason.WINDOW_INVALID, f"{found}; expected finite, and a positive width")
    return Window(function, center, width)


def _lookup_table(item: Dataset, name: str) -> LookupTable:
    """Read a table whose descriptor agrees with its data; messages call it `name`."""
    try:
        count, first, bits = (int(part) for part in item.LUTDescriptor)
        count = count or 65536
        entries = item.LUTData
        if isinstance(entries, bytes):  # OW: words, or bytes padded to an even number
            order = "<" if item.original_encoding[1] else ">"
            single = bits <= 8 and len(entries) == count + count % 2
            entries = list(entries[:count]) if single else struct.unpack(f"{order}{len(entries) // 2}H", entries)
        found = len(entries)
        words = struct.pack(f"<{found}H", *entries)  # PS3.3 C.11.1.1: entries are unsigned
    except Exception as error:
        raise_transient(error)
        raise RejectedFile(Reason.LUT_INVALID, f"{name} without a readable descriptor and data") from None
    if found != count or not 1 <= bits <= 16 or not MIN_WORD <= first <= MAX_WORD:
        raise RejectedFile(Reason.LUT_INVALID, f"{name} of {found} entries and {bits} bits; its descriptor says {count}")
    steps, exchanged = (np.diff(np.frombuffer(words, order).astype(np.int32)) for order in ("<u2", ">u2"))
    # One that rises or falls all along has the same meaning with the bytes of 8 bits in either place.
    if steps.min(initial=0) < 0 < steps.max(initial=0) and np.abs(steps).sum() > TIMES * np.abs(exchanged).sum():
        raise RejectedFile(Reason.LUT_INVALID, f"{name} whose entries are smooth only with their two bytes exchanged")
    return LookupTable(first, bits, words)
