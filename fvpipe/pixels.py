"""Step 1b: a DICOM file's bytes -> :class:`Picture`: stored integers, and a table of what each stored value means.

Which decoder reads which transfer syntax is written down in :data:`DECODERS` and never left to a library's order of
preference. The size of a compressed picture is read from its own header and compared before it is decoded.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from io import BytesIO
from typing import Any, Literal

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels.processing import apply_modality_lut, apply_voi, apply_windowing

from fvpipe import dicom
from fvpipe.dicom import OpenedDicom, PixelLayout, Refused, silenced
from fvpipe.types import Digest, Edge, Flag, Laterality, Picture, Reason

Stored = NDArray[np.uint8] | NDArray[np.uint16]
INFLATE_HEADROOM = 2**24  # bytes of header that a deflated file may have beside its pixels


def read_picture(
    data: bytes,
    laterality: Laterality,
    voi: Literal["none", "window", "lut"] = "none",
    source_digest: Digest | None = None,
) -> Picture:
    """Decode one image.

    Parameters
    ----------
    data : bytes
        The whole DICOM file.
    laterality : Laterality
        The breast's side, which tells where the chest wall should lie when Patient Orientation does not.
    voi : {"none", "window", "lut"}
        Apply nothing, the first window, or the first VOI LUT of the header.
    source_digest : Digest or None
        Of `data`, where the caller has it already.

    Raises
    ------
    Refused
        With the reason code of the broken rule.
    """
    opened = dicom.open_dicom(BytesIO(data), dicom.MAX_PIXELS * 2 + INFLATE_HEADROOM)
    with silenced():
        layout = dicom.pixel_layout(opened)
        dicom.check_rescale(opened.header)
        dicom.check_pixel_data(opened, layout)
        stored = _indices(_decode(opened, layout, data), layout)
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
        pixel_digest=_pixel_digest(stored),
        flags=flags,
    )


def _pixel_digest(stored: Stored) -> Digest:
    """BLAKE3 over size and values: the same picture has the same digest in every transfer syntax."""
    hasher = blake3(struct.pack("<2sII", stored.dtype.str[1:].encode(), *stored.shape))
    hasher.update(np.ascontiguousarray(stored).view(np.uint8).data)
    return Digest(hasher.hexdigest())


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


def _decode(opened: OpenedDicom, layout: PixelLayout, data: bytes) -> NDArray[Any]:
    if layout.transfer_syntax_uid in dicom.NATIVE:
        return _native(opened, layout, data)
    assert opened.value_offset is not None  # check_pixel_data has seen it
    opened.body.seek(opened.value_offset)
    try:
        frame = get_frame(opened.body, 0, number_of_frames=1)
    except Exception as error:
        raise Refused(Reason.PIXELS_TRUNCATED, f"the encapsulated frame is not whole ({type(error).__name__})") from None
    try:
        decoded = DECODERS[layout.transfer_syntax_uid].decode(frame, layout)
    except Refused:
        raise
    except Exception as error:
        syntax = layout.transfer_syntax_uid
        raise Refused(Reason.DECODE_FAILED, f"transfer syntax {syntax}: the decoder says {type(error).__name__}") from None
    if decoded.shape != (layout.rows, layout.columns) or decoded.dtype.kind not in "iu":
        raise Refused(Reason.PIXELS_MISMATCH, f"decoded to {decoded.shape}; expected {(layout.rows, layout.columns)}")
    return decoded


def _native(opened: OpenedDicom, layout: PixelLayout, data: bytes) -> NDArray[Any]:
    """Uncompressed pixels: a view of the file's bytes, no copy."""
    source = opened.body.getvalue() if opened.transfer_syntax_uid == dicom.DEFLATED_LE else data  # type: ignore[attr-defined]
    big = layout.transfer_syntax_uid == dicom.EXPLICIT_BE
    count = layout.rows * layout.columns
    if layout.bits_allocated == 16:
        flat = np.frombuffer(source, ">u2" if big else "<u2", count, opened.value_offset or 0)
    else:
        even = count + count % 2 if big and opened.words else count
        flat = np.frombuffer(source, "u1", even, opened.value_offset or 0)
        if big and opened.words:
            flat = flat.reshape(-1, 2)[:, ::-1].reshape(-1)[:count]
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

    _check_codestream(jpeg_size(frame), layout)
    return np.asarray(imagecodecs.jpeg8_decode(frame))


def _jpeg_ls(frame: bytes, layout: PixelLayout) -> NDArray[Any]:
    import imagecodecs

    _check_codestream(jpeg_size(frame), layout)
    return np.asarray(imagecodecs.jpegls_decode(frame))


def _jpeg_2000(frame: bytes, layout: PixelLayout) -> NDArray[Any]:
    import imagecodecs

    _check_codestream(jpeg_2000_size(frame), layout)
    return np.asarray(imagecodecs.jpeg2k_decode(frame))


def _htj2k(frame: bytes, layout: PixelLayout) -> NDArray[Any]:
    import imagecodecs

    _check_codestream(jpeg_2000_size(frame), layout)
    return np.asarray(imagecodecs.htj2k_decode(frame))


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
    dicom.HTJ2K_LOSSLESS: Decoder("imagecodecs", False, _htj2k),
    dicom.HTJ2K_RPCL: Decoder("imagecodecs", False, _htj2k),
    dicom.HTJ2K: Decoder("imagecodecs", True, _htj2k),
}
"""Encapsulated transfer syntaxes; the native ones need no decoder."""


def lossy_decoder(transfer_syntax_uid: str) -> str:
    """Library and version that belong to a sample's key: of a lossy syntax's decoder; empty for all others."""
    decoder = DECODERS.get(transfer_syntax_uid)
    return decoder.identity if decoder is not None and decoder.lossy else ""


@dataclass(frozen=True, slots=True)
class _CodestreamSize:
    rows: int
    columns: int
    components: int
    bits: int


def _check_codestream(size: _CodestreamSize | None, layout: PixelLayout) -> None:
    """Before decoding: a codestream larger than its DICOM header says would be decoded at its own size."""
    if size is None:
        raise Refused(Reason.DECODE_FAILED, "no picture header in the compressed frame")
    fits = size.components == 1 and size.bits <= layout.bits_allocated
    if (size.rows, size.columns) != (layout.rows, layout.columns) or not fits:
        found = f"{size.rows} x {size.columns}, {size.components} component(s) of {size.bits} bits"
        expected = f"{layout.rows} x {layout.columns}, 1 of at most {layout.bits_allocated}"
        raise Refused(Reason.PIXELS_MISMATCH, f"the compressed picture is {found}; expected {expected}")


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


def jpeg_2000_size(frame: bytes) -> _CodestreamSize | None:
    """Size of a JPEG 2000 codestream, bare or in a JP2 file, from its SIZ segment (ITU-T T.800 A.5.1)."""
    start = 0 if frame[:2] == b"\xff\x4f" else frame.find(b"jp2c\xff\x4f") + 4
    if start == 3 or frame[start + 2 : start + 4] != b"\xff\x51" or len(frame) < start + 43:
        return None
    x1, y1, x0, y0 = struct.unpack_from(">4I", frame, start + 8)
    (components,) = struct.unpack_from(">H", frame, start + 40)
    return _CodestreamSize(y1 - y0, x1 - x0, components, (frame[start + 42] & 0x7F) + 1)


# --- from bits to indices, from indices to values ---------------------------------------------------------------------


def _indices(decoded: NDArray[Any], layout: PixelLayout) -> Stored:
    """The stored bits as table indices: bits above BitsStored masked, signed values offset so that order is kept."""
    if decoded.dtype.kind == "i":
        decoded = decoded.view(f"u{decoded.dtype.itemsize}")
    pixels: NDArray[Any] = decoded.astype(f"<u{decoded.dtype.itemsize}", copy=False)
    shift = layout.high_bit + 1 - layout.bits_stored
    if shift:
        pixels = pixels >> shift
    mask = (1 << layout.bits_stored) - 1
    if layout.bits_stored < 8 * pixels.dtype.itemsize and int(pixels.max()) > mask:
        pixels = pixels & pixels.dtype.type(mask)
    if layout.signed:
        pixels = pixels ^ pixels.dtype.type(1 << (layout.bits_stored - 1))
    return pixels.astype(np.uint8, copy=False) if layout.bits_stored <= 8 else pixels.astype(np.uint16, copy=False)


def _value_table(header: Dataset, layout: PixelLayout, voi: str) -> tuple[NDArray[np.float64], Flag]:
    """What each index means: Modality LUT or rescale, then the VOI, then MONOCHROME1 turned over, once."""
    count = 1 << layout.bits_stored
    stored = np.arange(count) - (count // 2 if layout.signed else 0)
    values: NDArray[np.float64]
    if header.get("ModalityLUTSequence"):
        values = np.asarray(apply_modality_lut(stored.astype(np.int32), header), np.float64)
    else:
        slope = dicom.number(header, "RescaleSlope", 1.0)
        values = (stored * slope + dicom.number(header, "RescaleIntercept", 0.0)).astype(np.float64, copy=False)
    values, flags = _apply_voi(values, header, voi)
    if layout.photometric_interpretation == "MONOCHROME1":
        values = values.max() + values.min() - values  # over the declared range, not the picture's own
    return values, flags


def _apply_voi(values: NDArray[np.float64], header: Dataset, voi: str) -> tuple[NDArray[np.float64], Flag]:
    problem = _voi_problem(header)
    if voi == "none":
        return values, Flag.VOI_INVALID if problem else Flag(0)
    if problem:
        raise Refused(*problem)
    if voi == "window" and header.get("WindowCenter") is not None:
        return np.asarray(apply_windowing(values, header, 0), np.float64), Flag(0)
    if voi == "lut" and header.get("VOILUTSequence"):
        return np.asarray(apply_voi(np.rint(values).astype(np.int32), header, 0), np.float64), Flag(0)
    return values, Flag.VOI_ABSENT


def _voi_problem(header: Dataset) -> tuple[Reason, str] | None:
    """What is wrong with the header's windows and VOI LUTs, by PS3.3 C.11.2."""
    centers, widths = dicom.texts(header, "WindowCenter"), dicom.texts(header, "WindowWidth")
    if len(centers) != len(widths):
        return Reason.WINDOW_INVALID, f"{len(centers)} window centers and {len(widths)} widths"
    function = dicom.text(header, "VOILUTFunction").upper() or "LINEAR"
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        return Reason.WINDOW_INVALID, "unknown VOI LUT Function; expected LINEAR, LINEAR_EXACT or SIGMOID"
    if centers:
        try:
            center, width = float(centers[0]), float(widths[0])
        except ValueError:
            return Reason.WINDOW_INVALID, "a window that is no number"
        if not np.isfinite([center, width]).all() or width <= 0 or (function == "LINEAR" and width < 1):
            return Reason.WINDOW_INVALID, f"window center {center:g}, width {width:g}; expected finite, and a positive width"
    try:
        for item in header.get("VOILUTSequence") or ():
            dicom.check_lut(item, "VOI LUT")
    except Refused as refused:
        return refused.reason, refused.detail
    return None


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
