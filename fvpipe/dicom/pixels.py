"""Step 1b: a DICOM file's bytes -> :class:`Image`: stored integers, and a table of what each stored value means.

Which decoder reads which transfer syntax is written down in :data:`DECODERS` and never left to a library's order of
preference. The size of a compressed image is read from its own header and compared before it is decoded.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian
from xxhash import xxh3_128

from fvpipe.dicom.codestream import bare_codestream, check_codestream, jpeg_2000_size
from fvpipe.dicom.decoders import DECODERS, REDUCIBLE, lossy_decoder
from fvpipe.dicom.elements import RejectedFile, raise_transient, silenced
from fvpipe.dicom.header import chest_wall_edge, overlay_in_pixels
from fvpipe.dicom.jpeg2000 import decode_reduced, levels
from fvpipe.dicom.layout import PixelLayout, check_pixel_data, pixel_layout
from fvpipe.dicom.reader import HEADER_INFLATE_LIMIT, OpenedDicom, open_dicom, stream
from fvpipe.dicom.transfer_syntaxes import NATIVE
from fvpipe.dicom.value_table import check_rescale, padding_marks, value_table
from fvpipe.imaging.histogram import bands, stored_range
from fvpipe.reasons import Reason
from fvpipe.types import DecodedImage, Digest, Edge, Laterality

Stored = NDArray[np.uint8] | NDArray[np.uint16]


def decode_image(
    data: bytes | memoryview,
    laterality: Laterality,
    voi: Literal["none", "window", "lut"] = "none",
    source_digest: Digest | None = None,
    opened: OpenedDicom | None = None,
    level: int = 0,
) -> DecodedImage:
    """Decode one image.

    Parameters
    ----------
    data : bytes or memoryview
        The whole DICOM file. The image may be a view of it.
    laterality : Laterality
        The breast's side, which tells where the chest wall should lie when Patient Orientation does not.
    voi : {"none", "window", "lut"}
        Apply nothing, the first window, or the first VOI LUT of the header.
    source_digest : Digest or None
        Of `data`, where the caller has it already.
    opened : OpenedDicom or None
        `data` as :func:`fvpipe.dicom.reader.open_dicom` parsed it, where the caller did.
    level : int
        How often an image may be halved where its codestream holds the smaller one: JPEG 2000 with as many levels and with
        values of which a mean has a meaning. Every other image is decoded whole.

    Raises
    ------
    Rejected
        With the reason code of the broken rule.
    """
    opened = opened or open_dicom(stream(data), HEADER_INFLATE_LIMIT)
    with silenced():
        layout = pixel_layout(opened)
        check_rescale(opened.header)
        check_pixel_data(opened, layout)
        if not opened.complete and opened.value_offset is not None:  # inflate once more, just as far as the pixels need
            opened = open_dicom(stream(data), opened.value_offset + layout.native_bytes)
            check_pixel_data(opened, layout)
        frame = b"" if layout.transfer_syntax_uid in NATIVE else _frame(opened)
        small = _reduced(frame, opened, layout, voi, level) if level else None
        if small is not None:
            stored, scale, pixel_digest = small.stored, small.scale, _pixel_digest(small.stored, small.scale)
        else:
            (stored, pixel_digest), scale = _indices(_decode(opened, layout, data, frame), layout), 1
        values, flags = value_table(opened.header, layout, voi)
        padding = padding_marks(opened.header, layout)
        expected = chest_wall_edge(opened.header)
    steps = np.diff(values)
    return DecodedImage(
        stored=stored,
        values=values,
        padding=padding,
        direction=1 if (steps >= 0).all() else -1 if (steps <= 0).all() else 0,
        chest_wall=expected or (Edge.LEFT if laterality is Laterality.LEFT else Edge.RIGHT),
        source_digest=source_digest or Digest(blake3(data).hexdigest()),
        pixel_digest=pixel_digest,
        source_shape=(layout.rows, layout.columns),
        scale=scale,
        flags=flags,
    )


def _pixel_digest(stored: Stored, scale: int) -> Digest:
    """XXH3 (128 bits) over size and values: the same image has the same digest in every transfer syntax.

    It only finds equal images, which nobody gains by forging: BLAKE3, of the file, is what a sample's key is made of.
    One that was decoded at a fraction of its resolution has a digest in a domain of its own: it can be like that of another
    image at that fraction, and never like that of a whole one.
    """
    hasher = _pixel_hasher(stored, scale)
    hasher.update(np.ascontiguousarray(stored).data)
    return Digest(hasher.hexdigest())


def _pixel_hasher(stored: Stored, scale: int) -> xxh3_128:
    return xxh3_128(struct.pack("<2s3I", stored.dtype.str[1:].encode(), *stored.shape, scale))


def _frame(opened: OpenedDicom) -> bytes:
    """The compressed image."""
    assert opened.value_offset is not None  # check_pixel_data has seen it
    opened.body.seek(opened.value_offset)
    try:
        return get_frame(opened.body, 0, number_of_frames=1)
    except Exception as error:
        raise_transient(error)
        raise RejectedFile(Reason.PIXELS_TRUNCATED, f"the encapsulated frame is not whole ({type(error).__name__})") from None


def _decode(opened: OpenedDicom, layout: PixelLayout, data: bytes | memoryview, frame: bytes) -> NDArray[Any]:
    if layout.transfer_syntax_uid in NATIVE:
        return _native(opened, layout, data)
    try:
        decoded = DECODERS[layout.transfer_syntax_uid].decode(frame, layout)
    except RejectedFile:
        raise
    except Exception as error:
        raise_transient(error)
        syntax = layout.transfer_syntax_uid
        raise RejectedFile(Reason.DECODE_FAILED, f"transfer syntax {syntax}: the decoder says {type(error).__name__}") from None
    if decoded.shape != (layout.rows, layout.columns) or decoded.dtype.kind not in "iu":
        raise RejectedFile(Reason.PIXELS_MISMATCH, f"decoded to {decoded.shape}; expected {(layout.rows, layout.columns)}")
    return decoded


def _native(opened: OpenedDicom, layout: PixelLayout, data: bytes | memoryview) -> NDArray[Any]:
    """Uncompressed pixels: a view of the file's bytes, no copy."""
    source = opened.body.getvalue() if opened.transfer_syntax_uid == DeflatedExplicitVRLittleEndian else data  # type: ignore[attr-defined]
    big = layout.transfer_syntax_uid == ExplicitVRBigEndian
    count = layout.rows * layout.columns
    if layout.bits_allocated == 16:
        flat = np.frombuffer(source, ">u2" if big else "<u2", count, opened.value_offset or 0)
    elif big and opened.words:
        if opened.bytes_left < count + count % 2:
            raise RejectedFile(
                Reason.PIXELS_TRUNCATED, f"Pixel Data has {opened.bytes_left} bytes; expected {count} in whole words"
            )
        words = np.frombuffer(source, "u1", count + count % 2, opened.value_offset or 0)
        flat = words.reshape(-1, 2)[:, ::-1].reshape(-1)[:count]
    else:
        flat = np.frombuffer(source, "u1", count, opened.value_offset or 0)
    return flat.reshape(layout.rows, layout.columns)


@dataclass(frozen=True, slots=True)
class _Small:
    stored: Stored
    scale: int


def _reduced(frame: bytes, opened: OpenedDicom, layout: PixelLayout, voi: str, level: int) -> _Small | None:
    """The image halved up to `level` times; None where only the whole one will do."""
    if layout.transfer_syntax_uid not in REDUCIBLE or layout.signed or layout.high_bit >= layout.bits_stored:
        return None
    codestream = bare_codestream(frame)
    size = jpeg_2000_size(codestream)
    check_codestream(codestream, size, layout)
    assert size is not None  # _check_codestream has rejected it
    level = min(level, levels(codestream))
    if not level or not _averages(opened.header, layout, voi):
        return None
    if size.bits > layout.bits_stored and overlay_in_pixels(opened.header):
        return None  # its bits would be averaged with the values
    try:
        stored = decode_reduced(codestream, level, (layout.rows, layout.columns), size.bits)
    except Exception as error:
        raise_transient(error)
        return None  # the whole decoder names what is wrong, or reads it
    if size.bits > layout.bits_stored and stored_range(stored)[1] >> layout.bits_stored:
        return None  # bits that are no value's, and no overlay's that the header tells of; or a wavelet's overshoot
    if layout.bits_stored <= 8:
        return _Small(stored.astype(np.uint8, copy=False), 1 << level)
    return _Small(stored.astype(np.uint16, copy=False), 1 << level)


def _averages(header: Dataset, layout: PixelLayout, voi: str) -> bool:
    """Whether the mean of stored values stands for the mean of what they mean: a linear table, and padding, if there is any,
    that is darker than all else, so that a pixel of both is dark.
    """
    try:
        values, _ = value_table(header, layout, voi)
    except RejectedFile:
        return False  # named in its turn
    steps, padding = np.diff(values), padding_marks(header, layout)
    if not np.allclose(steps, steps[0], rtol=1e-6, atol=0):
        return False
    darkest_first = slice(None) if steps[0] > 0 else slice(None, None, -1)
    return padding is None or bool((np.diff(padding[darkest_first].astype(np.int8)) <= 0).all())


# --- from bits to indices, from indices to values ---------------------------------------------------------------------


def _indices(decoded: NDArray[Any], layout: PixelLayout) -> tuple[Stored, Digest]:
    """The stored bits as table indices, and their digest: signed values are offset so that order is kept."""
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
    hasher, full = _pixel_hasher(stored, 1), layout.bits_stored == 8 * stored.itemsize
    for part in bands(stored):
        hasher.update(part.data)
        if not full and stored_range(part)[1] >> layout.bits_stored:  # while it is in the processor's cache
            masked = _masked(stored, layout)
            return masked, _pixel_digest(masked, 1)
    return stored, Digest(hasher.hexdigest())


def _masked(pixels: NDArray[Any], layout: PixelLayout) -> NDArray[Any]:
    """Without what lies above BitsStored: overlays, or a lossy codec's overshoot, which must not start again from black."""
    mask = pixels.dtype.type((1 << layout.bits_stored) - 1)
    overshoot = lossy_decoder(layout.transfer_syntax_uid) and not layout.signed
    masked: NDArray[Any] = np.minimum(pixels, mask) if overshoot else pixels & mask
    return masked
