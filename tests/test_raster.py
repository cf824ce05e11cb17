"""Images that are not DICOM: read exactly, or rejected by name; and through a whole build."""

from __future__ import annotations

import csv
import io
import json
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fvpipe.config.formats import RASTER, Format
from fvpipe.config.pipeline import Pipeline
from fvpipe.dicom.decoding.decoders import lossy_decoder
from fvpipe.dicom.decoding.jpeg import decode_jpeg
from fvpipe.dicom.decoding.pixels import decode_image
from fvpipe.dicom.decoding.second_reader import library_version, read_values
from fvpipe.dicom.elements import RejectedFile
from fvpipe.dicom.header import parse_header, read_header
from fvpipe.dicom.image_header import ImageHeader
from fvpipe.dicom.policy import HeaderPolicy
from fvpipe.dicom.raster.headers import read_raster
from fvpipe.imaging.decoded_image import DecodedImage
from fvpipe.indexing.files.pixel_contents import PixelTask, read_pixel_digests
from fvpipe.reasons import Rejection
from fvpipe.shards.reader import open_shards
from fvpipe.types import Laterality, StatedImage, View
from tests.conftest import build, run
from tests.support import factory
from tests.support.raster import ORIENTATION_6, chunk, jpeg, nrrd, pgm, png, rgb, tiff, tiff_by_pillow

ALL: tuple[Format, ...] = ("png", "jpeg", "tiff", "pgm", "nrrd")
POLICY = HeaderPolicy(formats=ALL, keep_studies_apart=False, from_header=())
STATED = StatedImage("p", "", Laterality.LEFT, View.CC, sources="patient table")
G16 = np.random.default_rng(1).integers(0, 1 << 16, (40, 30)).astype(np.uint16)
G8 = (G16 >> 8).astype(np.uint8)
SIGNED = (G16.astype(np.int32) - 32768).astype(np.int16)
TILED = np.tile(G16, (4, 4))
BIG = np.random.default_rng(2).integers(0, 256, (300, 200)).astype(np.uint8)


def read(tmp_path: Path, data: bytes, policy: HeaderPolicy = POLICY) -> DecodedImage | Rejection:
    """Read a file as index and build do: its header from disk, its pixels from the bytes in memory."""
    (tmp_path / "image").write_bytes(data)
    header = read_header(tmp_path, "image", policy, STATED)
    if isinstance(header, Rejection):
        return header
    assert header == parse_header(data, "image", policy, STATED)
    try:
        return decode_image(data, header)
    except RejectedFile as rejected:
        return Rejection("image", rejected.reason, rejected.detail)


def values(found: DecodedImage | Rejection) -> NDArray[np.float64]:
    assert isinstance(found, DecodedImage), found
    return found.values[found.stored]


def packed(pixels: NDArray[Any], bits: int) -> bytes:
    """Values of `bits` bits without gaps, as TIFF stores them: rows begin at a byte."""
    rows = ("".join(format(int(value), f"0{bits}b") for value in row) for row in pixels)
    text = "".join(row.ljust(-(-len(row) // 8) * 8, "0") for row in rows)
    return int(text, 2).to_bytes(len(text) // 8, "big")


def jpeg_orientation_before(marker: bytes, data: bytes) -> bytes:
    """Put the tag that says that the image is stored turned before the first `marker`."""
    content = b"Exif\0\0" + ORIENTATION_6
    return data.replace(marker, b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content + marker, 1)


XMP_1, XMP_3 = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>' % turn for turn in (1, 3)
)
EXIF_6 = b"Exif\0\0" + ORIENTATION_6
HEX_1, HEX_6 = (b"\nexif\n      32\n%b\n" % EXIF_6.replace(b"\0\6", turn).hex().encode() for turn in (b"\0\1", b"\0\6"))
RAW = b"Raw profile type exif\0"
APP1_1, APP1_3 = (
    b"Raw profile type APP1\0\0"
    + zlib.compress(b"\ngeneric profile\n 99\n%b\n" % (b"http://ns.adobe.com/xap/1.0/\0" + x).hex().encode())
    for x in (XMP_1, XMP_3)
)
MM = ("space dimension: 2", "space directions: (0.07,0) (0,0.1)")
EXACT: dict[str, tuple[bytes, NDArray[Any]]] = {
    "png 8": (png(G8), G8),
    "png 16": (png(G16), G16),
    "png rgb": (png(rgb(G8)), G8),
    "png rgb 16": (png(rgb(G16)), G16),
    "png grey and opaque": (png(np.dstack([G8, np.full_like(G8, 255)]), color=4), G8),
    "png rgb and opaque": (png(np.dstack([*[G8] * 3, np.full_like(G8, 255)]), color=6), G8),
    "png rgb 16 and opaque": (png(np.dstack([*[G16] * 3, np.full_like(G16, 65535)]), color=6), G16),
    "png gamma": (png(G16, chunks=chunk(b"gAMA", struct.pack(">I", 45455))), G16),
    "png 12 bits in 16": (png(G16, chunks=chunk(b"sBIT", b"\x0c")), G16),
    "png upright in XMP": (png(G16, chunks=chunk(b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + XMP_1)), G16),
    "png upright in hexadecimal EXIF": (png(G16, chunks=chunk(b"tEXt", RAW + HEX_1)), G16),
    "png upright in hexadecimal XMP": (png(G16, chunks=chunk(b"zTXt", APP1_1)), G16),
    "png trailing bytes": (png(G16) + b"appended by a camera", G16),
    "tiff 8": (tiff(G8), G8),
    "tiff 16": (tiff(G16), G16),
    "tiff 16 big-endian": (tiff(G16, order=">"), G16),
    "tiff 12": (tiff(G16 >> 4, data=packed(G16 >> 4, 12), t258=12), G16 >> 4),
    "tiff 10": (tiff(G16 >> 6, data=packed(G16 >> 6, 10), t258=10), G16 >> 6),
    "tiff of one channel, apart": (tiff(G16, t284=2), G16),
    "tiff signed": (tiff(SIGNED), SIGNED),
    "tiff rgb": (tiff_by_pillow(rgb(G8), "tiff_lzw"), G8),
    "tiff grey and opaque": (tiff(np.dstack([G16, np.full_like(G16, 65535)]), 1, t338=2), G16),
    "tiff white is zero and opaque": (tiff(np.dstack([G8, np.full_like(G8, 255)]), 0, t338=0), 255 - G8.astype(int)),
    "tiff rgb and opaque": (tiff_by_pillow(np.dstack([*[G8] * 3, np.full_like(G8, 255)]), "tiff_lzw"), G8),  # DMID
    "tiff deflate": (tiff_by_pillow(G16, "tiff_adobe_deflate"), G16),
    "tiff packbits": (tiff_by_pillow(G8, "packbits"), G8),
    "bigtiff big-endian": (bytes(imagecodecs.tiff_encode(G16.copy(), bigtiff=True, byteorder=">")), G16),
    "bigtiff": (tiff_by_pillow(G16, "tiff_lzw", big_tiff=True), G16),
    "tiff tiles, predictor": (bytes(imagecodecs.tiff_encode(TILED, compression="lzw", tile=(64, 64), predictor=True)), TILED),
    "tiff white is zero 8": (tiff(G8, 0), 255 - G8.astype(int)),
    "tiff white is zero 16": (tiff(G16, 0), 65535 - G16.astype(int)),
    "tiff white is zero 16 big-endian": (tiff(G16, 0, ">"), 65535 - G16.astype(int)),
    "tiff white is zero signed": (tiff(SIGNED, 0), -1 - SIGNED.astype(int)),
    "pgm 8": (pgm(G8, 255), G8),
    "pgm 16": (pgm(G16, 65535), G16),
    "pgm of 1000 with comments": (pgm(G16 % 1001, 1000, b"# by hand\r\n#\n"), G16 % 1001),
    "pgm ended by a line break": (pgm(G8, 255) + b"\n", G8),
    "pgm with lines of Windows": (pgm(G16, 65535).replace(b"\n", b"\r\n", 3), G16),
    "nrrd 8": (nrrd(G8), G8),
    "nrrd 16 big-endian": (nrrd(G16, endian="big"), G16),
    "nrrd gzip": (nrrd(G16, encoding="gzip"), G16),
    "nrrd signed big-endian": (nrrd(SIGNED, endian="big"), SIGNED),
    "nrrd of a third axis of one": (nrrd(G16, sizes="30 40 1"), G16),
    "nrrd skips nothing": (nrrd(G16, ["byte skip: 0", "line skip: 0"]), G16),
    "nrrd upright in RAS": (nrrd(G16, ["space: RAS", "space directions: (-1,0,0) (0,-1,0) (0,0,1)"], sizes="30 40 1"), G16),
    "nrrd rgb": (nrrd(rgb(G16), ["kinds: RGB-color domain domain"], sizes="3 30 40"), G16),
    "nrrd of one channel": (nrrd(G8, ["kinds: vector domain domain", "spacings: NaN 0.1 0.1"], sizes="1 30 40"), G8),
    "nrrd key and comment": (nrrd(G16, ["patient:=data file: x", "# data file: x"]), G16),
}  # fmt: skip


@pytest.mark.parametrize("name", EXACT)
def test_values_are_read_exactly(name: str, tmp_path: Path) -> None:
    data, expected = EXACT[name]
    assert np.array_equal(values(read(tmp_path, data)), expected)


WRONG: dict[str, tuple[str, bytes]] = {
    "empty": ("not_an_image", b""),
    "text": ("not_an_image", b"hello"),
    "gif": ("not_an_image", b"GIF89a" + bytes(99)),
    "plain pgm": ("not_an_image", b"P2\n30 40\n255\n" + b"1 " * 1200),
    "palette": ("colour", png(G8, color=3, chunks=chunk(b"PLTE", bytes(range(256)) * 3))),
    "grey and alpha": ("colour", png(np.dstack([G8, G8]), color=4)),
    "rgb and alpha": ("colour", png(np.dstack([G8] * 4), color=6)),
    "channels that differ, and opaque": ("colour", png(np.dstack([G8, G8, 255 - G8, np.full_like(G8, 255)]), color=6)),
    "transparent value": ("colour", png(G8, chunks=chunk(b"tRNS", b"\0\1"))),
    "png true color": ("colour", png(np.dstack([G8, G8, G8 ^ 1]))),
    "jpeg true color": ("colour", jpeg(np.dstack([BIG, 255 - BIG, BIG]))),
    "tiff true color": ("colour", tiff_by_pillow(np.dstack([G8, G8 ^ 1, G8]), "tiff_lzw")),
    "cmyk": ("colour", jpeg(rgb(BIG), "CMYK")),
    "tiff palette": ("colour", tiff(G8, 3)),
    "tiff alpha": ("colour", tiff(G8, t338=1)),
    "tiff partly transparent": ("colour", tiff_by_pillow(np.dstack([*[G8] * 3, G8]), "tiff_lzw")),
    "1 bit": ("bits_unsupported", png(G8, depth=1)),
    "4 bits": ("bits_unsupported", png(G8, depth=4)),
    "tiff 1 bit": ("bits_unsupported", tiff(G8, t258=1)),
    "tiff float": ("bits_unsupported", tiff(G16.astype(np.float32))),
    "tiff 32 bits": ("bits_unsupported", tiff(G16.astype(np.uint32))),
    "pgm of 100": ("bits_unsupported", pgm(G8 % 101, 100)),
    "pgm of 70000": ("bits_unsupported", pgm(G16, 70000)),
    "nrrd float": ("bits_unsupported", nrrd(G16.astype(np.float32))),
    "animated": ("multi_frame", png(G8, chunks=chunk(b"acTL", bytes(8)))),
    "two png": ("multi_frame", png(G8) + png(G8)),
    "two jpeg": ("multi_frame", jpeg(BIG) * 2),
    "tiff pages": ("multi_frame", tiff_by_pillow(G8, "raw", save_all=True, append_images=[Image.fromarray(G8)])),
    "tiff thumbnail": ("multi_frame", tiff(G8, t254=1)),
    "tiff mask": ("multi_frame", tiff(G8, t254=4)),
    "stack of ImageJ": (
        "multi_frame", tiff_by_pillow(G8, "raw", tiffinfo={270: "ImageJ=1.53t\nimages=3\nslices=3\n"})
    ),
    "nrrd in colour": ("colour", nrrd(np.dstack([G8, G8, ~G8]), ["kinds: vector domain domain"], sizes="3 30 40")),
    "nrrd of three images": ("multi_frame", nrrd(rgb(G8), ["kinds: domain domain domain"], sizes="3 30 40")),
    "nrrd 3 dimensions": ("multi_frame", nrrd(G8, sizes="30 20 2")),
    "two pgm": ("pixels_mismatch", pgm(G8, 255) * 2),
    "pgm with one byte more before its values": ("pixels_mismatch", pgm(G8 | 1, 255).replace(b"255\n", b"255\n ")),
    "nrrd more": ("pixels_mismatch", nrrd(G16) + bytes(99)),
    "pgm beyond its largest value": ("pixels_mismatch", pgm(G16, 1000)),
    "gzip bomb": ("pixels_mismatch", nrrd(G16, encoding="gzip", values=bytes(10**7))),
    "gzip cut": ("pixels_mismatch", nrrd(G16, encoding="gzip")[:-20]),
    "gzip checksum": ("decode_failed", nrrd(G16, encoding="gzip")[:-8] + b"checksum"),
    "png orientation": ("orientation_invalid", png(G8, chunks=chunk(b"eXIf", ORIENTATION_6))),
    "png orientation at the end": ("orientation_invalid", png(G8, after=chunk(b"eXIf", ORIENTATION_6))),
    "jpeg orientation": ("orientation_invalid", jpeg(BIG, exif=b"Exif\0\0" + ORIENTATION_6)),
    "jpeg orientation after its start of frame": ("orientation_invalid", jpeg_orientation_before(b"\xff\xda", jpeg(BIG))),
    "png orientation in hexadecimal EXIF": ("orientation_invalid", png(G8, chunks=chunk(b"tEXt", RAW + HEX_6))),
    "png orientation in compressed EXIF": (
        "orientation_invalid",
        png(G8, chunks=chunk(b"zTXt", RAW + b"\0" + zlib.compress(HEX_6))),
    ),
    "png orientation in hexadecimal XMP": ("orientation_invalid", png(G8, chunks=chunk(b"zTXt", APP1_3))),
    "png orientation in compressed XMP": (
        "orientation_invalid", png(G8, chunks=chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP_3)))
    ),
    "png orientation in XMP": ("orientation_invalid", png(G8, chunks=chunk(b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + XMP_3))),
    "jpeg orientation in XMP": ("orientation_invalid", jpeg(BIG, xmp=XMP_3)),
    "jpeg without a scan": ("header_unreadable", jpeg(BIG).partition(b"\xff\xda")[0] + b"\xff\xd9"),
    "tiff orientation": ("orientation_invalid", tiff(G16, t274=3)),
    "nrrd turned": ("orientation_invalid", nrrd(G16, ["space directions: (0,0.07) (0.1,0)"])),
    "nrrd turned in RAS": (
        "orientation_invalid",
        nrrd(G16, ["space: right-anterior-superior", "space directions: (1,0,0) (0,1,0) none"], sizes="30 40 1"),
    ),
    "nrrd upside down in LAS": (
        "orientation_invalid",
        nrrd(G16, ["space: left-anterior-superior", "space directions: (1,0,0) (0,1,0) none"], sizes="30 40 1"),
    ),
    "nrrd upside down": ("orientation_invalid", nrrd(G16, ["space directions: (0.07,0) (0,-0.1)"])),
    "nrrd upside down by its spacings": ("orientation_invalid", nrrd(G16, ["spacings: 0.07 -0.1"])),
    "nrrd of no number": ("orientation_invalid", nrrd(G16, ["space directions: (nan,0) (0,0.1)"])),
    "nrrd of brackets": ("orientation_invalid", nrrd(G16, ["space directions: " + "(" * 64_000])),  # took half a minute
    "detached": ("pixel_data_missing", nrrd(G16, ["data file: ../outside.raw"], values=b"")),
    "detached, old word": ("pixel_data_missing", nrrd(G16, ["DataFile:/etc/hostname"], values=b"")),
    "detached header alone": ("pixel_data_missing", nrrd(G16, ["data file: LIST"], values=b"")[:-1]),
    "png header alone": ("pixels_truncated", png(G8)[:60]),
    "png cut": ("pixels_truncated", png(G16)[:-30]),
    "jpeg cut": ("pixels_truncated", jpeg(BIG)[:-3000]),
    "tiff cut": ("header_unreadable", tiff(G16)[:-200]),
    "tiff strip beyond the end": ("pixels_truncated", tiff(G16, t279=10**6)),
    "tiff strip of nothing": ("pixels_truncated", tiff(G16, t279=0)),
    "tiff strip too short": ("pixels_truncated", tiff(G16, t279=100)),
    "tiff strips missing": ("pixels_truncated", tiff(G16, t278=10)),
    "pgm cut": ("pixels_truncated", pgm(G16, 65535)[:-1]),
    "nrrd cut": ("pixels_truncated", nrrd(G16)[:-1]),
    "png damaged": ("decode_failed", png(G16)[:80] + bytes(8) + png(G16)[88:]),
    "png larger than its data": ("decode_failed", png(G16).replace(struct.pack(">II", 30, 40), struct.pack(">II", 40, 40))),
    "png bomb": ("size_out_of_range", png(G16).replace(struct.pack(">II", 30, 40), struct.pack(">II", 60000, 60000))),
    "jpeg bomb": ("size_out_of_range", jpeg(BIG).replace(struct.pack(">HH", 300, 200), struct.pack(">HH", 65000, 65000))),
    "tiff bomb": ("size_out_of_range", tiff(G16, t257=2**31)),
    "tiff tile bomb": ("header_unreadable", tiff(G16, t322=2**31, t323=2**31)),
    "nrrd bomb": ("size_out_of_range", nrrd(G8, sizes="99999999999 99999999999")),
    "nrrd negative": ("size_out_of_range", nrrd(G8, sizes="-30 -40")),
    "tiff of jpeg": ("transfer_syntax_unsupported", tiff_by_pillow(G8, "jpeg")),
    "nrrd of text": ("transfer_syntax_unsupported", nrrd(G8, encoding="ascii")),
    "nrrd skip": ("header_unreadable", nrrd(G8, ["byte skip: -1"])),
    "nrrd twice": ("header_unreadable", nrrd(G8, ["sizes: 40 30"])),
    "pgm comments without end": ("header_unreadable", b"P5\n" + b"#\n" * 40000),
}  # fmt: skip


def test_a_comment_of_a_png_file_is_not_read() -> None:
    """With one as long as a header may be, the file was rejected."""
    read = list[int]()

    class Counted(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            read.append(len(found := super().read(size)))
            return found

    read_raster(Counted(png(G8, chunks=chunk(b"tEXt", b"Comment\0" + bytes(10_000)))), "png")
    assert sum(read) < 300


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_grey_image_is_rejected_by_name(name: str, tmp_path: Path) -> None:
    reason, data = WRONG[name]
    found = read(tmp_path, data)
    assert isinstance(found, Rejection)
    assert found.reason.value == reason, found.detail


@pytest.mark.parametrize("field", ["type", "dimension", "sizes", "encoding", "endian"])
def test_a_field_that_a_header_lacks_is_named(field: str, tmp_path: Path) -> None:
    found = read(tmp_path, re.sub(rf"{field}: .*\n".encode(), b"", nrrd(G16), count=1))
    assert isinstance(found, Rejection)
    assert found.reason.value == "header_unreadable"
    assert f"field {field}" in found.detail


def test_a_plain_pgm_file_is_named_as_such(tmp_path: Path) -> None:
    found = read(tmp_path, WRONG["plain pgm"][1])
    assert isinstance(found, Rejection) and "a plain PGM file (P2), of numbers as text, not a binary one (P5)" in found.detail


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_cut_anywhere_before_its_end_marker_is_rejected(progressive: bool) -> None:
    """Also within its last rows, or behind a 0xff; of a progressive one no row is missing, but sharpness."""
    drawn = (factory.breast(5, shape=(120, 90)).pixels >> 4).astype(np.uint8)
    whole = jpeg(drawn, progressive=progressive)
    assert np.array_equal(decode_jpeg(whole, 8), imagecodecs.jpeg8_decode(whole))
    start = whole.rindex(b"\xff\xda") + 40
    for cut in (*range(start, len(whole) - 12, 9), *(at + 1 for at in range(start, len(whole) - 12) if whole[at] == 0xFF)):
        with pytest.raises(RejectedFile, match="cut or damaged"):
            decode_jpeg(whole[:cut] + b"\xff\xd9", 8)


def test_a_jpeg_cut_before_a_restart_marker_is_rejected() -> None:
    """The decoder looks for that marker, and not for more data."""
    drawn = (factory.breast(5, shape=(120, 90)).pixels >> 4).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(drawn).save(buffer, "JPEG", restart_marker_rows=1)
    whole = buffer.getvalue()
    assert np.array_equal(decode_jpeg(whole, 8), imagecodecs.jpeg8_decode(whole))
    cuts = [at for at in range(whole.rindex(b"\xff\xda"), len(whole)) if whole[at] == 0xFF and whole[at + 1] >> 3 == 0xD0 >> 3]
    assert len(cuts) == 14
    for cut in cuts:
        with pytest.raises(RejectedFile, match="cut or damaged"):
            decode_jpeg(whole[:cut] + b"\xff\xd9", 8)


def test_the_first_bytes_count_and_not_the_suffix(tmp_path: Path) -> None:
    (tmp_path / "film.png").write_bytes(jpeg(BIG))
    header = read_header(tmp_path, "film.png", POLICY, STATED)
    assert isinstance(header, ImageHeader)
    assert header.record.transfer_syntax_uid == "jpeg"
    assert lossy_decoder("jpeg")  # its version is a part of the sample's key
    assert not any(lossy_decoder(name) for name in RASTER if name != "jpeg")


@pytest.mark.parametrize("name", ["png rgb 16", "tiff white is zero 16", "pgm of 1000 with comments", "nrrd gzip"])
def test_a_view_is_tried_alone_where_its_breast_crashed_a_decoder(name: str, tmp_path: Path) -> None:
    """Without its data set's policy, as isolation does: it is decoded, and no other fault is found in its place."""
    image = read(tmp_path, EXACT[name][0])
    header = read_header(tmp_path, "image", POLICY, STATED)
    assert isinstance(image, DecodedImage) and isinstance(header, ImageHeader)
    assert read_pixel_digests([PixelTask(str(tmp_path), header.record, Pipeline())]) == [("image", image.pixel_digest)]


def test_polarity_is_that_of_the_file_or_else_as_declared(tmp_path: Path) -> None:
    negative = HeaderPolicy(formats=ALL, inverted=True, keep_studies_apart=False, from_header=())
    shown = values(read(tmp_path, jpeg(BIG)))
    assert np.array_equal(values(read(tmp_path, jpeg(BIG), negative)), 255 - shown)
    assert np.array_equal(values(read(tmp_path, tiff(G16), negative)), G16)  # it says itself that black is zero
    assert np.array_equal(values(read(tmp_path, tiff(G16, 0), negative)), 65535 - G16.astype(int))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (png(G8, chunks=chunk(b"pHYs", struct.pack(">IIB", 3937, 7874, 1))), None),
        (jpeg(BIG, dpi=(300, 150)), None),
        (tiff_by_pillow(G16, "raw", dpi=(508, 254)), None),
        (nrrd(G16, MM), None),
        (nrrd(G16, [*MM, 'space units: "cm" "cm"']), None),
        (nrrd(G16, [*MM, 'space units: "mm" "mm"']), (0.1, 0.07)),
        (nrrd(G16, ["spacings: 0.07 0.1", 'units: "mm" "mm"']), (0.1, 0.07)),
        (
            nrrd(rgb(G16), ["kinds: list domain domain", "spacings: NaN 0.07 0.1", 'units: "" "mm" "mm"'], sizes="3 30 40"),
            (0.1, 0.07),
        ),
        (nrrd(G16, ["spacings: nan 0.1", 'units: "mm" "mm"']), None),
    ],
)
def test_millimeters_are_those_that_a_file_states_and_never_those_of_a_screen(
    data: bytes, expected: tuple[float, float] | None, tmp_path: Path
) -> None:
    (tmp_path / "image").write_bytes(data)
    header = read_header(tmp_path, "image", POLICY, STATED)
    assert isinstance(header, ImageHeader)
    assert (header.record.row_spacing, header.record.column_spacing) == (expected or (None, None))


@pytest.mark.parametrize(
    "name", ["png rgb 16", "tiff 16", "tiff white is zero 16", "tiff signed", "nrrd gzip", "nrrd signed big-endian"]
)
def test_another_library_reads_the_same(name: str, tmp_path: Path) -> None:
    data, expected = EXACT[name]
    (tmp_path / "image").write_bytes(data)
    assert np.array_equal(read_values("SimpleITK", tmp_path / "image", inverted="white" in name), expected)


# --- whole data sets --------------------------------------------------------------------------------------------------

DECLARED = """
name: copies
license: ours
formats: [{formats}]
hashed: {hashed}
headers: {{studies_apart: false}}
path: '(?P<patient>P\\d+)_(?P<laterality>[LR])_(?P<view>CC|MLO)[^/]*$'
identity: {{patient: [path], laterality: [path], view: [path]}}
"""
FORMS: dict[str, Callable[[NDArray[Any]], bytes]] = {
    "png": png,
    "tiff": lambda pixels: tiff_by_pillow(pixels, "tiff_lzw"),
    "pgm": lambda pixels: pgm(pixels, 4095),
    "nrrd": lambda pixels: nrrd(pixels, encoding="gzip"),
}


def declare(tmp_path: Path, formats: str, *, hashed: bool = False) -> Path:
    file = tmp_path / "copies.yaml"
    file.write_text(DECLARED.format(formats=formats, hashed=str(hashed).lower()))
    return file


def copies(folder: Path, *, dicom: bool, patient: str = "P1") -> None:
    """One patient's four views, as DICOM files or as one file in each other format without loss."""
    views = [(side, view) for side in "LR" for view in (View.CC, View.MLO)]
    for (side, view), (suffix, write) in zip(views, FORMS.items(), strict=True):
        made = factory.breast(5, view, Laterality(side))
        name = folder / f"{patient}_{side}_{view}"
        folder.mkdir(exist_ok=True)
        if dicom:
            tags: dict[str, Any] = {
                "ImageLaterality": side,
                "ViewPosition": view.value,
                "PatientID": patient,
                "SOPInstanceUID": None,
            }
            factory.mammogram(name.with_suffix(".dcm"), made, **tags)
        else:
            name.with_suffix(f".{suffix}").write_bytes(write(made.pixels))


def rejected(out: Path) -> dict[str, str]:
    with open(out / "rejected.csv", encoding="utf-8") as file:
        return {row["what"]: row["reason"] for row in csv.DictReader(file)}


def test_lossless_copies_make_the_samples_of_their_originals(tmp_path: Path) -> None:
    copies(tmp_path / "dicom", dicom=True)
    copies(tmp_path / "files", dicom=False)
    shards = []
    for kind, formats in (("dicom", "dicom"), ("files", "png, tiff, pgm, nrrd")):
        adapter = declare(tmp_path, formats)
        build(tmp_path / kind, tmp_path / f"{kind}-out", "--adapter", adapter, "--strict")
        shards.append(open_shards(tmp_path / f"{kind}-out"))
    originals, copied = shards
    assert len(originals) == len(copied) == 2
    assert copied.breast_ids.tolist() == originals.breast_ids.tolist()
    for original, copy in zip(originals, copied, strict=True):
        assert np.array_equal(original.image, copy.image)
    again = build(tmp_path / "files", tmp_path / "files-out", "--adapter", adapter, "--json")
    assert json.loads(again.stdout)[0]["computed"] == 0
    (tmp_path / "files" / "P1_L_CC.png").write_bytes(png(factory.breast(6).pixels))
    changed = build(tmp_path / "files", tmp_path / "files-out", "--adapter", adapter, "--json")
    assert json.loads(changed.stdout)[0]["computed"] == 1


def test_a_copy_of_an_image_is_found_in_another_format(tmp_path: Path) -> None:
    copies(tmp_path / "in", dicom=True)
    copies(tmp_path / "in", dicom=False, patient="P2")
    build(tmp_path / "in", tmp_path / "out", "--adapter", declare(tmp_path, "dicom, png, tiff, pgm, nrrd"))
    assert json.loads((tmp_path / "out" / "index.json").read_text())["flags"]["shared_pixels"] == 4


def test_formats_that_are_not_stated_are_passed_over(tmp_path: Path) -> None:
    copies(tmp_path / "in", dicom=True)
    (tmp_path / "in" / "P1_L_CC-thumbnail.png").write_bytes(png(G8))
    (tmp_path / "in" / "P1_L_CC-copy.dcm").write_bytes(png(G8))
    build(tmp_path / "in", tmp_path / "out", "--adapter", declare(tmp_path, "dicom"))
    assert rejected(tmp_path / "out") == {"P1_L_CC-copy.dcm": "not_dicom"}
    copies(tmp_path / "files", dicom=False)
    copies(tmp_path / "files", dicom=True)
    build(tmp_path / "files", tmp_path / "files-out", "--adapter", declare(tmp_path, "png, tiff, pgm, nrrd"), "--strict")
    assert len(open_shards(tmp_path / "files-out")) == 2


def test_broken_files_of_a_stated_format_are_named(tmp_path: Path) -> None:
    """Also empty ones; hidden ones are not part of the set; what is named otherwise is told by its first bytes."""
    folder = tmp_path / "in"
    copies(folder, dicom=False)
    (folder / "P2_L_CC.png").write_bytes(b"")
    (folder / "P2_L_MLO.tif").write_bytes(png(G8))  # read, and too small to be a pair of anything
    (folder / "P3_L_CC.nhdr").write_bytes(nrrd(G8, ["data file: ../secret"], values=b""))
    (folder / "P3_L_MLO").write_bytes(png(G8)[:-20])
    (folder / "._P1_L_CC.png").write_bytes(b"\0\5\x16\7 of a Mac")
    (folder / "README").write_text("words")
    (tmp_path / "secret").write_bytes(G8.tobytes())
    build(folder, tmp_path / "out", "--adapter", declare(tmp_path, "png, tiff, pgm, nrrd"), pipeline="direct")
    assert rejected(tmp_path / "out") == {
        "P2_L_CC.png": "not_an_image", "P2_L": "cc_missing", "P3_L_CC.nhdr": "pixel_data_missing", "P3_L": "cc_missing",
    }  # fmt: skip


def test_what_decoding_finds_leaves_the_breast_out(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    copies(folder, dicom=False)
    colored = rgb((factory.breast(5).pixels >> 4).astype(np.uint8))
    colored[100, 100] = 200, 100, 0
    (folder / "P1_L_CC.png").write_bytes(png(colored))
    build(folder, tmp_path / "out", "--adapter", declare(tmp_path, "png, tiff, pgm, nrrd"))
    assert rejected(tmp_path / "out") == {"P1_L_CC.png": "colour", "P1_L": "view_unreadable"}


def test_one_of_two_equal_views_is_chosen_where_identifiers_are_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FVPIPE_ID_KEY", "a key for tests of image files")
    folder = tmp_path / "in"
    copies(folder, dicom=False)
    (folder / "P1_L_CC-2.png").write_bytes(png(factory.breast(7).pixels))
    build(folder, tmp_path / "out", "--adapter", declare(tmp_path, "png, tiff, pgm, nrrd", hashed=True))
    assert rejected(tmp_path / "out") == {"P1_L_CC.png": "superseded"}


def test_inspect_audit_and_the_other_reader_take_them(tmp_path: Path) -> None:
    folder, adapter = tmp_path / "in", declare(tmp_path, "png, tiff, pgm, nrrd")
    copies(folder, dicom=False)
    shown = run("inspect", folder / "P1_L_CC.png", "--adapter", adapter, "--png", tmp_path / "drawn.png").stdout
    assert "passed    image file                  a PNG file" in shown and (tmp_path / "drawn.png").exists()
    (folder / "P9_L_CC.png").write_bytes(png(G8, depth=1))
    shown = run("inspect", folder / "P9_L_CC.png", "--adapter", adapter, code=1).stdout
    assert "rejected  image file                  bits_unsupported: values of 1 bit(s); expected 8 to 16" in shown
    found = json.loads(
        run("audit", "--dicom", folder, "--adapter", adapter, "--compare", "all", "--workers", 0, "--json").stdout
    )
    assert found[0]["read_by"] == {library_version("SimpleITK"): 3} and not found[0]["differing"]  # it reads no PGM
    assert [image["path"] for image in found[0]["unread"]] == ["P1_R_CC.pgm"]


def test_a_folder_without_such_files_says_what_was_expected(tmp_path: Path) -> None:
    copies(tmp_path / "in", dicom=False)
    said = run("build-shards", "--dicom", tmp_path / "in", "--out", tmp_path / "out", "--pipeline", "direct", code=1).stderr
    assert "no DICOM file" in said and "PNG, JPEG, TIFF, PGM and NRRD are read where `formats` of its declaration" in said
    adapter = declare(tmp_path, "jpeg")
    arguments = ("--adapter", adapter, "--dicom", tmp_path / "in", "--out", tmp_path / "out", "--pipeline", "direct")
    assert "no JPEG file" in run("build-shards", *arguments, code=1).stderr
