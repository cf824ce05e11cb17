"""Image files that are not DICOM, opened: what their own headers say, as elements of DICOM. No pixel is decoded."""

from __future__ import annotations

import math
import os
import re
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from pydicom.dataset import Dataset

from fvpipe.config.formats import DICOM, HEAD_BYTES, PNG, Format, recognize
from fvpipe.dicom.decoding.layout import EXCESS_BYTES, PixelLocation
from fvpipe.dicom.elements import RejectedFile, raise_transient, silenced
from fvpipe.dicom.reader import OpenedDicom, open_dicom
from fvpipe.dicom.rules.pixels import MAX_SIDE, check_size
from fvpipe.reasons import Reason

TEXT_HEADER_BYTES = 1 << 16  # of a PGM or NRRD file, within which its header must end
MAX_KEYWORD_BYTES = 80  # of a text of a PNG file, with the byte that ends it
TEXT_BYTES = 1 << 20  # of a text of a PNG file, unpacked, in which the orientation must stand


@dataclass(frozen=True, slots=True)
class RasterHeader:
    """Header of an image file that is not DICOM, parsed."""

    rows: int
    columns: int
    bits: int  # of a value
    signed: bool = False  # values are two's complement
    inverted: bool = False  # the smallest value is white
    # Millimeters between rows and between columns. Resolutions for screen and print, in PNG, JPEG and TIFF, are none.
    spacing: tuple[float, float] | None = None
    offset: int = 0  # of a PGM or NRRD file: where its values begin
    values: str = ""  # the same: their type, as numpy has it
    most: int = 0  # the same: the largest value that there may be
    compressed: bool = False  # the same: by gzip
    channels: int = 1  # of an NRRD file: values of a pixel, one after the other


def open_image(file: BinaryIO, formats: Sequence[Format] = DICOM, *, inverted: bool = False) -> OpenedDicom:
    """Open an image of one of `formats`, at its start; `inverted`: low values are white where the file does not say.

    Raises
    ------
    RejectedFile
        None of these formats, a header that breaks its format, or an image that is not grey, of 8 to 16 bits, and one.
    """
    head = file.read(HEAD_BYTES)
    file.seek(0)
    found = recognize(head)
    if "dicom" in formats and (found == "dicom" or found not in formats):
        return open_dicom(file)
    if found is None or found not in formats:
        what = f"its first bytes are those of {found.upper() if found else _unknown(head)}" if head else "the file is empty"
        detail = f"{what}; expected {' or '.join(each.upper() for each in formats)}, as the data set states (`formats`)"
        raise RejectedFile(Reason.NOT_AN_IMAGE, detail)
    header = read_raster(file, found)
    size = file.seek(0, os.SEEK_END)
    elements = _elements(header, header.inverted or (inverted and found != "tiff"))
    return OpenedDicom(elements, found, file, PixelLocation(0, size, False, None), size, True, size)


def read_raster(file: BinaryIO, form: Format) -> RasterHeader:
    """Read the header of a file.

    Raises
    ------
    RejectedFile
        It breaks the format `form`, or describes no grey image of 8 to 16 bits.
    """
    file.seek(0)
    try:
        with silenced():
            header = _READERS[form](file)
    except RejectedFile:
        raise
    except Exception as error:
        raise_transient(error)
        file.read(0)  # raises where the budget of bytes is spent, which a library may have hidden
        raise _broken(form, "it ends too early, or a field of it is wrong") from None
    if not 8 <= header.bits <= 16:
        raise RejectedFile(Reason.BITS_UNSUPPORTED, f"values of {header.bits} bit(s); expected 8 to 16")
    check_size(header.rows, header.columns)
    if header.values and not header.compressed:
        _check_amount(header, file.seek(0, os.SEEK_END) - header.offset, _pgm_excess(file) if form == "pgm" else EXCESS_BYTES)
    return header


def _elements(header: RasterHeader, inverted: bool) -> Dataset:
    dataset = Dataset()
    dataset.Rows, dataset.Columns = header.rows, header.columns
    dataset.SamplesPerPixel = 1  # where the file has three, decoding compares them
    dataset.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8 if header.bits == 8 else 16, header.bits, header.bits - 1
    dataset.PixelRepresentation = int(header.signed)
    if header.spacing:
        dataset.PixelSpacing = [f"{each:.10g}" for each in header.spacing]
    return dataset


def _unknown(head: bytes) -> str:
    return "a plain PGM file (P2), of numbers as text, not a binary one (P5)" if re.match(rb"P2\s", head) else "no image"


def _broken(form: Format, why: str) -> RejectedFile:
    return RejectedFile(Reason.HEADER_UNREADABLE, f"the header of the {form.upper()} file cannot be read: {why}")


def _no_grey(found: str) -> RejectedFile:
    return RejectedFile(Reason.COLOUR, f"the image is {found}; expected grey, or grey stored as three equal channels")


def _check_upright(orientation: object) -> None:
    """Check that no tag tells viewers to turn the image, as EXIF has them; 0 says nothing."""
    if orientation not in (None, 0, 1):
        detail = "the file's Orientation says that its pixels lie turned or mirrored; expected 1: write the pixels upright"
        raise RejectedFile(Reason.ORIENTATION_INVALID, detail)


def _check_exif(data: bytes) -> None:
    from PIL.Image import Exif

    exif = Exif()
    exif.load(data)
    _check_upright(exif.get(274))


_XMP_ORIENTATION = re.compile(rb"tiff:Orientation(?:\s*=\s*[\"']|>)\s*([0-9]+)")


def _check_xmp(data: bytes) -> None:
    """Check the same tag in an XMP packet, which viewers read where there is no EXIF."""
    if found := _XMP_ORIENTATION.search(data):
        _check_upright(int(found[1]))


# --- PNG --------------------------------------------------------------------------------------------------------------


def png_chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and end of each chunk of a PNG file, checked for what makes the image another than its pixels.

    Raises
    ------
    RejectedFile
        A chunk of transparency, animation or another orientation, or none that ends the image.
    """
    at = file.seek(len(PNG))
    while len(start := file.read(8)) == 8:
        length, name = struct.unpack(">I4s", start)
        yield name, at, at + 12 + length
        if name == b"IEND":
            return
        if name == b"tRNS":
            raise _no_grey("partly transparent")
        if name == b"acTL":
            raise RejectedFile(Reason.MULTI_FRAME, "an animated PNG file; expected 1 image")
        if name == b"eXIf":
            _check_exif(file.read(length))
        if name in (b"tEXt", b"zTXt", b"iTXt"):
            begin = file.read(min(length, MAX_KEYWORD_BYTES))  # a comment may be as long as an image
            keyword, _, text = begin.partition(b"\0")
            if keyword in _PNG_PROFILES:
                _check_png_text(name, keyword, text + file.read(length - len(begin)))
        at = file.seek(at + 12 + length)
    raise RejectedFile(Reason.PIXELS_TRUNCATED, "the PNG file ends before its end chunk")


_PNG_PROFILES = frozenset({b"XML:com.adobe.xmp", *(b"Raw profile type " + kind for kind in (b"exif", b"APP1", b"xmp"))})


def _check_png_text(name: bytes, keyword: bytes, text: bytes) -> None:
    """Check the same tag in XMP, and in EXIF data and XMP as hexadecimal digits, as written before there was ``eXIf``."""
    if name == b"iTXt":  # compressed or not, how, language, keyword in that language
        name, text = b"zTXt" if text[:1] == b"\1" else name, text[2:].split(b"\0", 2)[-1]
        text = b"\0" + text if name == b"zTXt" else text
    if name == b"zTXt":
        text = zlib.decompressobj().decompress(text[1:], TEXT_BYTES)
    if keyword.startswith(b"Raw"):
        text = bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii"))  # after a line, the name and the length
    if keyword.endswith(b"xmp") or text.startswith(b"http:"):
        _check_xmp(text)
    else:
        _check_exif(text)


def _png(file: BinaryIO) -> RasterHeader:
    head = file.read(33)
    if head[8:16] != b"\0\0\0\x0dIHDR":
        raise _broken("png", "its first chunk is no IHDR")
    columns, rows, bits, color = struct.unpack(">IIBB", head[16:26])
    if color not in (0, 2, 4, 6):  # grey or RGB, with an alpha channel or not, which decoding looks at
        raise _no_grey("of a palette" if color == 3 else "of an unknown color type")
    for name, _, _ in png_chunks(file):
        if name == b"IDAT":
            return RasterHeader(rows, columns, bits)
    raise RejectedFile(Reason.PIXEL_DATA_MISSING, "the PNG file has no image data")


# --- JPEG -------------------------------------------------------------------------------------------------------------


def _jpeg(file: BinaryIO) -> RasterHeader:
    """Read segments up to the start of scan (ITU-T T.81 B.2.1): the Orientation may stand after the start of frame."""
    header = None
    file.seek(2)
    while (mark := file.read(2))[:1] == b"\xff" and len(mark) == 2 and mark[1] not in (0xD8, 0xD9, 0xDA):
        if mark[1] == 0xFF:  # a fill byte
            file.seek(-1, os.SEEK_CUR)
            continue
        (length,) = struct.unpack(">H", file.read(2))
        content = file.read(length - 2) if length >= 2 else b""
        if mark[1] == 0xE1 and content.startswith(b"Exif\0\0"):
            _check_exif(content)
        if mark[1] == 0xE1 and content.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
            _check_xmp(content)
        if 0xC0 <= mark[1] <= 0xCF and mark[1] not in (0xC4, 0xC8, 0xCC):
            bits, rows, columns, components = struct.unpack(">BHHB", content[:6])
            if components not in (1, 3):
                raise _no_grey(f"of {components} components")
            header = header or RasterHeader(rows, columns, bits)
    if header is None or mark != b"\xff\xda":
        raise _broken("jpeg", f"no start of {'frame' if header is None else 'scan'}")
    return header


# --- TIFF -------------------------------------------------------------------------------------------------------------

_COMPRESSIONS = {1: "none", 5: "LZW", 8: "Deflate", 32946: "Deflate", 32773: "PackBits"}
_TIFF_COLORS = {2: 3, 0: 1, 1: 1}  # photometric interpretation -> samples: RGB, WhiteIsZero, BlackIsZero


def _tiff(file: BinaryIO) -> RasterHeader:
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    head = file.read(8)
    if b"*" in head[2:4]:
        directory = ImageFileDirectory_v2(head)
    else:  # Pillow knows the start of a little-endian BigTIFF file alone
        directory = ImageFileDirectory_v2(b"II+\0" + head[4:] + file.read(8), head[:2])
    file.seek(directory.next)
    directory.load(file)

    def tag(number: int, *default: int) -> tuple[int, ...]:
        value = directory.get(number, default)
        return tuple(int(each) for each in (value if isinstance(value, tuple) else (value,)))

    def one(number: int, *default: int) -> int:
        found = set(tag(number, *default))
        if len(found) != 1:
            raise _broken("tiff", f"its tag {number} has {len(found)} different values; expected one")
        return found.pop()

    (rows, columns), bits, photometric, samples = check_size(one(257), one(256)), one(258, 1), one(262), one(277, 1)
    alpha = len(tag(338))  # samples beside those of the colors, of which decoding looks at one
    if _TIFF_COLORS.get(photometric) != samples - alpha or alpha > 1:
        raise _no_grey(f"of photometric interpretation {photometric} with {samples} sample(s) a pixel, {alpha} of them extra")
    if one(259, 1) not in _COMPRESSIONS:
        detail = f"compression {one(259, 1)} of the TIFF file; expected none, LZW, Deflate or PackBits"
        raise RejectedFile(Reason.TRANSFER_SYNTAX_UNSUPPORTED, detail)
    if one(339, 1) not in (1, 2):
        raise RejectedFile(Reason.BITS_UNSUPPORTED, "values that are not integers; expected integers of 8 to 16 bits")
    across, down = (one(322), one(323)) if 322 in directory else (columns, min(one(278, rows), rows))
    if one(266, 1) != 1 or (samples > 1 and one(284, 1) != 1) or not 0 < across <= MAX_SIDE or not 0 < down <= MAX_SIDE:
        raise _broken("tiff", "bits or channels in another order, or tiles larger than any image")
    _check_upright(one(274, 1))
    if one(254, 0) & 0b101:
        raise RejectedFile(
            Reason.MULTI_FRAME, "the first page of the TIFF file is a thumbnail or a mask; expected the image alone"
        )
    if directory.next or re.match(r"ImageJ=.*?\bimages=(?!1\b)", str(directory.get(270, "")), re.DOTALL):
        raise RejectedFile(Reason.MULTI_FRAME, "a TIFF file of several pages; expected 1 image")
    parts = list(zip(tag(273) or tag(324), tag(279) or tag(325), strict=True))
    size, needed = file.seek(0, os.SEEK_END), 1 if one(259, 1) != 1 else rows * (columns * samples * bits // 8)
    inside = all(start and length and start + length <= size for start, length in parts)
    if not inside or len(parts) != -(-rows // down) * -(-columns // across) or sum(length for _, length in parts) < needed:
        raise RejectedFile(
            Reason.PIXELS_TRUNCATED, "strips or tiles of the TIFF file lie beyond its end, are cut, or are missing"
        )
    return RasterHeader(rows, columns, bits, one(339, 1) == 2, photometric == 0)


# --- PGM and NRRD -----------------------------------------------------------------------------------------------------

_PGM = re.compile(rb"P5" + 3 * rb"(?:\s|#[^\r\n]*[\r\n])+([0-9]{1,9})" + rb"\s")
_NRRD_TYPES = {
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), "i2"),
}
# Kinds of an axis of the values of one pixel.
_NRRD_CHANNELS = frozenset({"vector", "list", "rgb-color", "rgba-color", "3-color", "4-color", "3-vector", "4-vector"})
# Spaces whose first two axes are those of DICOM (x to the left, y to posterior) with these signs.
_NRRD_SPACES = {("right-anterior-superior", "ras"): (-1, -1), ("left-anterior-superior", "las"): (1, -1)}


def _pgm(file: BinaryIO) -> RasterHeader:
    head = file.read(TEXT_HEADER_BYTES)
    match = _PGM.match(head)
    if match is None:
        raise _broken("pgm", "expected width, height and largest value")
    columns, rows, most = map(int, match.groups())
    offset, size = match.end(), rows * columns * (2 if most > 255 else 1)
    if head[offset - 1 : offset + 1] == b"\r\n" and file.seek(0, os.SEEK_END) == offset + 1 + size:
        offset += 1  # a line ended as on Windows; the format has one byte of white space
    return RasterHeader(rows, columns, most.bit_length(), offset=offset, values=">u2" if most > 255 else "u1", most=most)


def _pgm_excess(file: BinaryIO) -> int:
    """Bytes that may follow the values: a line break; any other would mean that the values do not begin where they seem to."""
    file.seek(-1, os.SEEK_END)
    return int(file.read(1) == b"\n")


def _nrrd(file: BinaryIO) -> RasterHeader:
    head = file.read(TEXT_HEADER_BYTES)
    end = re.search(rb"\r?\n\r?\n", head)
    text = head[: end.start() if end else len(head)].decode("latin-1")  # that of a detached header has no end
    lines = [line.partition(":") for line in text.splitlines()[1:] if not line.startswith("#")]
    pairs = [(name.strip().lower(), value.strip()) for name, _, value in lines if not value.startswith("=")]
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise _broken("nrrd", "a field occurs twice")
    if {"data file", "datafile"} & fields.keys():
        raise RejectedFile(Reason.PIXEL_DATA_MISSING, "the NRRD file names another file for its pixels; expected them inside")
    if end is None:
        raise _broken("nrrd", "no empty line ends it")
    order = {"big": ">", "little": "<"}.get(fields.get("endian", "").lower(), "")
    if missing := [name for name in ("type", "dimension", "sizes", "encoding") if not fields.get(name)]:
        raise _broken("nrrd", f"it has no field {' and no field '.join(missing)}")
    kind, encoding = _NRRD_TYPES.get(fields["type"].lower()), fields["encoding"].lower()
    if kind is None:
        raise RejectedFile(Reason.BITS_UNSUPPORTED, "values that are not integers of 8 or 16 bits")
    if encoding not in ("raw", "gzip", "gz"):
        raise RejectedFile(Reason.TRANSFER_SYNTAX_UNSUPPORTED, "the encoding of the NRRD file is neither raw nor gzip")
    sizes = [int(each) for each in fields["sizes"].split()]
    of_pixels = fields.get("kinds", "").lower().split()[:1]
    skipped = [fields.get(name, "0") for name in ("byte skip", "byteskip", "line skip", "lineskip")]
    if int(fields["dimension"]) != len(sizes) or any(each != "0" for each in skipped):
        raise _broken("nrrd", "sizes that are not as many as its dimension, or bytes to skip")
    channels = sizes.pop(0) if len(sizes) > 2 and sizes[0] in range(1, 5) and {*of_pixels} & _NRRD_CHANNELS else 0
    if len(sizes) < 2 or any(each != 1 for each in sizes[2:]):
        raise RejectedFile(Reason.MULTI_FRAME, f"an NRRD file of {len(sizes)} axes; expected rows and columns of one image")
    bits = 8 * int(kind[1])
    if bits > 8 and not order:
        raise _broken("nrrd", "its field endian is missing or wrong; expected big or little, for values of 16 bits")
    return RasterHeader(
        sizes[1], sizes[0], bits, kind[0] == "i", spacing=_nrrd_spacing(fields, int(channels > 0)), offset=end.end(),
        values=order + kind, most=(1 << bits) - 1, compressed=encoding != "raw", channels=channels or 1,
    )  # fmt: skip


def _nrrd_spacing(fields: dict[str, str], first: int) -> tuple[float, float] | None:
    """Spacing of rows and columns, where its unit is given as millimeters; checks that the axes are not turned.

    The axis of columns is the `first` one, after that of channels where there is one.
    """
    columns_then_rows, mirrored = [float(each) for each in fields.get("spacings", "").split()[first:]], False
    units = re.findall('"([^"]*)"', fields.get("space units", "")) or re.findall('"([^"]*)"', fields.get("units", ""))[first:]
    if directions := fields.get("space directions"):
        vectors = [[float(each) for each in part.split(",")] for part in re.findall(r"\(([^)]*)\)", directions[:1000])][:2]
        space = fields.get("space", "").lower()
        signs = next((signs for names, signs in _NRRD_SPACES.items() if space.startswith(names)), (1, 1))
        along = [signs[axis] * vector[axis] for axis, vector in enumerate(vectors)]
        across = [each for axis, vector in enumerate(vectors) for at, each in enumerate(vector) if at != axis]
        columns_then_rows, mirrored = along, len(along) != 2 or not min(along) > 0 or any(across)
    if mirrored or any(each < 0 for each in columns_then_rows[:2]):
        what = "space directions" if directions else "spacings"
        detail = f"the NRRD file's {what} turn or mirror its axes; expected columns and rows that grow along them"
        raise RejectedFile(Reason.ORIENTATION_INVALID, detail)
    known = len(columns_then_rows) >= 2 and all(math.isfinite(each) and each > 0 for each in columns_then_rows[:2])
    return (columns_then_rows[1], columns_then_rows[0]) if known and units[:2] == ["mm", "mm"] else None


def _check_amount(header: RasterHeader, there: int, excess: int) -> None:
    """Check that the values of a PGM or NRRD file, `there` bytes, are those of its image and at most `excess` more."""
    expected = header.rows * header.columns * header.channels * (2 if header.bits > 8 else 1)
    if there < expected:
        raise RejectedFile(Reason.PIXELS_TRUNCATED, f"the file has {there} bytes of values; expected {expected}")
    if there > expected + excess:
        raise RejectedFile(Reason.PIXELS_MISMATCH, f"the file has {there} bytes of values; expected {expected} of one image")


_READERS: dict[Format, Callable[[BinaryIO], RasterHeader]] = {
    "png": _png,
    "jpeg": _jpeg,
    "tiff": _tiff,
    "pgm": _pgm,
    "nrrd": _nrrd,
}
