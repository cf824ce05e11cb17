"""Whether decoded pixels are those that their header describes, told by how smooth an image they make."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import RLELossless

from fvpipe.dicom.decoders import REDUCIBLE, lossy_decoder
from fvpipe.dicom.elements import RejectedFile
from fvpipe.dicom.image_header import PixelHeader
from fvpipe.dicom.transfer_syntaxes import NATIVE
from fvpipe.imaging.histogram import stored_range
from fvpipe.reasons import Reason

SAMPLE_ROWS = 16  # that are looked at, evenly spaced
MAX_ASPECT = 4  # of rows and columns
TIMES = 4  # less variation in pixels that are read otherwise, for the header to be wrong


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
        # From end to end passes a white label beside black air, too, but it has few values.
        if not ends[1:3].any() and 2 * passing > len(cells) and _levels(cells[cells >> 15 == 1]) >= 64:
            return "the values are signed, where PixelRepresentation is 0"
    return ""


def _levels(cells: NDArray[Any]) -> int:
    return int(np.count_nonzero(np.bincount(np.ravel(cells))))


def _variation(cells: NDArray[np.uint16], signed: bool) -> int:
    """Sum of the differences of neighbours in a row."""
    values = cells.view(np.int16) if signed else cells
    return int(np.abs(np.diff(values.astype(np.int32), axis=1)).sum())
