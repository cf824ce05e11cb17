"""Whether decoded pixels are those that their header describes, told by how smooth an image they make."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import RLELossless

from fvpipe.dicom.decoding.decoders import REDUCIBLE, lossy_decoder
from fvpipe.dicom.decoding.layout import PixelLayout
from fvpipe.dicom.decoding.transfer_syntaxes import NATIVE
from fvpipe.dicom.elements import RejectedFile
from fvpipe.dicom.image_header import PixelHeader
from fvpipe.imaging.histogram import stored_range
from fvpipe.reasons import Reason

SAMPLE_ROWS = 16  # that are looked at, evenly spaced
MAX_ASPECT = 4  # of rows and columns
TIMES = 4  # less variation in pixels that are read otherwise, for the header to be wrong
FOLD_ROWS, SIGNED_FOLD_ROWS = 64, 512  # in which folds are looked for; hardly any mammogram is signed
MIN_FOLDS, MIN_LEVELS = 32, 16  # steps between the ends of the range, and values on each side of them: burnt-in text has few
MIN_ROW_FOLDS = 4  # of a row of values that were cut again and again
FOLD_BLOCK = 8  # pixels, in each direction, over which values on the circle are averaged


def check_cells(pixels: NDArray[Any], header: PixelHeader) -> None:
    """Check that pixels are in rows of the length, and their 16 bits in the order, at the place and of the sign of the header.

    Uncompressed pixels tell nothing of that, and many codecs little.

    Parameters
    ----------
    pixels : integer array, shape (rows, columns)
        As decoded.
    header : PixelHeader
        Of their file.

    Raises
    ------
    RejectedFile
        The image is smooth, or fits its stored bits, only if its cells are read otherwise.
    """
    layout = header.layout
    found = ""
    if layout.transfer_syntax_uid in NATIVE | {RLELossless} and _has_rows_of(layout.rows, pixels):
        found = f"Rows {layout.rows} and Columns {layout.columns} are exchanged"
    elif pixels.dtype.itemsize == 2 and layout.bits_allocated == 16:
        rows = pixels[:: -(-layout.rows // SAMPLE_ROWS)]
        found = _misread_bits(rows.astype(rows.dtype.newbyteorder("=")).view(np.uint16), header)
    if found:
        raise RejectedFile(Reason.PIXELS_MISMATCH, f"{found}: the header was written for other pixels")


def check_folds(stored: NDArray[Any], layout: PixelLayout) -> None:
    """Check that values were not cut to fewer bits than they need, nor read with the other sign.

    Either folds the range: where the breast becomes brighter than its end, pixels jump to the other end.

    Parameters
    ----------
    stored : uint8 or uint16 array, shape (rows, columns)
        Indices of the value table.
    layout : PixelLayout
        Of their file.

    Raises
    ------
    RejectedFile
        The image is smooth only if its range is joined at its ends.
    """
    bits, looked_at = layout.bits_stored, SIGNED_FOLD_ROWS if layout.signed else FOLD_ROWS
    full, half = 1 << bits, 1 << (bits - 1)
    rows = stored[:: -(-layout.rows // looked_at)].astype(np.int32)
    steps = np.abs(np.diff(rows, axis=1))
    folds = steps > full - (full >> 3)
    count = int(np.count_nonzero(folds))
    if count < MIN_FOLDS:
        return
    ends = rows[:, :-1][folds], rows[:, 1:][folds]
    levels = min(_levels(np.maximum(*ends)), _levels(np.minimum(*ends)))
    smooth = 2 * np.count_nonzero(np.minimum(steps, full - steps) <= full >> 4) > steps.size  # noise is not
    between = 16 * np.count_nonzero(np.abs(rows - half) < half - (full >> 3)) > rows.size  # of two levels there is none
    many = np.count_nonzero(np.count_nonzero(folds, axis=1) >= MIN_ROW_FOLDS)
    found = ""
    if levels >= MIN_LEVELS and smooth and between and 4 * many > len(rows):
        found = f"the values of neighbours jump between the ends of the range all over: they were cut to {bits} bits before"
        found += " the file was written"
    # A lossy codec makes levels at the edges of burnt-in text; a film has them in its white border.
    elif not lossy_decoder(layout.transfer_syntax_uid) and (bits not in (8, 16) or layout.signed):
        otherwise = np.abs(np.diff(rows ^ half, axis=1)) > full - (full >> 3)
        if levels >= (MIN_LEVELS if bits > 8 else 3) and count > TIMES * np.count_nonzero(otherwise):
            sign = "unsigned" if layout.signed else "signed"
            found = f"the values are {sign}, where PixelRepresentation is {int(layout.signed)}"
            found += ": the header was written for other pixels"
    # Of signed pixels, of which hardly any mammogram consists, too few may lie beyond an end.
    if found and (layout.signed or _unwraps_beyond_range(stored, full)):
        raise RejectedFile(Reason.PIXELS_MISMATCH, found)


def _unwraps_beyond_range(stored: NDArray[Any], full: int) -> bool:
    """Whether areas of an image lie beyond the ends of its range once folds are undone; letters and dust at an end do not.

    On a circle that joins the ends, means of small blocks pass a fold without a jump, and go on beyond the end.
    """
    rows, columns = (length // FOLD_BLOCK for length in stored.shape)
    whole = stored[: rows * FOLD_BLOCK, : columns * FOLD_BLOCK]
    strips = whole.reshape(rows, FOLD_BLOCK, columns, FOLD_BLOCK)[:: -(-rows // FOLD_ROWS)]
    means = np.exp(2j * np.pi / full * strips).mean(axis=(1, 3))
    values = np.unwrap(np.angle(means), axis=1) / (2 * np.pi)
    values -= np.floor(np.median(values, axis=1, keepdims=True))
    turned = [(values + turn < -0.125) | (values + turn > 1.125) for turn in (-1, 0, 1)]  # where air is, is not known
    return bool(64 * np.min([each.sum(axis=1) for each in turned], axis=0).sum() > values.size)


def _has_rows_of(length: int, pixels: NDArray[Any]) -> bool:
    """Whether pixels vary much less from row to row if their rows had this length instead of their own."""
    longer = max(pixels.shape)
    flat, last = pixels.reshape(-1), pixels.size - 2 * longer
    if last < 0 or longer > MAX_ASPECT * min(pixels.shape):  # of a strip, the pixel below may be farther off in the breast
        return False
    starts = np.linspace(0, last, SAMPLE_ROWS).astype(np.int64)

    def variation(columns: int) -> int:
        above, below = (np.stack([flat[i : i + longer] for i in starts + down]).astype(np.int32) for down in (0, columns))
        return int(np.abs(below - above).sum())

    return variation(pixels.shape[1]) > TIMES * variation(length)


def _misread_bits(cells: NDArray[np.uint16], header: PixelHeader) -> str:
    """Say how the bits of the cells lie otherwise than the header says; empty where it is right or cannot be known."""
    layout, shift = header.layout, header.layout.high_bit + 1 - header.layout.bits_stored
    unused = 16 - layout.bits_stored
    # Of a mammogram the low byte varies more than the high one, unless it is 0 or there are few grey levels.
    fine = _levels(cells & 0xFF) >= 3 and _levels(cells) >= 256
    if fine and _variation(cells, layout.signed) > TIMES * _variation(cells.byteswap(), layout.signed):
        return "the two bytes of each pixel are exchanged"
    if unused and not header.overlay_in_pixels:
        least, most = stored_range(cells.view(np.int16) if layout.signed else cells)
        beyond = least < -(1 << (layout.bits_stored - 1)) or most >> (layout.bits_stored - layout.signed)
        if not shift and beyond and not (cells & ((1 << unused) - 1)).any():
            return f"the values are in the upper {layout.bits_stored} of 16 bits, where HighBit is {layout.high_bit}"
        if shift and not beyond and most > least and (cells & ((1 << shift) - 1)).any():
            return f"the values are in the lower {layout.bits_stored} of 16 bits, where HighBit is {layout.high_bit}"
    elif not (unused or layout.signed or layout.transfer_syntax_uid in REDUCIBLE or lossy_decoder(layout.transfer_syntax_uid)):
        ends = np.bincount(np.ravel(cells >> 14), minlength=4)
        passing = np.count_nonzero(np.abs(np.diff(cells.astype(np.int32), axis=1)) > 1 << 15)
        # From end to end pass a white label beside black air and padding beside a negative, too, but these have few values.
        halves = cells[cells >> 15 == 1], cells[cells >> 15 == 0]
        if not ends[1:3].any() and 2 * passing > len(cells) and min(map(_levels, halves)) >= 64:
            return "the values are signed, where PixelRepresentation is 0"
    return ""


def _levels(cells: NDArray[Any]) -> int:
    return int(np.count_nonzero(np.bincount(np.ravel(cells))))


def _variation(cells: NDArray[np.uint16], signed: bool) -> int:
    """Sum of the differences of neighbours in a row."""
    values = cells.view(np.int16) if signed else cells
    return int(np.abs(np.diff(values.astype(np.int32), axis=1)).sum())
