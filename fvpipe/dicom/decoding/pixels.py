"""Decoding: an image file's bytes and its typed header -> :class:`DecodedImage`, stored values and their value table.

One decoder per transfer syntax is fixed in :mod:`fvpipe.dicom.decoding.decoders`, so that no library's order of preference
decides. The size of a compressed image is read from its own header and compared before it is decoded.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray
from pydicom.uid import ExplicitVRBigEndian

from fvpipe.config.pipeline import Voi
from fvpipe.dicom.decoding.codestream import jpeg_2000_codestream
from fvpipe.dicom.decoding.decoders import REDUCIBLE, Decoded, find_decoder, lossy_decoder
from fvpipe.dicom.decoding.fragments import frames
from fvpipe.dicom.decoding.jpeg2000 import decode_reduced, levels
from fvpipe.dicom.decoding.layout import PixelLayout
from fvpipe.dicom.decoding.misread_pixels import check_cells, check_folds
from fvpipe.dicom.decoding.transfer_syntaxes import NATIVE
from fvpipe.dicom.elements import RejectedFile, raise_transient
from fvpipe.dicom.image_header import PixelHeader
from fvpipe.dicom.orientation import UPRIGHT, put_upright
from fvpipe.dicom.reader import inflate, stream
from fvpipe.dicom.rules.pixels import truncated
from fvpipe.dicom.value_table import padding_marks, value_table
from fvpipe.imaging.decoded_image import DecodedImage
from fvpipe.imaging.histogram import histogram, run_mask, stored_range
from fvpipe.imaging.pixel_digest import digest_and_largest, pixel_digest
from fvpipe.reasons import Flag, Reason
from fvpipe.types import Digest

Stored = NDArray[np.uint8] | NDArray[np.uint16]
DECODER_BYTES = 16  # of memory that a decoder takes for a pixel at most; OpenJPEG, which takes most, was measured to take 10
PADDED_BORDER, PADDED_INTERIOR = 64, 16  # pixels at the border for one that is padding, and padding for one of these at most
WIDE_PADDING = 8  # as wide a part of the image's range is too much for padding where pixels fill it
FILLED = 512  # pixels of the image for one in each eighth of such a range, of its upper half
MIN_WINDOW_SHARE = 0.1  # of its output range that a window or LUT must give to the image's values, for `auto` to apply it
WINDOW_PERCENTILES = 0.5, 99.5  # letters are brighter than tissue
WINDOW_ROWS, AIR_SHARE = 64, 0.05  # in which `auto` looks for saturation; values up to this share of their range may be air


def decode_image(
    data: bytes | memoryview,
    header: PixelHeader,
    voi: Voi = "none",
    source_digest: Digest | None = None,
    level: int = 0,
) -> DecodedImage:
    """Decode one image.

    Parameters
    ----------
    data : bytes or memoryview
        The whole DICOM file. The image may be a view of it.
    header : PixelHeader
        Parsed from the same bytes.
    voi : {"none", "window", "lut", "auto"}
        Apply nothing, the first window, or the first VOI LUT of the header; or the first of the two that is valid and leaves
        more of the image than a nearly constant value or a silhouette.
    source_digest : Digest or None
        Digest of `data`, where it is known.
    level : int
        How often an image may be halved where its codestream holds the smaller one: JPEG 2000 with as many levels, and a
        linear value table, so that the mean of stored values has a value. Every other image is decoded whole, and so is one
        that is turned or mirrored, since the grid of a reduced image is anchored at its first pixel.

    Raises
    ------
    RejectedFile
        The pixels cannot be decoded, contradict the header, or have an invalid window or VOI LUT that `voi` applies.
    """
    layout = header.layout
    frame = b"" if layout.transfer_syntax_uid in NATIVE else _frame(data, header)
    reduced = _reduced(frame, header, voi, level) if level else None
    upright = header.orientation in UPRIGHT
    if reduced is not None and upright:
        stored, scale = reduced
        digest = pixel_digest(stored, scale)
    else:
        decoded = _native(data, header) if layout.transfer_syntax_uid in NATIVE else _decompressed(frame, header)
        check_cells(decoded, header)
        (stored, digest), scale = _indices(decoded, layout), 1
        check_folds(stored, layout)
        if reduced is not None:  # the digest is that of the same pixels under another Patient Orientation
            digest = pixel_digest(*reduced)
        if not upright:
            stored = put_upright(stored, header.orientation)
    values, flags = value_table(layout, header.mapping, voi)
    padding = padding_marks(layout, header.mapping.padding)
    if voi != "none":
        plain, _ = value_table(layout, header.mapping, "none")
        if not np.array_equal(values, plain):  # else nothing was applied
            narrow = voi == "auto" and _is_narrow(stored, values)
            if narrow or _window_saturates(stored, values, plain, padding):
                values, flags = plain if voi == "auto" else values, flags | Flag.VOI_INVALID
    if padding is not None and (_padding_is_interior(stored, values, padding) or _padding_is_tissue(stored, padding)):
        padding = None
    if padding is None and header.mapping.padding is not None:
        flags |= Flag.PADDING_IGNORED
    steps = np.diff(values)
    return DecodedImage(
        stored=stored,
        values=values,
        padding=padding,
        direction=1 if (steps >= 0).all() else -1 if (steps <= 0).all() else 0,
        chest_wall=header.chest_wall,
        source_digest=source_digest or Digest(blake3(data).hexdigest()),
        pixel_digest=digest,
        source_shape=(layout.rows, layout.columns) if upright else (stored.shape[0], stored.shape[1]),
        scale=scale,
        flags=flags,
    )


def _is_narrow(stored: Stored, values: NDArray[np.float64]) -> bool:
    """Whether a window or LUT makes the image nearly constant."""
    return float(np.ptp(values[list(stored_range(stored))])) <= MIN_WINDOW_SHARE * float(np.ptp(values))


def _window_saturates(
    stored: Stored, values: NDArray[np.float64], plain: NDArray[np.float64], padding: NDArray[np.bool_] | None
) -> bool:
    """Whether a window or LUT makes most of what is brighter than air all white or all black.

    A window for 8 bits, as converters write it, on 12 bits leaves a white silhouette.
    """
    rows = stored[:: -(-stored.shape[0] // WINDOW_ROWS)].ravel()
    rows = rows if padding is None else rows[~padding[rows]]
    before = plain[rows]
    least, most = np.percentile(before, WINDOW_PERCENTILES) if before.size else (0.0, 0.0)
    after = values[rows][before - least > AIR_SHARE * (most - least)]
    return bool(4 * np.count_nonzero((after == values.min()) | (after == values.max())) > 3 * after.size)


def _padding_is_interior(stored: Stored, values: NDArray[np.float64], padding: NDArray[np.bool_]) -> bool:
    """Whether padding lies within the image: it would make black what is bright, and hardly any is at the border."""
    if values[padding].min() <= values.min():
        return False
    border = np.concatenate([stored[0], stored[-1], stored[:, 0], stored[:, -1]])
    at_border = int(np.count_nonzero(padding[border]))
    if PADDED_BORDER * at_border >= border.size:
        return False
    return int(np.count_nonzero(run_mask(stored, padding))) > PADDED_INTERIOR * at_border


def _padding_is_tissue(stored: Stored, padding: NDArray[np.bool_]) -> bool:
    """Whether a range of padding holds values of the breast: all of the image's, or it is wide and pixels fill one half of it.

    Padding is one value, and what a lossy codec makes of it; the breast passes through all values between air and tissue.
    """
    marked, (least, most) = np.flatnonzero(padding), stored_range(stored)
    first, last = max(int(marked[0]), least), min(int(marked[-1]), most)
    if WIDE_PADDING * (last - first) <= most - least:
        return False
    if last - first == most - least:
        return most > least
    eighths = np.array_split(histogram(stored, len(padding))[first : last + 1], 8)
    half = eighths[4:] if marked[0] <= least else eighths[:4]
    return FILLED * min(int(part.sum()) for part in half) > stored.size


def _frame(data: bytes | memoryview, header: PixelHeader) -> bytes:
    """Join the fragments of the compressed image; an image file that is not DICOM is one as a whole."""
    if header.location.length is not None:
        return bytes(data)
    fragments = frames(stream(data), header.location.offset, len(data))[0]
    return b"".join(data[start : start + length] for start, length in fragments)


def _decompressed(frame: bytes, header: PixelHeader) -> NDArray[Any]:
    layout = header.layout
    decoder = find_decoder(layout.transfer_syntax_uid)
    assert decoder is not None  # by the rules
    try:
        decoded = decoder.decode(frame, layout)
    except RejectedFile:
        raise
    except Exception as error:
        raise_transient(error)
        _check_memory(layout)
        detail = f"{decoder.library} cannot decode the compressed image: it is damaged or not of transfer syntax "
        raise RejectedFile(Reason.DECODE_FAILED, f"{detail}{layout.transfer_syntax_uid}") from None
    pixels = decoded.pixels
    if pixels.shape != (layout.rows, layout.columns) or pixels.dtype.kind not in "iu":
        raise RejectedFile(Reason.PIXELS_MISMATCH, f"decoded to {pixels.shape}; expected {(layout.rows, layout.columns)}")
    if pixels.dtype.kind == "u" and decoded.bits < 8 * pixels.itemsize and (most := stored_range(pixels)[1]) >> decoded.bits:
        detail = f"the compressed image decodes to values up to {most}, of {decoded.bits} bits by its own header: it is damaged"
        raise RejectedFile(Reason.DECODE_FAILED, detail)
    return _fitting(decoded, header)


def _check_memory(layout: PixelLayout) -> None:
    """After a decoder failed: OpenJPEG and others report a lack of memory as they report damage, and no file is blamed for it.

    Raises
    ------
    MemoryError
        There is not as much memory as decoding takes.
    """
    np.empty(layout.rows * layout.columns * DECODER_BYTES, np.uint8)  # taken from the system, and given back untouched


def _native(data: bytes | memoryview, header: PixelHeader) -> NDArray[Any]:
    """Uncompressed pixels as a view of the file's bytes, or of its inflated data set."""
    layout, location = header.layout, header.location
    if location.deflated_at is not None:
        data, _ = inflate(memoryview(data)[location.deflated_at :], location.offset + layout.native_bytes)
    there = max(len(data) - location.offset, 0)
    if there < layout.native_bytes:
        raise truncated(there, layout)
    big = layout.transfer_syntax_uid == ExplicitVRBigEndian
    count = layout.rows * layout.columns
    if layout.bits_allocated == 16:
        flat = np.frombuffer(data, ">u2" if big else "<u2", count, location.offset)
    elif big and location.words:
        if there < count + count % 2:
            raise RejectedFile(Reason.PIXELS_TRUNCATED, f"Pixel Data has {there} bytes; expected {count} in whole words")
        words = np.frombuffer(data, "u1", count + count % 2, location.offset)
        flat = words.reshape(-1, 2)[:, ::-1].reshape(-1)[:count]
    else:
        flat = np.frombuffer(data, "u1", count, location.offset)
    return flat.reshape(layout.rows, layout.columns)


def _reduced(frame: bytes, header: PixelHeader, voi: Voi, level: int) -> tuple[Stored, int] | None:
    """Stored values of the image halved up to `level` times, and 1 / their resolution; None where it must be decoded whole."""
    layout = header.layout
    if layout.transfer_syntax_uid not in REDUCIBLE or layout.signed or layout.high_bit >= layout.bits_stored:
        return None
    codestream, size = jpeg_2000_codestream(frame, layout)
    level = min(level, levels(codestream))
    if not level or size.bits > layout.bits_stored or not _is_linear(header, voi):
        return None  # with more bits than are stored, a mean would hide an overlay and values that do not fit
    try:
        stored = decode_reduced(codestream, level, (layout.rows, layout.columns), size.bits)
    except Exception as error:
        raise_transient(error)
        _check_memory(layout)
        return None  # decoding it whole either works or names what is wrong
    indices: NDArray[Any] = stored.astype(np.uint8 if layout.bits_stored <= 8 else np.uint16, copy=False)
    return indices, 1 << level


def _is_linear(header: PixelHeader, voi: Voi) -> bool:
    """Whether the mean of stored values has the mean of their values: a linear value table, and padding, if there is any,
    that is darker than all else, so that a mean of both is dark.
    """
    try:
        values, _ = value_table(header.layout, header.mapping, voi)
    except RejectedFile:
        return False  # raised again after the whole image is decoded
    steps, padding = np.diff(values), padding_marks(header.layout, header.mapping.padding)
    if not np.allclose(steps, steps[0], rtol=1e-6, atol=0):
        return False
    darkest_first = slice(None) if steps[0] > 0 else slice(None, None, -1)
    return padding is None or bool((np.diff(padding[darkest_first].astype(np.int8)) <= 0).all())


# --- from bits to indices ---------------------------------------------------------------------------------------------


def _fitting(decoded: Decoded, header: PixelHeader) -> NDArray[Any]:
    """Check that the values of a compressed image fit the stored bits, since others would be folded onto them.

    Bits beside the stored ones are left to :func:`_indices`, which masks them, where the header declares an overlay there. Of
    a lossy codec, values up to 1/32 of the range beyond its ends are the codec's own overshoot, and are clipped.
    """
    layout, pixels = header.layout, decoded.pixels
    lossy = bool(lossy_decoder(layout.transfer_syntax_uid))
    if header.overlay_in_pixels and not lossy:
        return pixels
    top, shift = layout.high_bit, layout.high_bit + 1 - layout.bits_stored
    if layout.signed and pixels.dtype.kind == "u":
        pixels = _with_sign(pixels, top if stored_range(pixels)[1] >> top < 2 else decoded.bits - 1)
    low, high = (-(1 << top), (1 << top) - 1) if layout.signed else (0, (2 << top) - 1)
    if decoded.bits > top + 1:
        overshoot = (high - low) >> 5 if lossy else 0
        least, most = stored_range(pixels)
        if least < low - overshoot or most > high + overshoot:
            detail = f"the compressed image has values from {least} to {most}; BitsStored {layout.bits_stored} "
            raise RejectedFile(Reason.PIXELS_MISMATCH, f"{detail}holds {low} to {high}")
        if least < low or most > high:
            pixels = np.clip(pixels, low, high)
    if shift and not lossy and (pixels & ((1 << shift) - 1)).any():
        detail = f"the compressed image has values below bit {shift}, where HighBit {top} and BitsStored "
        raise RejectedFile(Reason.PIXELS_MISMATCH, f"{detail}{layout.bits_stored} end, and the header declares no overlay")
    return pixels


def _with_sign(pixels: NDArray[Any], sign_bit: int) -> NDArray[Any]:
    """Read the bits of a codec without a sign as two's complement."""
    width = pixels.dtype.itemsize
    gap = 8 * width - 1 - sign_bit
    signed: NDArray[Any] = (pixels << gap).view(f"i{width}") >> gap
    return signed


def _indices(decoded: NDArray[Any], layout: PixelLayout) -> tuple[Stored, Digest]:
    """Return the stored bits as indices of the value table, and their digest; signed values are offset to keep their order."""
    if decoded.dtype.kind == "i":
        decoded = decoded.view(f"u{decoded.dtype.itemsize}")
    pixels: NDArray[Any] = decoded.astype(f"<u{decoded.dtype.itemsize}", copy=False)
    shift = layout.high_bit + 1 - layout.bits_stored
    if shift:
        pixels = pixels >> shift
    wide = 8 * pixels.dtype.itemsize > 8 >= layout.bits_stored
    if layout.signed:
        pixels = _masked(pixels, layout) ^ pixels.dtype.type(1 << (layout.bits_stored - 1))
    elif wide and stored_range(pixels)[1] >> layout.bits_stored:
        pixels = _masked(pixels, layout)
    stored: NDArray[Any] = np.ascontiguousarray(pixels, np.uint8 if layout.bits_stored <= 8 else np.uint16)
    if layout.signed:
        return stored, pixel_digest(stored, zero=1 << (layout.bits_stored - 1))
    digest, largest = digest_and_largest(stored)
    if largest >> layout.bits_stored:
        stored = _masked(stored, layout)
        digest = pixel_digest(stored)
    return stored, digest


def _masked(pixels: NDArray[Any], layout: PixelLayout) -> NDArray[Any]:
    """Remove bits above BitsStored, which may hold anything in native pixels (PS3.5 8.1.1) and a declared overlay in others.

    Raises
    ------
    RejectedFile
        The values go on in those bits: the image jumps between the ends of its range where the whole cells do not.
    """
    masked: NDArray[Any] = pixels & pixels.dtype.type((1 << layout.bits_stored) - 1)
    sign = 1 << (layout.bits_stored - 1)
    low, high = (-sign, sign - 1) if layout.signed else (0, 2 * sign - 1)
    cells = pixels, pixels.view(f"i{pixels.itemsize}")
    least, most = stored_range(cells[layout.signed])
    if layout.high_bit + 1 < layout.bits_allocated and (least < low or most > high):  # else there are no bits above
        values = (masked.astype(np.int32) ^ sign) - sign if layout.signed else masked.astype(np.int32)
        if any(_is_folded(values, whole.astype(np.int32), sign) for whole in cells):
            detail = f"the image has values from {least} to {most}, and they go on in the bits above; "
            raise RejectedFile(Reason.PIXELS_MISMATCH, f"{detail}BitsStored {layout.bits_stored} holds {low} to {high}")
    return masked


def _is_folded(values: NDArray[np.int32], whole: NDArray[np.int32], limit: int) -> bool:
    """Whether `values` jump by more than `limit` where the whole cells do not, about as often as the other way round.

    Noise or an overlay in unused bits makes the cells jump alone; noise that fills all bits is left as it was stored.
    """
    steps = [(np.abs(np.diff(values, axis=axis)) > limit, np.abs(np.diff(whole, axis=axis)) > limit) for axis in (0, 1)]
    folds = sum(int(np.count_nonzero(jump & ~whole_jump)) for jump, whole_jump in steps)
    return 4 * folds > 3 * sum(int(np.count_nonzero(~jump & whole_jump)) for jump, whole_jump in steps)
