"""Bytes and header that contradict each other: right pixels or a rejection by name, in every transfer syntax."""

from __future__ import annotations

import io
import re
import struct
from itertools import pairwise
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.config import disable_value_validation
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from fvpipe.dicom.decoding.transfer_syntaxes import ENCAPSULATED, NATIVE
from fvpipe.dicom.elements import RejectedFile, silenced
from fvpipe.dicom.header import parse_header
from fvpipe.dicom.policy import HeaderPolicy
from fvpipe.reasons import Flag, Reason
from tests.support.factory import CC, MLO, breast, dataset, encode, file_bytes, native, write
from tests.test_pixels import LOSSLESS, LOSSY, Pixels, file_of, frame_of, image, indices, noise, rejection, second_decoders

SHAPE = (33, 27)
J2K = (JPEG2000Lossless, JPEG2000, HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K)
HTJ2KS = (HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K)
MISMATCH, MULTI, CUT = Reason.PIXELS_MISMATCH, Reason.MULTI_FRAME, Reason.PIXELS_TRUNCATED
TABLES = ("absent", "first", "each", "wrong")  # what the basic offset table has an offset of


def items(fragments: list[bytes], table: str = "absent", delimiter: bool = True) -> bytes:
    """The value of encapsulated Pixel Data."""
    starts = np.cumsum([0, *(8 + len(fragment) for fragment in fragments)]).tolist()
    offsets = {"absent": [], "first": [0], "each": starts[:-1], "wrong": [0, 3, 10**9]}[table]
    parts = [struct.pack(f"<{len(offsets)}I", *offsets), *fragments]
    end = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0) if delimiter else b""
    return b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(part)) + part for part in parts) + end


def with_value(data: bytes, value: bytes) -> bytes:
    """The same file with other encapsulated Pixel Data."""
    head = b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff"
    return data[: data.index(head) + len(head)] + value


def with_native(pixels: Pixels, bits: int, syntax: str, extra: bytes, **tags: Any) -> bytes:
    """Uncompressed pixels with something after them."""
    with disable_value_validation(), silenced():
        return file_bytes(dataset(pixels, bits, **tags), native(pixels, syntax) + extra, syntax)


def made(pixels: Pixels, bits: int, syntax: str, **tags: Any) -> bytes:
    """A file whose pixels were encoded with `bits` of their own."""
    if syntax in NATIVE:
        return with_native(pixels, bits, syntax, b"", **tags)
    return file_of(pixels, bits, syntax, encode(pixels, bits, syntax), **tags)


def cut(frame: bytes, *at: int) -> list[bytes]:
    """The frame in fragments."""
    ends = [0, *sorted(at), len(frame)]
    return [frame[a:b] for a, b in pairwise(ends)]


# --- depth ------------------------------------------------------------------------------------------------------------

DEEP = [s for s in sorted(NATIVE | ENCAPSULATED) if s not in (JPEGBaseline8Bit, JPEGExtended12Bit)]


@pytest.mark.parametrize("syntax", DEEP)
def test_sixteen_bits_that_are_called_twelve(syntax: str) -> None:
    pixels = noise(16, "u2")
    data = made(pixels, 16, syntax, BitsStored=12, HighBit=11)
    if syntax in NATIVE:  # whose unused bits may hold anything
        np.testing.assert_array_equal(image(data).stored, pixels & 0xFFF)
    else:
        assert rejection(data) is MISMATCH


@pytest.mark.parametrize("syntax", sorted(NATIVE))
@pytest.mark.parametrize(("bits", "stored"), [(16, 12), (14, 12), (12, 8), (13, 12)])
@pytest.mark.parametrize("sign", ["u2", "i2"])
def test_an_image_that_goes_on_above_its_stored_bits(syntax: str, bits: int, stored: int, sign: str) -> None:
    """It is not folded, as noise or an overlay in unused bits would be cut off; nor is one whose sign goes on there."""
    smooth = np.hypot(*np.indices((64, 80))) / 102 * (2**bits - 1)
    pixels = (smooth - (2 ** (bits - 1) if sign == "i2" else 0)).astype(sign)
    tags = {"BitsStored": stored, "HighBit": stored - 1}
    assert rejection(made(pixels, bits, syntax, **tags)) is MISMATCH
    inside = (pixels >> (bits - stored)).astype(sign)
    marks = np.random.default_rng(0).integers(0, 2, inside.shape).astype("u2") << stored
    other = {"PixelRepresentation": int(sign == "u2")}  # the sign goes on there, or is in the bits stored
    if bits < 16:
        assert rejection(made(inside, bits, syntax, **tags | other)) is MISMATCH
    for cells in (inside, (inside.view("u2") & (2**stored - 1)).view(sign), (inside.view("u2") ^ marks).view(sign)):
        np.testing.assert_array_equal(image(made(cells, bits, syntax, **tags)).stored, indices(inside, stored))


@pytest.mark.parametrize("syntax", DEEP)
def test_twelve_bits_in_a_codestream_of_sixteen(syntax: str) -> None:
    pixels = noise(12, "u2")
    stored = image(made(pixels, 16, syntax, BitsStored=12, HighBit=11)).stored
    assert np.abs(stored.astype(int) - pixels).max() <= (300 if syntax in LOSSY else 0)


def test_twelve_bits_that_are_called_ten_or_eight() -> None:
    pixels = np.clip(noise(12, "u2"), 0, 4095)
    for bits in (8, 10):
        assert rejection(made(pixels, 12, JPEGExtended12Bit, BitsStored=bits, HighBit=bits - 1)) is MISMATCH
        dark = (pixels >> (13 - bits)).astype("u2")
        stored = image(made(dark, 12, JPEGExtended12Bit, BitsStored=bits, HighBit=bits - 1)).stored
        assert np.abs(stored.astype(int) - dark).max() < 20


@pytest.mark.parametrize("syntax", [s for s in DEEP if s in LOSSLESS])
@pytest.mark.parametrize("sign", ["u2", "i2"])
def test_one_pixel_too_high_rejects_and_is_not_folded(syntax: str, sign: str) -> None:
    pixels = noise(12, sign)
    top = int(pixels.max())
    pixels[5, 5] = top + 1
    tags = {"BitsStored": 12, "HighBit": 11}
    data = file_of(pixels, 12, syntax, frame_of(pixels, 16, syntax), **tags)
    assert rejection(data) is MISMATCH
    pixels[5, 5] = top
    data = file_of(pixels, 12, syntax, frame_of(pixels, 16, syntax), **tags)
    np.testing.assert_array_equal(image(data).stored, indices(pixels, 12))


@pytest.mark.parametrize("syntax", [HTJ2K, JPEGLSNearLossless])
def test_only_a_little_beyond_white_is_the_codecs_overshoot(syntax: str) -> None:
    for most, read in ((4095 + 100, True), (4095 + 300, False)):
        pixels = np.minimum(noise(16, "u2") // 4, most).astype("u2")
        data = made(pixels, 16, syntax, BitsStored=12, HighBit=11)
        if read:
            stored = image(data).stored
            assert stored.max() == 4095
            assert np.abs(stored.astype(int) - np.minimum(pixels, 4095)).max() <= 60
        else:
            assert rejection(data) is MISMATCH


# --- sign -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", J2K)
@pytest.mark.parametrize("low", [-1000, 0])
def test_a_signed_codestream_under_an_unsigned_header(syntax: str, low: int) -> None:
    pixels = np.maximum(noise(12, "i2"), low)
    bits = 16 if syntax in HTJ2KS else 12
    assert rejection(made(pixels, bits, syntax, BitsStored=bits, HighBit=bits - 1, PixelRepresentation=0)) is MISMATCH


@pytest.mark.parametrize("syntax", J2K)
@pytest.mark.parametrize("most", [4095, 1000])
def test_an_unsigned_codestream_under_a_signed_header(syntax: str, most: int) -> None:
    pixels = np.minimum(noise(12, "u2"), most)
    bits = 16 if syntax in HTJ2KS else 12
    assert rejection(made(pixels, bits, syntax, BitsStored=bits, HighBit=bits - 1, PixelRepresentation=1)) is MISMATCH


def test_twos_complement_in_an_unsigned_codestream_tells_by_its_values() -> None:
    """As in pydicom's J2K_pixelrep_mismatch.dcm: the image passes 0 without a jump only as signed values."""
    pixels = noise(12, "i2")
    data = made((pixels.view("u2") & 0xFFF), 12, JPEG2000Lossless, PixelRepresentation=1)
    np.testing.assert_array_equal(image(data).stored, indices(pixels, 12))


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEG2000, JPEGLossless, JPEGLSLossless])
def test_a_signed_image_of_fewer_bits_than_stored(syntax: str) -> None:
    """A sign in the codestream is extended; without one it would lie beyond the codestream's bits."""
    pixels = noise(10, "i2")
    if syntax in J2K:
        stored = image(made(pixels, 10, syntax, BitsStored=14, HighBit=13)).stored.astype(int)
        assert np.abs(stored - indices(pixels, 14)).max() <= (8 if syntax in LOSSY else 0)
    elif syntax == JPEGLossless:
        assert (
            rejection(made(pixels.view("u2") & 0x3FF, 10, syntax, BitsStored=14, HighBit=13, PixelRepresentation=1)) is MISMATCH
        )


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless])
@pytest.mark.parametrize("bits", [10, 12, 14])
def test_signed_cells_of_a_codec_without_a_sign(syntax: str, bits: int) -> None:
    """Bits above the sign are zeros or the sign's own; anything else is not a value of the stored bits."""
    pixels = noise(bits, "i2")
    cells = pixels.view("u2")
    tags = {"BitsStored": bits, "HighBit": bits - 1, "PixelRepresentation": 1}
    for encoded in (cells, cells & ((1 << bits) - 1)):
        np.testing.assert_array_equal(image(made(encoded, 16, syntax, **tags)).stored, indices(pixels, bits))
    encoded = cells.copy()
    encoded[3, 3] = 1 << bits
    assert rejection(made(encoded, 16, syntax, **tags)) is MISMATCH


# --- amount -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", sorted(NATIVE))
@pytest.mark.parametrize("depth", [(8, "u1"), (12, "u2")])
def test_uncompressed_pixels_with_more_after_them(syntax: str, depth: tuple[int, str]) -> None:
    pixels = noise(*depth)
    size = pixels.nbytes + pixels.nbytes % 2
    row = SHAPE[1] * pixels.itemsize + 1
    cases: list[tuple[bytes, Reason | None]] = [
        (b"", None), (b"\1\2", None), (b"\xff" * 6, None), (bytes(100), None), (bytes(126), None), (bytes(200), MISMATCH),
        (b"\1" * 10, MISMATCH), (b"\1" * row, MISMATCH), (b"\1" * (size // 2), MISMATCH),
        (2 * native(pixels, syntax), MULTI), (3 * native(pixels, syntax), MULTI),
        (native(pixels, syntax), MISMATCH if depth[0] == 8 else MULTI),
    ]  # fmt: skip
    for extra, reason in cases:
        for tags in ({}, {"NumberOfFrames": 1}):
            data = with_native(pixels, depth[0], syntax, extra, **tags)
            if reason is None:
                np.testing.assert_array_equal(image(data).stored, pixels)
                continue
            assert rejection(data) is reason, (len(extra), reason)
            with pytest.raises(RejectedFile) as caught:  # before a pixel is decoded
                parse_header(data, "x", HeaderPolicy())
            assert caught.value.reason is reason


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_sixteen_bits_that_are_called_eight(syntax: str) -> None:
    pixels = noise(16, "u2")
    assert rejection(made(pixels, 16, syntax, BitsAllocated=8, BitsStored=8, HighBit=7)) is MISMATCH


@pytest.mark.parametrize("syntax", sorted(ENCAPSULATED))
@pytest.mark.parametrize("table", TABLES)
def test_frames_that_nobody_counts(syntax: str, table: str) -> None:
    pixels = noise(8, "u1")
    first, second = encode(pixels, 8, syntax), encode(pixels[::-1].copy(), 8, syntax)
    data = file_of(pixels, 8, syntax, first)
    for fragments in (
        [first, second],
        [first + b"\0", second, first],
        [*cut(first, len(first) // 2), *cut(second, len(second) // 2)],
        [*cut(first, 2), *cut(second, 2)],
        [*cut(first, 2, 4, 6), *cut(second, 2, 4, 6, 8, 10)],
    ):
        found = with_value(data, items(fragments, table))
        assert rejection(found) is MULTI
        with pytest.raises(RejectedFile) as caught:
            parse_header(found, "x", HeaderPolicy())
        assert caught.value.reason is MULTI
    for both in (first + second, first + b"\0\0" + second):  # in one fragment
        assert rejection(with_value(data, items([both], table))) is (MISMATCH if syntax == RLELossless else MULTI)


@pytest.mark.parametrize("syntax", sorted(ENCAPSULATED))
def test_a_frame_that_ends_where_another_begins(syntax: str) -> None:
    """A decoder would make up the rest of the first."""
    pixels = noise(8, "u1", (64, 48))
    frame = encode(pixels, 8, syntax)
    data = file_of(pixels, 8, syntax, frame)
    for size in (len(frame) - 2, len(frame) - 40, len(frame) // 2):
        for fragments in ([frame[:size], frame], [frame[:size] + frame]):
            found = with_value(data, items(fragments))
            assert rejection(found) in ({CUT, MULTI, MISMATCH, Reason.DECODE_FAILED} if syntax == RLELossless else {MULTI})


def test_frames_that_an_extended_offset_table_tells_of() -> None:
    pixels = noise(8, "u1")
    frame = encode(pixels, 8, JPEG2000Lossless)
    ds = dataset(pixels, 8)
    ds.add_new(0x7FE00001, "OV", struct.pack("<2Q", 0, len(frame) + 8))
    ds.add_new(0x7FE00002, "OV", struct.pack("<2Q", len(frame), len(frame)))
    data = file_bytes(ds, frame, JPEG2000Lossless)
    assert rejection(with_value(data, items([frame, frame]))) is MULTI
    np.testing.assert_array_equal(image(with_value(data, items([frame]))).stored, pixels)  # the table tells of none


# --- what is not a contradiction ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", sorted(ENCAPSULATED))
@pytest.mark.parametrize("after", [b"\0", b"  ", b"\xff\xff\xff", b"\0" * 7, b"\n"])
@pytest.mark.parametrize("delimiter", [True, False])
def test_bytes_after_the_end(syntax: str, after: bytes, delimiter: bool) -> None:
    pixels = noise(8, "u1")
    frame = encode(pixels, 8, syntax)
    data = file_of(pixels, 8, syntax, frame)
    expected = image(data).stored
    np.testing.assert_array_equal(image(with_value(data, items([frame + after], delimiter=delimiter))).stored, expected)
    if syntax != RLELossless:
        np.testing.assert_array_equal(image(with_value(data, items([frame + after * 500]))).stored, expected)
        np.testing.assert_array_equal(image(with_value(data, items([frame, after * 500]))).stored, expected)


@pytest.mark.parametrize("bits", [8, 12])
@pytest.mark.parametrize("excess", [b"\0\0", b"\xff\0", b"\0\0\0", b"\x80", b"\x03abcd", b"\0" * 16, b"\xf9\0", b"\x05ab"])
def test_excess_bytes_of_rle_segments(bits: int, excess: bytes) -> None:
    pixels = noise(bits, "u1" if bits == 8 else "u2")
    frame = encode(pixels, bits, RLELossless)
    count, *starts = struct.unpack("<16I", frame[:64])
    segments = [frame[a:b] for a, b in zip(starts[:count], [*starts[1:count], len(frame)], strict=True)]
    for more, reason in ((excess, None), (b"\x81\0" + excess, MISMATCH)):
        bodies = [segment + more for segment in segments]
        at = (64 + np.cumsum([0, *map(len, bodies)])[:-1]).tolist()
        header = struct.pack("<16I", count, *at, *[0] * (15 - count))
        data = file_of(pixels, bits, RLELossless, header + b"".join(bodies))
        if reason:
            assert rejection(data) is reason
        else:
            np.testing.assert_array_equal(image(data).stored, pixels)


def box(kind: bytes, body: bytes, extended: bool = False, to_the_end: bool = False) -> bytes:
    """A box of a JP2 file (ITU-T T.800 I.4)."""
    if extended:
        return struct.pack(">I4sQ", 1, kind, 16 + len(body)) + body
    return struct.pack(">I4s", 0 if to_the_end else 8 + len(body), kind) + body


def test_boxes_around_a_codestream() -> None:
    pixels = np.add.outer(np.arange(64) * 30, np.arange(48) * 40).astype("u2")
    whole = bytes(imagecodecs.jpeg2k_encode(pixels, level=0, codecformat="jp2", reversible=True, bitspersample=12))
    before, codestream = whole[: whole.index(b"jp2c") - 4], whole[whole.index(b"jp2c") + 4 :]
    data = file_of(pixels, 12, JPEG2000Lossless, codestream)
    expected = image(data).stored
    for frame in (
        whole,
        before + box(b"jp2c", codestream, extended=True),
        before + box(b"jp2c", codestream, to_the_end=True),
        before + box(b"xml ", b"<jp2c/>") + box(b"jp2c", codestream) + box(b"xml ", b"<a/>") + box(b"uuid", bytes(99)),
        before + box(b"jp2c", codestream, extended=True) + box(b"xml ", b"<a/>") + b" ",
    ):
        at = frame.index(b"\xff\x4f\xff\x51")
        for fragments in ([frame], cut(frame, 40, 41), cut(frame, at), cut(frame, at + 2, len(frame) - 3)):
            np.testing.assert_array_equal(image(with_value(data, items(fragments, "each"))).stored, expected)
    for frame in (before + box(b"jp2c", codestream[:-2]) + box(b"xml ", b"<a/>"), codestream[:-200] + b"  "):
        assert rejection(with_value(data, items([frame]))) is CUT
    assert rejection(with_value(data, items([whole, whole]))) is MULTI
    assert rejection(with_value(data, items([whole + box(b"jp2c", codestream)]))) is MULTI


@pytest.mark.parametrize("syntax", sorted(ENCAPSULATED))
@settings(max_examples=40, deadline=None, database=None)
@given(data=st.data())
def test_a_frame_in_fragments_split_at_any_point(syntax: str, data: st.DataObject) -> None:
    pixels = noise(8, "u1")
    frame = encode(pixels, 8, syntax)
    at = data.draw(st.lists(st.integers(0, len(frame)), max_size=6))
    early = data.draw(st.lists(st.integers(0, 70), max_size=3))
    found = with_value(
        file_of(pixels, 8, syntax, frame),
        items(cut(frame, *at, *early), data.draw(st.sampled_from(TABLES)), data.draw(st.booleans())),
    )
    np.testing.assert_array_equal(image(found).stored, image(file_of(pixels, 8, syntax, frame)).stored)
    assert parse_header(found, "x", HeaderPolicy()).location.length is None


def test_reasons_are_true_ones() -> None:
    """No class of a library, and no end marker missing that is there."""
    pixels = noise(12, "u2")
    frame = encode(pixels, 12, JPEG2000Lossless)
    half = len(frame) // 2
    messages = []
    for syntax, damaged in (
        (JPEG2000Lossless, frame[:half] + frame[half + 20 :]),
        (RLELossless, encode(pixels, 12, RLELossless)[:-40] + b"\x7f" * 40),
        (RLELossless, encode(pixels, 12, RLELossless)[:50]),
        (JPEGLSLossless, encode(pixels, 12, JPEGLSLossless)[:100] + b"\xff\xd9"),
    ):
        with pytest.raises(RejectedFile) as caught:
            image(file_of(pixels, 12, syntax, damaged))
        messages.append(caught.value.detail)
    assert not any("Error" in message or "end marker" in message for message in messages), messages


# --- a second reader --------------------------------------------------------------------------------------------------


DEPTHS = [(8, "u1"), (8, "i1"), (8, "u2"), *((bits, sign) for bits in (10, 12, 14, 16) for sign in ("u2", "i2"))]


@pytest.mark.parametrize(("bits", "dtype"), DEPTHS)
@pytest.mark.parametrize("syntax", [*sorted(NATIVE), *LOSSLESS])
def test_a_second_reader_gives_the_same_pixels(tmp_path: Path, syntax: str, bits: int, dtype: str) -> None:
    for shape in ((17, 23), (32, 27)):
        pixels = noise(bits, dtype, shape)
        data = file_of(pixels, bits, syntax)
        files = [data]
        if syntax in ENCAPSULATED:
            frame = frame_of(pixels, bits, syntax)
            parts = cut(frame, len(frame) // 3 // 2 * 2, len(frame) // 2 // 2 * 2)
            files += [with_value(data, items(parts, table)) for table in ("absent", "first")]
            np.testing.assert_array_equal(image(with_value(data, items(parts, "each"))).stored, indices(pixels, bits))
        for i, found in enumerate(files):
            stored = image(found).stored
            assert stored.dtype == (np.uint8 if bits <= 8 else np.uint16)
            np.testing.assert_array_equal(stored, indices(pixels, bits))
            for other in second_decoders(write(tmp_path / f"{i}.dcm", found), syntax):
                assert other.dtype.kind == pixels.dtype.kind
                np.testing.assert_array_equal(indices(other, bits), stored)


# --- padding ----------------------------------------------------------------------------------------------------------


def padded(bits: int, signed: bool, syntax: str, value: Any, limit: Any = None) -> bytes:
    """A file with Pixel Padding as (VR, value)."""
    pixels = noise(bits, f"{'i' if signed else 'u'}{1 if bits <= 8 else 2}")
    ds = dataset(pixels, bits)
    with disable_value_validation(), silenced():
        for tag, found in ((0x00280120, value), (0x00280121, limit)):
            if found is not None:
                ds.add_new(tag, *found)
        return file_bytes(ds, pixels, syntax)


def marked(data: bytes, bits: int, signed: bool) -> tuple[list[int], bool]:
    """Stored values that are padding, and whether padding is flagged as ignored."""
    found = image(data)
    low = -(1 << bits - 1) if signed else 0
    marks = [] if found.padding is None else (np.flatnonzero(found.padding) + low).tolist()
    return marks, Flag.PADDING_IGNORED in found.flags


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
@pytest.mark.parametrize(
    ("bits", "signed", "value", "limit", "expected"),
    [
        (16, False, ("SS", -1), None, [65535]),
        (16, True, ("US", 32768), None, [-32768]),
        (16, True, ("US", 63536), None, [-2000]),
        (12, True, ("US", 63488), None, [-2048]),
        (16, False, ("US", 65533), ("SS", -1), [65533, 65534, 65535]),
        (16, False, ("SS", -1), ("US", 65533), [65533, 65534, 65535]),
        (16, True, ("SS", -2), ("US", 65535), [-2, -1]),
        (16, True, ("SS", -1), ("SS", 1), [-1, 0, 1]),
        (12, True, ("US", 63486), ("SS", -2047), [-2048, -2047]),
        (8, False, ("US", 255), None, [255]),
        (12, False, ("US", [5, 5]), None, [5]),
        (12, False, ("US", 5), ("US", None), [5]),
    ],
)  # fmt: skip
def test_padding_is_compared_as_the_pixels_are(
    syntax: str, bits: int, signed: bool, value: Any, limit: Any, expected: list[int]
) -> None:
    assert marked(padded(bits, signed, syntax, value, limit), bits, signed) == (expected, False)


@pytest.mark.parametrize(
    ("bits", "signed", "value", "limit"),
    [
        (12, False, ("US", 4096), None),
        (12, False, ("SS", -1), None),
        (12, True, ("SS", -2049), None),
        (12, True, ("US", 32768), ("US", 40000)),
        (8, False, ("US", 65535), None),
        (12, False, ("US", [0, 4095]), None),
        (12, False, ("US", 0), ("US", [3, 4095])),
        (12, False, ("SL", -70000), None),
        (12, False, ("LO", "none"), None),
        (12, False, ("FL", 0.5), None),
        (12, False, None, ("US", 3)),
        (12, False, ("US", 0), ("SS", -1)),  # everything
        (16, True, ("US", 32768), ("SS", 32767)),
    ],
)  # fmt: skip
def test_padding_that_cannot_apply_is_flagged(bits: int, signed: bool, value: Any, limit: Any) -> None:
    assert marked(padded(bits, signed, ExplicitVRLittleEndian, value, limit), bits, signed) == ([], True)


TISSUE = breast(3, MLO, shape=(640, 512))
GREY = int(np.bincount(TISSUE.pixels[TISSUE.pixels > 400]).argmax())  # of most of its pixels
STRIP = np.pad(TISSUE.pixels, ((0, 0), (0, 40)), constant_values=4095)


@pytest.mark.parametrize(
    ("pixels", "value", "applied"),
    [
        (TISSUE.pixels, GREY, False),
        (np.pad(np.where(TISSUE.pixels > 2000, 4095, TISSUE.pixels), 9), 4095, False),  # it is saturated
        (STRIP, 4095, True),
        (TISSUE.pixels, 0, True),
        (np.where(TISSUE.pixels == GREY, 0, TISSUE.pixels), 0, True),  # black remains black
        (TISSUE.pixels, 4000, True),  # no pixel has it
    ],
)
def test_padding_within_the_breast_is_ignored(pixels: Pixels, value: int, applied: bool) -> None:
    found = image(file_of(pixels, 12, ExplicitVRLittleEndian, PixelPaddingValue=value))
    assert (found.padding is not None, Flag.PADDING_IGNORED in found.flags) == (applied, not applied)


@pytest.mark.parametrize(
    ("first", "last", "applied"),
    [(0, 30, True), (0, 200, True), (0, 900, False), (900, 0, False), (0, 2000, False), (0, 4000, False), (3500, 4095, True)],
)
@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
def test_a_range_of_padding_that_holds_the_breast_is_ignored(photometric: str, first: int, last: int, applied: bool) -> None:
    """It was black."""
    if photometric == "MONOCHROME1":
        first, last = 4095 - first, 4095 - last
    pixels = TISSUE.pixels if photometric == "MONOCHROME2" else 4095 - TISSUE.pixels
    tags: dict[str, Any] = {
        "PixelPaddingValue": first,
        "PixelPaddingRangeLimit": last,
        "PhotometricInterpretation": photometric,
    }
    found = image(file_of(pixels, 12, ExplicitVRLittleEndian, **tags))
    assert (found.padding is not None, Flag.PADDING_IGNORED in found.flags) == (applied, not applied)


def test_a_range_of_padding_around_a_gap_is_applied() -> None:
    pixels = np.where(TISSUE.pixels > 50, TISSUE.pixels // 2 + 2000, 0).astype(np.uint16)
    assert (
        image(file_of(pixels, 12, ExplicitVRLittleEndian, PixelPaddingValue=0, PixelPaddingRangeLimit=1900)).padding is not None
    )


def test_no_padding_is_not_flagged() -> None:
    assert marked(padded(12, False, ExplicitVRLittleEndian, None), 12, False) == ([], False)


# --- cells that no header tells of ------------------------------------------------------------------------------------

BREAST = breast(3, shape=(160, 128)).pixels  # 12 bits, up to 2,900
CELLS = [ExplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless, JPEGLossless]
WRONG: dict[str, tuple[Pixels, int, dict[str, Any]]] = {
    "12 bits, bytes exchanged": (BREAST.byteswap(), 12, {}),
    "16 bits, bytes exchanged": ((BREAST * 16).byteswap(), 16, {}),
    "signed, bytes exchanged": ((BREAST.astype("i2") - 300).byteswap(), 16, {}),
    "left-aligned, called right-aligned": (BREAST << 4, 12, {}),
    "right-aligned, called left-aligned": (BREAST, 12, {"HighBit": 15}),
    "signed, called right-aligned": (BREAST.astype("i2") - 300 << 4, 12, {}),
    "signed, called unsigned": ((breast(3, shape=(640, 512)).pixels.astype("i2") - 1000).view("u2"), 16, {}),
    "rows and columns exchanged": (BREAST, 12, {"Rows": 128, "Columns": 160}),
    "12 bits, called 8": (BREAST, 8, {}),
    "12 bits, called 10": (BREAST, 10, {}),
}


@pytest.mark.parametrize("syntax", CELLS)
@pytest.mark.parametrize("name", WRONG)
def test_cells_that_are_not_what_the_header_says(syntax: str, name: str) -> None:
    pixels, bits, tags = WRONG[name]
    frame = None if syntax in NATIVE else encode(pixels.view("u2"), 16, syntax)
    assert rejection(file_of(pixels, bits, syntax, frame, **tags)) is MISMATCH


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, HTJ2KLossless, JPEGLSLossless])
def test_bytes_exchanged_before_they_were_compressed(syntax: str) -> None:
    swapped = (BREAST * 16).byteswap()
    assert rejection(file_of(swapped, 16, syntax, encode(swapped, 16, syntax))) is MISMATCH


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_rows_and_columns_of_eight_bits_exchanged(syntax: str) -> None:
    assert rejection(file_of((BREAST >> 4).astype("u1"), 8, syntax, Rows=128, Columns=160)) is MISMATCH


def _labelled(pixels: Pixels, white: int) -> Pixels:
    marked = pixels.copy()
    marked[2:80, 60:120:3] = white
    return marked


RIGHT: dict[str, tuple[Pixels, int, dict[str, Any]]] = {
    "8 bits, shifted up, with a white label": (_labelled((BREAST >> 4) << 8, 65535), 16, {}),
    "a negative of few levels beside padding of 0": (np.pad(65535 - (BREAST >> 2), ((0, 0), (0, 9))), 16, {}),
    "values times 257": ((BREAST >> 4) * 257, 16, {}),
    "a white label on dark tissue": (_labelled(BREAST, 65535), 16, {}),
    "dark and left-aligned": ((BREAST >> 5) << 4, 12, {"HighBit": 15}),
    "few bits used": (BREAST >> 4, 16, {}),
    "left-aligned": (BREAST << 4, 12, {"HighBit": 15}),
    "signed, through 0": (BREAST.astype("i2") - 300, 16, {}),
    "a bit above the stored ones in places": (_labelled(BREAST, 0) | (_labelled(0 * BREAST, 4096)), 12, {}),
}


@pytest.mark.parametrize("name", RIGHT)
def test_cells_that_only_look_strange(name: str) -> None:
    pixels, bits, tags = RIGHT[name]
    shift = tags.get("HighBit", bits - 1) + 1 - bits
    expected = (pixels >> shift).astype(np.int64) & ((1 << bits) - 1)
    found = image(made(pixels, bits, ExplicitVRLittleEndian, **tags)).stored
    np.testing.assert_array_equal(found, (expected ^ 1 << bits - 1) if pixels.dtype.kind == "i" else expected)


def test_tiles_that_are_not_there() -> None:
    """OpenJPEG leaves them black."""
    pixels = (breast(2, CC).pixels >> 4).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG2000", no_jp2=True, tile_size=(128, 128), irreversible=False)
    frame = out.getvalue()
    np.testing.assert_array_equal(image(file_of(pixels, 8, JPEG2000Lossless, frame)).stored, pixels)
    starts = [found.start() for found in re.finditer(b"\xff\x90\x00\x0a", frame)]
    assert len(starts) == 6
    for cut in (frame[: starts[-1]] + b"\xff\xd9", frame[: starts[2]] + frame[starts[3] :]):
        assert rejection(file_of(pixels, 8, JPEG2000Lossless, cut)) is Reason.PIXELS_TRUNCATED


# --- any contradiction ------------------------------------------------------------------------------------------------

CODECS = [RLELossless, JPEGLossless, JPEGLSLossless, JPEG2000Lossless, HTJ2KLossless]


def test_a_damaged_image_is_not_cut_to_its_bits() -> None:
    """A lossless JPEG that is damaged decodes on from a wrong value, beyond the bits that its header has."""
    pixels = breast().pixels
    frame = frame_of(pixels, 12, JPEGLossless)
    rejected = 0
    for at in range(len(frame) // 4, len(frame) - 60, len(frame) // 40):
        damaged = frame[:at] + b"\x55" * 50 + frame[at + 50 :]
        try:
            assert image(file_of(pixels, 12, JPEGLossless, damaged)).stored.max() <= 4095
        except RejectedFile as found:
            assert found.reason in {Reason.DECODE_FAILED, Reason.PIXELS_TRUNCATED}, found
            rejected += "damaged" in found.detail
    assert rejected


@settings(max_examples=400, deadline=None, database=None)
@given(data=st.data())
def test_right_pixels_or_rejected_by_name(data: st.DataObject) -> None:
    """Whatever header and bytes say of depth, sign, amount, frames and padding."""
    draw = data.draw
    syntax = draw(st.sampled_from([*sorted(NATIVE), *CODECS]))
    signed, header_signed = draw(st.booleans()), draw(st.booleans())
    bits = draw(st.integers(9, 16))  # that the values use
    cells = draw(st.integers(bits, 16)) if syntax in (JPEGLossless, JPEG2000Lossless) else 16  # that the codestream has
    stored = draw(st.integers(9, 16))
    pixels = noise(bits, "i2" if signed else "u2")
    count = draw(st.sampled_from([1, 1, 1, 2, 3]))
    extra = draw(st.sampled_from([b"", b"", b"\0\0", b"\7" * 6, b"\7" * 10, bytes(64), b"\7" * 64, bytes(1000)]))
    padding = draw(
        st.none() | st.tuples(st.just("US"), st.integers(0, 65535)) | st.tuples(st.just("SS"), st.integers(-32768, 32767))
    )
    tags: dict[str, Any] = {"BitsStored": stored, "HighBit": stored - 1, "PixelRepresentation": int(header_signed)}
    tags |= draw(st.sampled_from([{}, {"NumberOfFrames": 1}]))
    with disable_value_validation(), silenced():
        ds = dataset(pixels, bits, **tags)
        if padding:
            ds.add_new(0x00280120, *padding)
        if syntax in NATIVE:
            found = file_bytes(ds, native(pixels, syntax) * count + extra, syntax)
        else:
            raw = pixels if syntax in J2K else pixels.view("u2") & ((1 << cells) - 1)
            frame = encode(raw, cells, syntax)
            at = draw(st.lists(st.integers(0, len(frame)), max_size=2))
            value = items(cut(frame, *at) * count, draw(st.sampled_from(TABLES)))
            found = with_value(file_bytes(ds, frame, syntax), value)
    # The values as the bytes give them, by arithmetic on the whole array.
    values = pixels.astype(np.int64)
    cells_beyond = False
    low = -(1 << stored - 1) if header_signed else 0
    high = low + (1 << stored) - 1
    if syntax in NATIVE:  # the header alone tells, unless the image shows that its values go on in the unused bits
        cells_beyond = stored < 16 and bool(((values < low) | (values > high)).any())
        values = (values - low) % (1 << stored) + low
    elif syntax not in J2K:
        raw_values = raw.astype(np.int64)
        sign = stored if raw_values.max() < 1 << stored else cells
        values = (raw_values + (1 << sign - 1)) % (1 << sign) - (1 << sign - 1) if header_signed else raw_values
    try:
        result = image(found)
    except RejectedFile as rejected:
        assert rejected.reason in (MISMATCH, MULTI)
        contradicts = (
            cells_beyond or count > 1 or values.min() < low or values.max() > high or (syntax in NATIVE and len(extra) > 8)
        )
        assert (
            contradicts
            or (signed and not header_signed)
            or (header_signed and (cells < stored or (syntax in J2K and not signed)))
        ), rejected
        return
    assert count == 1
    assert syntax not in NATIVE or len(extra) <= 8 or (len(extra) <= 128 and not any(extra))
    np.testing.assert_array_equal(result.stored, values - low)
    word = (
        None if padding is None else (padding[1] - (-32768 if header_signed else 0)) % 65536 + (-32768 if header_signed else 0)
    )
    marks = [] if result.padding is None else (np.flatnonzero(result.padding) + low).tolist()
    border = np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]]) == word
    within = word != low and 64 * border.sum() < border.size and (values == word).sum() > 16 * border.sum()
    assert marks == ([word] if word is not None and low <= word <= high and not within else [])
    assert (Flag.PADDING_IGNORED in result.flags) == (word is not None and not marks)
