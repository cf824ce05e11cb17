"""Step 1b: a DICOM file's bytes -> :class:`Picture`: stored integers, and a table of what each stored value means.

Which decoder reads which transfer syntax is written down in :data:`DECODERS` and never left to a library's order of
preference. The size of a compressed picture is read from its own header and compared before it is decoded.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from xxhash import xxh3_128

from fvpipe import dicom, jpeg2000
from fvpipe.dicom import LookupTable, OpenedDicom, PixelLayout, Refused, silenced
from fvpipe.imaging.histogram import bands, index_range
from fvpipe.reasons import Flag, Reason
from fvpipe.types import Digest, Edge, Laterality, Picture

Stored = NDArray[np.uint8] | NDArray[np.uint16]


def read_picture(
    data: bytes | memoryview,
    laterality: Laterality,
    voi: Literal["none", "window", "lut"] = "none",
    source_digest: Digest | None = None,
    opened: OpenedDicom | None = None,
    level: int = 0,
) -> Picture:
    """Decode one image.

    Parameters
    ----------
    data : bytes or memoryview
        The whole DICOM file. The picture may be a view of it.
    laterality : Laterality
        The breast's side, which tells where the chest wall should lie when Patient Orientation does not.
    voi : {"none", "window", "lut"}
        Apply nothing, the first window, or the first VOI LUT of the header.
    source_digest : Digest or None
        Of `data`, where the caller has it already.
    opened : OpenedDicom or None
        `data` as :func:`fvpipe.dicom.open_dicom` parsed it, where the caller did.
    level : int
        How often a picture may be halved where its codestream holds the smaller one: JPEG 2000 with as many levels and with
        values of which a mean has a meaning. Every other picture is decoded whole.

    Raises
    ------
    Refused
        With the reason code of the broken rule.
    """
    opened = opened or dicom.open_dicom(dicom.stream(data), dicom.HEADER_INFLATE_LIMIT)
    with silenced():
        layout = dicom.pixel_layout(opened)
        dicom.check_rescale(opened.header)
        dicom.check_pixel_data(opened, layout)
        if not opened.complete and opened.value_offset is not None:  # inflate once more, just as far as the pixels need
            opened = dicom.open_dicom(dicom.stream(data), opened.value_offset + layout.native_bytes)
            dicom.check_pixel_data(opened, layout)
        frame = b"" if layout.transfer_syntax_uid in dicom.NATIVE else _frame(opened)
        small = _reduced(frame, opened, layout, voi, level) if level else None
        if small is not None:
            stored, scale, pixel_digest = small.stored, small.scale, _pixel_digest(small.stored, small.scale)
        else:
            (stored, pixel_digest), scale = _indices(_decode(opened, layout, data, frame), layout), 1
        values, flags = _value_table(opened.header, layout, voi)
        padding = _padding(opened.header, layout)
        expected = dicom.chest_wall_edge(opened.header)
    steps = np.diff(values)
    return Picture(
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
    """XXH3 (128 bits) over size and values: the same picture has the same digest in every transfer syntax.

    It only finds equal pictures, which nobody gains by forging: BLAKE3, of the file, is what a sample's key is made of.
    One that was decoded at a fraction of its resolution has a digest in a domain of its own: it can be like that of another
    picture at that fraction, and never like that of a whole one.
    """
    hasher = _pixel_hasher(stored, scale)
    hasher.update(np.ascontiguousarray(stored).data)
    return Digest(hasher.hexdigest())


def _pixel_hasher(stored: Stored, scale: int) -> xxh3_128:
    return xxh3_128(struct.pack("<2s3I", stored.dtype.str[1:].encode(), *stored.shape, scale))


# --- decoding ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Decoder:
    """Who reads a transfer syntax.

    Attributes
    ----------
    library : str
        Distribution whose version the receipt records.
    lossy : bool
        Whether another version may give other pixels; then the version belongs to the sample's key.
    decode : callable
        (frame, layout) -> 2-D unsigned or signed array.
    """

    library: str
    lossy: bool
    decode: Callable[[bytes, PixelLayout], NDArray[Any]]

    @property
    def identity(self) -> str:
        """Library and version."""
        return f"{self.library} {version(self.library)}"


def _frame(opened: OpenedDicom) -> bytes:
    """The compressed picture."""
    assert opened.value_offset is not None  # check_pixel_data has seen it
    opened.body.seek(opened.value_offset)
    try:
        return get_frame(opened.body, 0, number_of_frames=1)
    except Exception as error:
        dicom.raise_transient(error)
        raise Refused(Reason.PIXELS_TRUNCATED, f"the encapsulated frame is not whole ({type(error).__name__})") from None


def _decode(opened: OpenedDicom, layout: PixelLayout, data: bytes | memoryview, frame: bytes) -> NDArray[Any]:
    if layout.transfer_syntax_uid in dicom.NATIVE:
        return _native(opened, layout, data)
    try:
        decoded = DECODERS[layout.transfer_syntax_uid].decode(frame, layout)
    except Refused:
        raise
    except Exception as error:
        dicom.raise_transient(error)
        syntax = layout.transfer_syntax_uid
        raise Refused(Reason.DECODE_FAILED, f"transfer syntax {syntax}: the decoder says {type(error).__name__}") from None
    if decoded.shape != (layout.rows, layout.columns) or decoded.dtype.kind not in "iu":
        raise Refused(Reason.PIXELS_MISMATCH, f"decoded to {decoded.shape}; expected {(layout.rows, layout.columns)}")
    return decoded


def _native(opened: OpenedDicom, layout: PixelLayout, data: bytes | memoryview) -> NDArray[Any]:
    """Uncompressed pixels: a view of the file's bytes, no copy."""
    source = opened.body.getvalue() if opened.transfer_syntax_uid == dicom.DEFLATED_LE else data  # type: ignore[attr-defined]
    big = layout.transfer_syntax_uid == dicom.EXPLICIT_BE
    count = layout.rows * layout.columns
    if layout.bits_allocated == 16:
        flat = np.frombuffer(source, ">u2" if big else "<u2", count, opened.value_offset or 0)
    elif big and opened.words:
        if opened.bytes_left < count + count % 2:
            raise Refused(Reason.PIXELS_TRUNCATED, f"Pixel Data has {opened.bytes_left} bytes; expected {count} in whole words")
        words = np.frombuffer(source, "u1", count + count % 2, opened.value_offset or 0)
        flat = words.reshape(-1, 2)[:, ::-1].reshape(-1)[:count]
    else:
        flat = np.frombuffer(source, "u1", count, opened.value_offset or 0)
    return flat.reshape(layout.rows, layout.columns)


def _rle(frame: bytes, layout: PixelLayout) -> NDArray[Any]:
    """DICOM PS3.5 annex G: one PackBits segment a byte plane, most significant first, each into a bounded buffer."""
    import imagecodecs

    planes = layout.bits_allocated // 8
    header = struct.unpack_from("<16I", frame)
    if header[0] != planes:
        raise Refused(Reason.PIXELS_MISMATCH, f"RLE of {header[0]} segments; expected {planes}")
    ends = [*header[2 : planes + 1], len(frame)]
    pixels = np.empty((layout.rows * layout.columns, planes), np.uint8)
    buffer = np.empty(layout.rows * layout.columns, np.uint8)
    for plane, (start, end) in enumerate(zip(header[1 : planes + 1], ends, strict=True)):
        decoded = imagecodecs.packbits_decode(frame[start:end], out=buffer.data)
        if len(decoded) != len(buffer):
            raise Refused(Reason.PIXELS_TRUNCATED, f"RLE segment of {len(decoded)} bytes; expected {len(buffer)}")
        pixels[:, planes - 1 - plane] = buffer
    return pixels.view(f"<u{planes}").reshape(layout.rows, layout.columns)


def _jpeg(frame: bytes, layout: PixelLayout) -> NDArray[Any]:
    import imagecodecs

    _check_codestream(frame, jpeg_size(frame), layout)
    return np.asarray(imagecodecs.jpeg8_decode(frame))


def _jpeg_ls(frame: bytes, layout: PixelLayout) -> NDArray[Any]:
    import imagecodecs

    _check_codestream(frame, jpeg_size(frame), layout)
    return np.asarray(imagecodecs.jpegls_decode(frame))


def _jpeg_2000(frame: bytes, layout: PixelLayout) -> NDArray[Any]:
    import imagecodecs

    codestream = bare_codestream(frame)
    _check_codestream(codestream, jpeg_2000_size(codestream), layout)
    return np.asarray(imagecodecs.jpeg2k_decode(codestream))


DECODERS: dict[str, Decoder] = {
    dicom.RLE: Decoder("imagecodecs", False, _rle),
    dicom.JPEG_BASELINE: Decoder("imagecodecs", True, _jpeg),
    dicom.JPEG_EXTENDED: Decoder("imagecodecs", True, _jpeg),
    dicom.JPEG_LOSSLESS: Decoder("imagecodecs", False, _jpeg),
    dicom.JPEG_LOSSLESS_SV1: Decoder("imagecodecs", False, _jpeg),
    dicom.JPEG_LS: Decoder("imagecodecs", False, _jpeg_ls),
    dicom.JPEG_LS_NEAR: Decoder("imagecodecs", True, _jpeg_ls),
    dicom.JPEG_2000_LOSSLESS: Decoder("imagecodecs", False, _jpeg_2000),
    dicom.JPEG_2000: Decoder("imagecodecs", True, _jpeg_2000),
    # By OpenJPEG: imagecodecs prints what OpenJPH says of a damaged block and gives the picture all the same, and lets a
    # lossy overshoot above white start again from black.
    dicom.HTJ2K_LOSSLESS: Decoder("imagecodecs", False, _jpeg_2000),
    dicom.HTJ2K_RPCL: Decoder("imagecodecs", False, _jpeg_2000),
    dicom.HTJ2K: Decoder("imagecodecs", True, _jpeg_2000),
}
"""Encapsulated transfer syntaxes; the native ones need no decoder."""


def decoder_identity(transfer_syntax_uid: str) -> str:
    """Library and version that read a transfer syntax; ``native`` where none is needed."""
    decoder = DECODERS.get(transfer_syntax_uid)
    return decoder.identity if decoder is not None else "native"


def lossy_decoder(transfer_syntax_uid: str) -> str:
    """Library and version that belong to a sample's key: of a lossy syntax's decoder; empty for all others."""
    decoder = DECODERS.get(transfer_syntax_uid)
    return decoder.identity if decoder is not None and decoder.lossy else ""


def reduced_decoder(transfer_syntax_uid: str) -> str:
    """Library and version that belong to a sample's key where pictures may be decoded at a fraction of their resolution."""
    return jpeg2000.identity() if transfer_syntax_uid in REDUCIBLE else ""


REDUCIBLE = {syntax for syntax, decoder in DECODERS.items() if decoder.decode is _jpeg_2000}
"""Transfer syntaxes whose codestream holds smaller pictures."""


@dataclass(frozen=True, slots=True)
class _Small:
    stored: Stored
    scale: int


def _reduced(frame: bytes, opened: OpenedDicom, layout: PixelLayout, voi: str, level: int) -> _Small | None:
    """The picture halved up to `level` times; None where only the whole one will do."""
    if layout.transfer_syntax_uid not in REDUCIBLE or layout.signed or layout.high_bit >= layout.bits_stored:
        return None
    codestream = bare_codestream(frame)
    size = jpeg_2000_size(codestream)
    _check_codestream(codestream, size, layout)
    assert size is not None  # _check_codestream has refused it
    level = min(level, jpeg2000.levels(codestream))
    if not level or not _averages(opened.header, layout, voi):
        return None
    if size.bits > layout.bits_stored and dicom.overlay_in_pixels(opened.header):
        return None  # its bits would be averaged with the values
    try:
        stored = jpeg2000.decode_reduced(codestream, level, (layout.rows, layout.columns), size.bits)
    except Exception as error:
        dicom.raise_transient(error)
        return None  # the whole decoder names what is wrong, or reads it
    if size.bits > layout.bits_stored and index_range(stored)[1] >> layout.bits_stored:
        return None  # bits that are no value's, and no overlay's that the header tells of; or a wavelet's overshoot
    if layout.bits_stored <= 8:
        return _Small(stored.astype(np.uint8, copy=False), 1 << level)
    return _Small(stored.astype(np.uint16, copy=False), 1 << level)


def _averages(header: Dataset, layout: PixelLayout, voi: str) -> bool:
    """Whether the mean of stored values stands for the mean of what they mean: a linear table, and padding, if there is any,
    that is darker than all else, so that a pixel of both is dark.
    """
    try:
        values, _ = _value_table(header, layout, voi)
    except Refused:
        return False  # named in its turn
    steps, padding = np.diff(values), _padding(header, layout)
    if not np.allclose(steps, steps[0], rtol=1e-6, atol=0):
        return False
    darkest_first = slice(None) if steps[0] > 0 else slice(None, None, -1)
    return padding is None or bool((np.diff(padding[darkest_first].astype(np.int8)) <= 0).all())


@dataclass(frozen=True, slots=True)
class _CodestreamSize:
    rows: int
    columns: int
    components: int
    bits: int


def _check_codestream(frame: bytes, size: _CodestreamSize | None, layout: PixelLayout) -> None:
    """Before decoding: a codestream larger than its DICOM header says would be decoded at its own size, one that was cut
    to a picture whose rest is made up, or (JPEG-LS) for seconds.
    """
    if size is None:
        raise Refused(Reason.DECODE_FAILED, "no picture header in the compressed frame")
    fits = size.components == 1 and size.bits <= layout.bits_allocated
    if layout.signed or layout.high_bit >= layout.bits_stored:
        fits &= size.bits > layout.high_bit  # or the sign, or the bits to shift away, would be looked for where there are none
    if (size.rows, size.columns) != (layout.rows, layout.columns) or not fits:
        found = f"{size.rows} x {size.columns}, {size.components} component(s) of {size.bits} bits"
        expected = f"{layout.rows} x {layout.columns}, 1 of at most {layout.bits_allocated}"
        raise Refused(Reason.PIXELS_MISMATCH, f"the compressed picture is {found}; expected {expected}")
    if not frame.rstrip(b"\0\xff").endswith(b"\xff\xd9"):  # fragments are padded with 00, by some with FF
        raise Refused(Reason.PIXELS_TRUNCATED, "the compressed picture has no end marker")


def jpeg_size(frame: bytes) -> _CodestreamSize | None:
    """Size of a JPEG or JPEG-LS picture from its start-of-frame segment (ITU-T T.81 B.2.2)."""
    at = 2
    while at + 10 <= len(frame):
        if frame[at] != 0xFF:
            return None
        marker = frame[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        (length,) = struct.unpack_from(">H", frame, at + 2)
        if (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker == 0xF7:
            bits, rows, columns, components = struct.unpack_from(">BHHB", frame, at + 4)
            return _CodestreamSize(rows, columns, components, bits)
        at += 2 + length
    return None


def bare_codestream(frame: bytes) -> bytes:
    """The JPEG 2000 codestream of a frame that may be a JP2 file: what is checked is what is decoded."""
    return frame if frame[:2] == b"\xff\x4f" else frame[frame.find(b"jp2c\xff\x4f") + 4 :]


def jpeg_2000_size(codestream: bytes) -> _CodestreamSize | None:
    """Size of a JPEG 2000 picture from the SIZ segment (ITU-T T.800 A.5.1)."""
    if codestream[:4] != b"\xff\x4f\xff\x51" or len(codestream) < 43:
        return None
    x1, y1, x0, y0 = struct.unpack_from(">4I", codestream, 8)
    (components,) = struct.unpack_from(">H", codestream, 40)
    return _CodestreamSize(y1 - y0, x1 - x0, components, (codestream[42] & 0x7F) + 1)


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
    elif wide and index_range(pixels)[1] >> layout.bits_stored:
        pixels = _masked(pixels, layout)
    stored: NDArray[Any] = np.ascontiguousarray(pixels, np.uint8 if layout.bits_stored <= 8 else np.uint16)
    hasher, full = _pixel_hasher(stored, 1), layout.bits_stored == 8 * stored.itemsize
    for part in bands(stored):
        hasher.update(part.data)
        if not full and index_range(part)[1] >> layout.bits_stored:  # while it is in the processor's cache
            masked = _masked(stored, layout)
            return masked, _pixel_digest(masked, 1)
    return stored, Digest(hasher.hexdigest())


def _masked(pixels: NDArray[Any], layout: PixelLayout) -> NDArray[Any]:
    """Without what lies above BitsStored: overlays, or a lossy codec's overshoot, which must not start again from black."""
    mask = pixels.dtype.type((1 << layout.bits_stored) - 1)
    overshoot = lossy_decoder(layout.transfer_syntax_uid) and not layout.signed
    masked: NDArray[Any] = np.minimum(pixels, mask) if overshoot else pixels & mask
    return masked


def _value_table(header: Dataset, layout: PixelLayout, voi: str) -> tuple[NDArray[np.float64], Flag]:
    """What each index means: Modality LUT or rescale, then the VOI, then MONOCHROME1 turned over, once."""
    count = 1 << layout.bits_stored
    stored = np.arange(count, dtype=np.float64) - (count // 2 if layout.signed else 0)
    tables = dicom.items(header, "ModalityLUTSequence")
    if tables:
        meaning = _looked_up(stored, dicom.lookup_table(tables[0], "Modality LUT"))
    else:
        slope, intercept = dicom.number(header, "RescaleSlope", 1.0), dicom.number(header, "RescaleIntercept", 0.0)
        values = stored * slope + intercept
        if not np.isfinite(values).all():
            raise Refused(Reason.RESCALE_INVALID, f"slope {slope:g}, intercept {intercept:g} give values that are not finite")
        meaning = _Meaning(values, float(values.min()), float(values.max()))
    meaning, flags = _apply_voi(meaning, header, voi)
    if layout.photometric_interpretation == "MONOCHROME1":
        return meaning.high + meaning.low - meaning.values, flags  # over the declared range, not the picture's own
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
    """Apply the first window or VOI LUT; what breaks the standard is refused where it would be applied, else flagged."""
    flags = Flag(0)
    window: _Window | None = None
    table: LookupTable | None = None
    try:
        window = _window(header)
    except Refused:
        if voi == "window":
            raise
        flags |= Flag.VOI_INVALID
    try:
        tables = [dicom.lookup_table(item, "VOI LUT") for item in dicom.items(header, "VOILUTSequence")]
        table = tables[0] if tables else None
    except Refused:
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
    centers, widths = dicom.texts(header, "WindowCenter"), dicom.texts(header, "WindowWidth")
    if len(centers) != len(widths):
        raise Refused(Reason.WINDOW_INVALID, f"{len(centers)} window centers and {len(widths)} widths")
    function = dicom.text(header, "VOILUTFunction").upper() or "LINEAR"
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise Refused(Reason.WINDOW_INVALID, "unknown VOI LUT Function; expected LINEAR, LINEAR_EXACT or SIGMOID")
    if not centers:
        return None
    try:
        center, width = float(centers[0]), float(widths[0])
    except ValueError:
        raise Refused(Reason.WINDOW_INVALID, "a window that is no number") from None
    if not np.isfinite([center, width]).all() or width <= 0 or (function == "LINEAR" and width < 1):
        found = f"window center {center:g}, width {width:g}"
        raise Refused(Reason.WINDOW_INVALID, f"{found}; expected finite, and a positive width")
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


def _padding(header: Dataset, layout: PixelLayout) -> NDArray[np.bool_] | None:
    """Which indices are Pixel Padding: compared as stored values, never as rescaled ones."""
    ends = [dicom.texts(header, keyword) for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
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
