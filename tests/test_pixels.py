"""Pixels and their meaning: equal to what was encoded, to a second decoder, and to pydicom's rules on full arrays."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
from blake3 import blake3
from numpy.typing import NDArray
from pydicom.config import disable_value_validation
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels import apply_modality_lut, apply_voi, apply_windowing, pixel_array
from pydicom.sequence import Sequence
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
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from fvpipe.config.pipeline import Voi
from fvpipe.dicom.decoding.decoders import DECODERS, lossy_decoder
from fvpipe.dicom.decoding.transfer_syntaxes import ENCAPSULATED, NATIVE
from fvpipe.dicom.elements import RejectedFile, silenced
from fvpipe.imaging.decoded_image import DecodedImage
from fvpipe.reasons import Flag, Reason
from fvpipe.types import Edge, Laterality
from tests.support.decoding import decode
from tests.support.factory import dataset, encode, file_bytes, item, outcomes, table, write
from tests.support.faulty import FRAMES, bombs

Pixels = NDArray[Any]
LOSSY = sorted(syntax for syntax, decoder in DECODERS.items() if decoder.lossy)
LOSSLESS = sorted(DECODERS.keys() - set(LOSSY))
SHAPE = (33, 27)  # odd, so that every padding and every pair of bytes counts


def noise(bits: int, dtype: str, shape: tuple[int, int] = SHAPE) -> Pixels:
    """Smooth enough to compress and with both ends of the range in it."""
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if dtype[0] == "i" else (0, (1 << bits) - 1)
    ramp = np.linspace(low, high, shape[0] * shape[1]).reshape(shape)
    rough = ramp + np.random.default_rng(bits).normal(0, (high - low) / 50, shape)
    pixels = np.clip(rough, low, high).astype(dtype)
    pixels[0, 0], pixels[-1, -1] = low, high
    return pixels


def frame_of(pixels: Pixels, bits: int, syntax: str) -> bytes:
    """An encoded frame; codecs without a sign get the bits of signed pixels as they are, and all of them."""
    signless = syntax not in (JPEG2000Lossless, HTJ2KLossless, HTJ2KLosslessRPCL)
    if pixels.dtype.kind == "i" and signless:
        pixels, bits = pixels.view(f"u{pixels.dtype.itemsize}"), 8 * pixels.dtype.itemsize
    if syntax == RLELossless:
        bits = 8 * pixels.dtype.itemsize  # it knows whole bytes alone
    elif bits <= 8 and pixels.dtype.kind == "u" and syntax != JPEGLSLossless:  # which GDCM reads in whole cells alone
        pixels = pixels.astype("u1")  # as codecs do with 8 bits in 16 allocated ones
    return encode(pixels, bits, syntax)


def file_of(pixels: Pixels, bits: int, syntax: str = ExplicitVRLittleEndian, frame: bytes | None = None, **tags: Any) -> bytes:
    with disable_value_validation(), silenced():
        ds = dataset(pixels, bits, **tags)
        if syntax in NATIVE:
            return file_bytes(ds, pixels, syntax)
        return file_bytes(ds, frame_of(pixels, bits, syntax) if frame is None else frame, syntax)


def image(data: bytes, voi: Voi = "none", side: Laterality = Laterality.LEFT) -> DecodedImage:
    return decode(data, side, voi)


def rejection(data: bytes, voi: Voi = "none") -> Reason:
    with pytest.raises(RejectedFile) as caught:
        image(data, voi)
    return caught.value.reason


def indices(pixels: Pixels, bits: int) -> Pixels:
    """What `stored` should be: signed values start at 0 too."""
    return pixels.astype(np.int64) + ((1 << bits - 1) if pixels.dtype.kind == "i" else 0)


# --- every transfer syntax --------------------------------------------------------------------------------------------


def second_decoders(path: Path, syntax: str) -> list[Pixels]:
    """The same file by libraries that fvpipe does not decode with."""
    plugins: dict[Any, list[str]] = {RLELossless: ["pydicom", "pylibjpeg"]} | {native: [""] for native in NATIVE}
    plugins |= {j: ["pylibjpeg"] for j in (JPEG2000Lossless, JPEG2000)}
    if syntax in plugins:
        with silenced():
            return [pixel_array(pydicom.dcmread(path), raw=True, decoding_plugin=plugin) for plugin in plugins[syntax]]
    if syntax in (HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K):  # fvpipe reads them with OpenJPEG; here OpenJPH does
        return [imagecodecs.htj2k_decode(get_frame(pydicom.dcmread(path).PixelData, 0, number_of_frames=1))]
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    return [sitk.GetArrayFromImage(reader.Execute())[0]]


@pytest.mark.parametrize(
    ("syntax", "bits", "error"),
    [
        (JPEGBaseline8Bit, 8, 12),
        (JPEGExtended12Bit, 12, 200),
        (JPEGLSNearLossless, 8, 2),
        (JPEGLSNearLossless, 12, 2),
        (JPEG2000, 8, 4),
        (JPEG2000, 12, 30),
        (HTJ2K, 12, 3),
        (HTJ2K, 16, 3),
    ],
)
def test_lossy_is_near_and_equal_to_another_decoder(tmp_path: Path, syntax: str, bits: int, error: int) -> None:
    white = (1 << bits) - 1
    # Off the ends of the range, beyond which the other decoders let the codec's overshoot start again from the other end.
    pixels = np.clip(noise(bits, "u1" if bits == 8 else "u2"), white // 16, white - white // 16)
    data = file_of(pixels, bits, syntax)
    stored = image(data).stored.astype(int)
    assert 0 < np.abs(stored - pixels).max() <= error
    for other in second_decoders(write(tmp_path / "x.dcm", data), syntax):
        assert np.abs(stored - other).max() <= 1


def test_every_decoder_is_asked_for() -> None:
    assert set(DECODERS) == ENCAPSULATED == set(LOSSY) | set(LOSSLESS)
    assert set(LOSSY) == {JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000, HTJ2K}


def test_a_lossy_decoder_belongs_to_the_key() -> None:
    assert all(lossy_decoder(syntax) == f"imagecodecs {imagecodecs.__version__}" for syntax in LOSSY)
    assert not any(lossy_decoder(syntax) for syntax in [*LOSSLESS, *NATIVE])


MOST_BITS: dict[str, int] = {JPEGBaseline8Bit: 8, JPEGExtended12Bit: 12}


@pytest.mark.parametrize(("syntax", "bits"), [(s, bits) for s in LOSSY for bits in (8, 12, 16) if bits <= MOST_BITS.get(s, 16)])
def test_lossy_white_does_not_become_black(syntax: str, bits: int) -> None:
    """A codec's overshoot beyond the range must stay at its end, also where the codestream has more bits than are stored."""
    white = (1 << bits) - 1
    pixels = np.where(np.random.default_rng(0).random((64, 64)) < 0.5, white, 0).astype("u1" if bits == 8 else "u2")
    if syntax == JPEGLSNearLossless:
        pixels = np.where(pixels, pixels - 5 * np.arange(64, dtype=pixels.dtype) % 7, 0).astype(pixels.dtype)
    stored = image(file_of(pixels, bits, syntax)).stored
    assert (stored > white // 2).tolist() == (pixels > white // 2).tolist()


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_one_picture_has_one_digest_in_every_syntax(bits: int) -> None:
    pixels = noise(bits, "u1" if bits == 8 else "u2")
    digests = {image(file_of(pixels, bits, syntax)).pixel_digest for syntax in [*NATIVE, *LOSSLESS]}
    assert len(digests) == 1
    changed = pixels.copy()
    changed[5, 5] ^= 1
    others = [changed, pixels.reshape(SHAPE[::-1]), pixels[:-1]]
    assert len(digests | {image(file_of(other, bits)).pixel_digest for other in others}) == 4


def test_digests_and_the_file_of_a_picture() -> None:
    data = file_of(noise(12, "u2"), 12)
    assert image(data).source_digest == blake3(data).hexdigest()
    assert image(data).pixel_digest == image(file_of(noise(12, "u2"), 12, PatientID="another")).pixel_digest


@pytest.mark.parametrize("vr", [b"OW", b"OB"])
@pytest.mark.parametrize("shape", [(33, 27), (32, 26)])
def test_big_endian_bytes_are_swapped_in_words_only(vr: bytes, shape: tuple[int, int]) -> None:
    pixels = noise(8, "u1", shape)
    data = file_of(pixels, 8, ExplicitVRBigEndian)
    at = data.index(b"\x7f\xe0\0\x10OW") + 4
    if vr == b"OB":
        plain = pixels.tobytes() + b"\0" * (pixels.size % 2)
        data = data[:at] + b"OB" + data[at + 2 : len(data) - len(plain)] + plain
    np.testing.assert_array_equal(image(data).stored, pixels)


def test_big_endian_bytes_of_half_a_word_too_few() -> None:
    data = file_of(noise(8, "u1"), 8, ExplicitVRBigEndian)
    size = SHAPE[0] * SHAPE[1]
    data = data[: -(size + 5)] + struct.pack(">I", size) + data[-(size + 1) : -1]
    assert rejection(data) is Reason.PIXELS_TRUNCATED


WHOLE_CELLS = [*sorted(NATIVE), RLELossless, JPEGLossless, JPEGLSLossless, JPEG2000Lossless]


@pytest.mark.parametrize("syntax", WHOLE_CELLS)
@pytest.mark.parametrize("dtype", ["u2", "i2"])
def test_bits_beside_the_stored_ones_are_left_out(syntax: str, dtype: str) -> None:
    """Of native pixels always, of compressed ones where the header declares an overlay there; else the two contradict."""
    pixels = noise(12, dtype)
    cells = pixels.view("u2") & 0xFFF
    overlay = np.random.default_rng(1).integers(0, 16, SHAPE).astype("u2")
    expected = indices(pixels, 12)
    for high, stored in (
        (11, cells | overlay << 12),
        (15, cells << 4 | overlay),
        (13, cells << 2 | overlay >> 2 | overlay << 14),
    ):
        ds = dataset(pixels, 12, HighBit=high)
        encoded = stored if syntax in NATIVE else cells_of(stored, dtype, syntax)
        if syntax not in NATIVE:
            assert rejection(file_bytes(ds, encoded, syntax)) is Reason.PIXELS_MISMATCH
            ds.add_new(0x60000100, "US", 16)
        np.testing.assert_array_equal(image(file_bytes(ds, encoded, syntax)).stored, expected)


@pytest.mark.parametrize(
    ("stored", "high", "allocated", "bit", "reason"),
    [
        (16, 15, 16, 12, Reason.BITS_UNSUPPORTED),
        (12, 15, 16, 15, Reason.BITS_UNSUPPORTED),
        (12, 11, 16, 11, Reason.BITS_UNSUPPORTED),
        (12, 15, 16, 3, None),
        (12, 11, 16, 12, None),
        (12, 11, 16, 0, None),  # of a plane whose data were removed, as may be the next
        (12, 11, 1, 5, None),
    ],
)
def test_an_overlay_in_stored_bits_is_a_contradiction(
    stored: int, high: int, allocated: int, bit: int, reason: Reason | None
) -> None:
    """It would be drawn into the values."""
    pixels = noise(12, "u2") << (high + 1 - stored)
    ds = dataset(pixels, stored, HighBit=high)
    ds.add_new(0x60020100, "US", allocated)
    ds.add_new(0x60020102, "US", bit)
    data = file_bytes(ds, pixels)
    if reason is None:
        image(data)
    else:
        assert rejection(data) is reason


def cells_of(cells: Pixels, dtype: str, syntax: str) -> bytes:
    """An encoded frame of whole 16-bit cells, whose sign is in the codestream where the codec has one."""
    return frame_of(cells.view(dtype) if syntax == JPEG2000Lossless else cells, 16, syntax)


@pytest.mark.parametrize("bot", [False, True])
@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLossless, RLELossless])
def test_a_frame_in_several_fragments(syntax: str, bot: bool) -> None:
    pixels = noise(12, "u2")
    frame = encode(pixels, 12, syntax)
    data = file_of(pixels, 12, syntax, frame)
    one = encapsulate([frame], has_bot=True)
    assert one in data
    np.testing.assert_array_equal(
        image(data.replace(one, encapsulate([frame], fragments_per_frame=3, has_bot=bot))).stored, pixels
    )


def test_a_jp2_file_as_a_frame() -> None:
    pixels = noise(12, "u2")
    frame = bytes(imagecodecs.jpeg2k_encode(pixels, level=0, codecformat="jp2", reversible=True, bitspersample=12))
    assert frame[4:8] == b"jP  "
    np.testing.assert_array_equal(image(file_of(pixels, 12, JPEG2000Lossless, frame)).stored, pixels)


# --- compressed images that are not what the header says ------------------------------------------------------------

SMALL, LARGE = noise(8, "u1", (32, 32)), noise(8, "u1", (64, 32))


@pytest.mark.parametrize("syntax", sorted(DECODERS))
def test_a_picture_of_another_size(syntax: str) -> None:
    for inside, outside in ((LARGE, SMALL), (SMALL, LARGE)):
        reason = rejection(file_of(outside, 8, syntax, encode(inside, 8, syntax)))
        assert reason in (
            {Reason.PIXELS_TRUNCATED, Reason.PIXELS_MISMATCH} if syntax == RLELossless else {Reason.PIXELS_MISMATCH}
        )


@pytest.mark.parametrize("syntax", sorted(DECODERS.keys() - {JPEGBaseline8Bit}))
def test_a_picture_of_more_bits_than_allocated(syntax: str) -> None:
    deep = noise(12, "u2", (32, 32))
    assert rejection(file_of(SMALL, 8, syntax, encode(deep, 12, syntax))) is Reason.PIXELS_MISMATCH


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEGLSLossless, JPEG2000, HTJ2K])
def test_a_picture_in_colour(syntax: str) -> None:
    colour = np.dstack([SMALL, SMALL, SMALL])
    encoders: dict[str, Any] = {
        JPEGBaseline8Bit: imagecodecs.jpeg8_encode,
        JPEGLSLossless: imagecodecs.jpegls_encode,
        JPEG2000: lambda array: imagecodecs.jpeg2k_encode(array, codecformat="j2k"),
        HTJ2K: imagecodecs.htj2k_encode,
    }
    assert rejection(file_of(SMALL, 8, syntax, bytes(encoders[syntax](colour)))) is Reason.PIXELS_MISMATCH


@pytest.mark.parametrize("tags", [{"HighBit": 15}, {"PixelRepresentation": 1, "BitsStored": 16, "HighBit": 15}])
def test_a_picture_without_the_bits_that_the_header_looks_for(tags: dict[str, Any]) -> None:
    """12 bits in the codestream, and a header that looks for the sign, or the image, above them."""
    pixels = noise(12, "u2")
    for syntax in (JPEG2000Lossless, JPEGLossless):
        assert rejection(file_of(pixels, 12, syntax, **tags)) is Reason.PIXELS_MISMATCH


@pytest.mark.parametrize("syntax", sorted(DECODERS))
def test_bytes_that_are_no_picture(syntax: str) -> None:
    for frame in (bytes(64), bytes(range(256)), b"\xff\xd8\xff\xd9", b"\xff\x4f\xff\x51" + bytes(60), 80 * b"\xff"):
        assert rejection(file_of(SMALL, 8, syntax, frame)) in {
            Reason.DECODE_FAILED,
            Reason.PIXELS_MISMATCH,
            Reason.PIXELS_TRUNCATED,
        }


@pytest.mark.fault(17)
@pytest.mark.parametrize("syntax", sorted(DECODERS))
def test_a_frame_cut_anywhere_is_refused(syntax: str) -> None:
    """Left alone, libjpeg and OpenJPH make up the rest of the image without a word."""
    pixels = noise(8, "u1", (48, 40))
    frame = encode(pixels, 8, syntax)
    whole = file_of(pixels, 8, syntax, frame)
    end = whole.index(frame) + len(frame)
    cuts = {*np.linspace(2, len(frame) - 3, 40, dtype=int).tolist(), len(frame) - 3}
    for cut in cuts:
        expected = {Reason.PIXELS_TRUNCATED, Reason.DECODE_FAILED}
        assert rejection(file_of(pixels, 8, syntax, frame[:cut])) in expected, cut  # cut before it became a fragment
        assert rejection(whole[: end - len(frame) + cut]) in expected, cut  # the file was cut


JPEG = sorted(syntax for syntax, decoder in DECODERS.items() if decoder.decode is DECODERS[JPEGLossless].decode)


@pytest.mark.parametrize("bits", [8, 12])
@pytest.mark.parametrize("syntax", JPEG)
def test_jpeg_data_that_end_before_the_image(syntax: str, bits: int) -> None:
    """As where a fragment is lost, or cut data are closed: libjpeg makes up the other rows in grey."""
    if syntax == JPEGBaseline8Bit and bits > 8:
        return
    pixels = noise(bits, "u1" if bits == 8 else "u2", (48, 40))
    pixels[-9:] = 1 << (bits - 1)  # which may be there
    frame = encode(pixels, bits, syntax)
    assert decode(file_of(pixels, bits, syntax, frame)).shape == pixels.shape
    head, end = frame[: frame.index(b"\xff\xda") + 10], frame[frame.index(b"\xff\xda") + 10 :]
    lost = {"the end": end[: len(end) // 2] + b"\xff\xd9", "the middle": end[: len(end) // 4] + end[len(end) // 2 :]}
    for name, rest in lost.items():
        found = rejection(file_of(pixels, bits, syntax, head + rest))
        assert found in {Reason.PIXELS_TRUNCATED, Reason.DECODE_FAILED}, name


@pytest.mark.fault(17)
@pytest.mark.parametrize("name", sorted(FRAMES.keys() - {"one value"}))
def test_a_frame_is_faulty(name: str) -> None:
    """Left alone, OpenJPH would make up a damaged block, and say so on the standard error."""
    reason, make = FRAMES[name]
    assert rejection(make(PatientID="P2")) is reason


@pytest.mark.fault(17)
@pytest.mark.parametrize("syntax", sorted(NATIVE))
def test_native_pixels_cut_anywhere_are_refused(syntax: str) -> None:
    data = file_of(noise(12, "u2", (64, 64)), 12, syntax)
    # The end of a deflate stream may be no pixel any more, but the flag that it is the end.
    ends = (1, 2, 100) if syntax != DeflatedExplicitVRLittleEndian else (16, 100, 1000)
    for cut in ends:
        assert rejection(data[:-cut]) is Reason.PIXELS_TRUNCATED


@pytest.mark.fault(20)
@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS and /proc")
def test_bombs_are_refused_in_bounded_memory(tmp_path: Path) -> None:
    deflated = noise(16, "u2", (1500, 1500))
    found = outcomes(
        tmp_path,
        {
            "rle": file_of(SMALL, 8, RLELossless, bombs()[RLELossless]),
            "j2k": file_of(SMALL, 8, JPEG2000, bombs()[JPEG2000]),
            "jpeg": file_of(SMALL, 8, JPEGLossless, bombs()[JPEGLossless]),
            "large": file_of(deflated, 16, DeflatedExplicitVRLittleEndian),
        },
    )
    assert found == {
        "rle": ["read", "pixels_mismatch"],
        "j2k": ["read", "pixels_mismatch"],
        "jpeg": ["read", "pixels_mismatch"],
        "large": ["read", "(1500, 1500)"],
    }


# --- what a stored value means ----------------------------------------------------------------------------------------

ALL = np.arange(4096, dtype=np.uint16).reshape(64, 64)
ALL_SIGNED = np.arange(-2048, 2048, dtype=np.int16).reshape(64, 64)
CURVE = (np.sqrt(np.arange(4096)) * 1000).astype(int).tolist()
MEANINGS: dict[str, dict[str, Any]] = {
    "as stored": {},
    "slope and intercept": {"RescaleSlope": 2.5, "RescaleIntercept": -100},
    "negative slope": {"RescaleSlope": -1, "RescaleIntercept": 4095},
    "Modality LUT": {"ModalityLUTSequence": table(CURVE)},
    "Modality LUT beats a rescale": {"ModalityLUTSequence": table(CURVE), "RescaleSlope": 7, "RescaleIntercept": 7},
    "Modality LUT from 500 on": {"ModalityLUTSequence": table(CURVE[:1000], first=500)},
}
WINDOWS: dict[str, dict[str, Any]] = {
    "LINEAR by default": {"WindowCenter": 1500, "WindowWidth": 900},
    "LINEAR, the first of two": {"WindowCenter": [1500.5, 10], "WindowWidth": [900.25, 10], "VOILUTFunction": "LINEAR"},
    "LINEAR, a threshold": {"WindowCenter": 1500, "WindowWidth": 1, "VOILUTFunction": "LINEAR"},
    "LINEAR_EXACT": {"WindowCenter": 1500, "WindowWidth": 900, "VOILUTFunction": "LINEAR_EXACT"},
    "LINEAR_EXACT, narrow": {"WindowCenter": 1500, "WindowWidth": 0.5, "VOILUTFunction": "LINEAR_EXACT"},
    "SIGMOID": {"WindowCenter": 1500, "WindowWidth": 900, "VOILUTFunction": "SIGMOID"},
    "LINEAR, wider than the range": {"WindowCenter": 2048, "WindowWidth": 9000},
}


def meant(found: DecodedImage) -> NDArray[np.float64]:
    """Every pixel's value."""
    return found.values[found.stored]


def by_pydicom(data: bytes, tmp_path: Path) -> tuple[pydicom.Dataset, Pixels]:
    """The file and its values after the Modality LUT or rescale."""
    ds = pydicom.dcmread(write(tmp_path / "x.dcm", data))
    return ds, apply_modality_lut(ds.pixel_array, ds)


@pytest.mark.parametrize("pixels", [ALL, ALL_SIGNED], ids=["unsigned", "signed"])
@pytest.mark.parametrize("meaning", MEANINGS)
def test_values_are_those_of_pydicom(tmp_path: Path, meaning: str, pixels: Pixels) -> None:
    data = file_of(pixels, 12, **MEANINGS[meaning])
    np.testing.assert_array_equal(meant(image(data)), by_pydicom(data, tmp_path)[1])


@pytest.mark.parametrize("pixels", [ALL, ALL_SIGNED], ids=["unsigned", "signed"])
@pytest.mark.parametrize("meaning", ["as stored", "slope and intercept", "Modality LUT"])
@pytest.mark.parametrize("window", WINDOWS)
def test_windows_are_those_of_pydicom(tmp_path: Path, window: str, meaning: str, pixels: Pixels) -> None:
    data = file_of(pixels, 12, **MEANINGS[meaning], **WINDOWS[window])
    ds, values = by_pydicom(data, tmp_path)
    found = image(data, "window")
    np.testing.assert_allclose(meant(found), apply_windowing(values, ds), rtol=1e-12, atol=1e-9)
    assert found.flags | Flag.VOI_INVALID == Flag.VOI_INVALID  # a narrow one leaves most of the ramp black and white
    np.testing.assert_array_equal(meant(image(data)), values)  # voi: none applies nothing


def test_a_negative_slope_leaves_bright_bright() -> None:
    """pydicom turns the window's output over here: its range starts at what becomes the brightest value."""
    window = WINDOWS["LINEAR by default"]
    plain = image(file_of(ALL, 12, **window, RescaleSlope=1, RescaleIntercept=0), "window")
    turned = image(file_of(4095 - ALL, 12, **window, RescaleSlope=-1, RescaleIntercept=4095), "window")
    np.testing.assert_allclose(meant(turned), meant(plain), atol=1e-9)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize(
    "voi_lut",
    [
        table(CURVE),
        table(CURVE, bits=12),
        table(CURVE[:1000], first=700),
        Sequence([*table(CURVE[:50]), *table(CURVE)]),
        "words",
    ],
    ids=["whole", "12 bits", "part", "the first of two", "words"],
)
def test_voi_luts_are_those_of_pydicom(tmp_path: Path, voi_lut: Any, syntax: str) -> None:
    if voi_lut == "words":
        words = np.asarray(CURVE, ">u2" if syntax == ExplicitVRBigEndian else "<u2").tobytes()
        voi_lut = table(words, said=4096)
    data = file_of(ALL, 12, syntax, VOILUTSequence=voi_lut, RescaleSlope=1, RescaleIntercept=3)
    ds, values = by_pydicom(data, tmp_path)
    found = image(data, "lut")
    np.testing.assert_array_equal(meant(found), apply_voi(values.astype(int), ds))
    assert found.flags | Flag.VOI_INVALID == Flag.VOI_INVALID  # one of 50 entries leaves most of the ramp white


def test_a_voi_lut_from_a_negative_value_on(tmp_path: Path) -> None:
    data = file_of(ALL_SIGNED, 12, VOILUTSequence=table(CURVE[:1000], first=-300))
    ds, values = by_pydicom(data, tmp_path)
    np.testing.assert_array_equal(meant(image(data, "lut")), apply_voi(values, ds))


@pytest.mark.parametrize("keyword", ["ModalityLUTSequence", "VOILUTSequence"])
def test_a_lut_whose_bytes_are_exchanged(keyword: str) -> None:
    """As writers leave entries of OW in another byte order: every 256 values the image began again at black."""
    ramp = np.arange(4096, dtype="<u2")

    def of(words: Pixels) -> bytes:
        tags: dict[str, Any] = {keyword: table(words.tobytes(), 0, 16, said=4096)}
        return file_of(noise(12, "u2"), 12, **tags)

    for sound in (ramp, ramp[::-1] * 16, ramp // 16 * 256, (ramp > 2000) * np.uint16(4095)):  # the third has one byte
        image(of(sound), "lut")
    for exchanged in (ramp.byteswap(), (ramp[::-1] * 16).astype("<u2").byteswap()):
        assert rejection(of(exchanged), "lut") is Reason.LUT_INVALID


@pytest.mark.parametrize("keyword", ["ModalityLUTSequence", "VOILUTSequence"])
def test_a_lut_whose_start_has_the_other_sign(keyword: str) -> None:
    """Written as US where its input is signed; pixels that are unsigned may have negative values after their rescale, too."""
    right, other = table(CURVE[:1000], first=-300), table(CURVE[:1000], first=65536 - 300)
    tags: list[dict[str, Any]] = [{keyword: right}, {keyword: other}]
    first, second = (meant(image(file_of(ALL_SIGNED, 12, **each), "lut")) for each in tags)
    np.testing.assert_array_equal(first, second)
    assert np.ptp(second) > 1000
    rescaled = file_of(ALL, 12, VOILUTSequence=other, RescaleSlope=1, RescaleIntercept=-2048)
    at = np.clip(ALL.astype(int) - 2048 + 300, 0, 999)
    np.testing.assert_array_equal(meant(image(rescaled, "lut")), np.asarray(CURVE)[at])


@pytest.mark.parametrize("keyword", ["ModalityLUTSequence", "VOILUTSequence"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_lut_of_bytes_with_many_entries(keyword: str, packed: bool) -> None:
    """Neither is pydicom's to check: it wraps the index at 256, and cannot unpack bytes."""
    entries = (ALL.ravel() // 16).tolist()[:-1]  # an odd number, and so a byte of padding
    tags: dict[str, Any] = {keyword: table(bytes(entries) + b"\0" if packed else entries, bits=8, said=4095)}
    data = file_of(ALL, 12, **tags)
    expected = [*entries, entries[-1]]
    np.testing.assert_array_equal(image(data, "lut").values, expected)


TWINS = {
    "as stored": ({}, {}),
    "rescaled": (MEANINGS["slope and intercept"], MEANINGS["slope and intercept"]),
    "LINEAR": ({"WindowCenter": 1000, "WindowWidth": 700}, {"WindowCenter": 4095 - 1000 + 1, "WindowWidth": 700}),
    "LINEAR, off the range": (
        {"WindowCenter": 3900, "WindowWidth": 700},
        {"WindowCenter": 4095 - 3900 + 1, "WindowWidth": 700},
    ),
    "LINEAR_EXACT": (
        {"WindowCenter": 1000, "WindowWidth": 700, "VOILUTFunction": "LINEAR_EXACT"},
        {"WindowCenter": 3095, "WindowWidth": 700, "VOILUTFunction": "LINEAR_EXACT"},
    ),
    "SIGMOID, off the range": (
        {"WindowCenter": 3900, "WindowWidth": 700, "VOILUTFunction": "SIGMOID"},
        {"WindowCenter": 195, "WindowWidth": 700, "VOILUTFunction": "SIGMOID"},
    ),
}


@pytest.mark.fault(24)
@pytest.mark.parametrize("twin", TWINS)
def test_a_monochrome1_twin_has_equal_values(twin: str) -> None:
    tags, turned = TWINS[twin]
    voi: Voi = "window" if "WindowCenter" in tags else "none"
    two = image(file_of(ALL, 12, **tags), voi)
    one = image(file_of(4095 - ALL, 12, **turned, PhotometricInterpretation="MONOCHROME1"), voi)
    np.testing.assert_allclose(meant(one), meant(two), rtol=0, atol=1e-8)
    assert (two.direction, one.direction) == (1, -1)
    assert one.pixel_digest != two.pixel_digest  # it is another stored image all the same


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_presentation_lut_shape_turns_nothing_over_again(photometric: str) -> None:
    """INVERSE belongs to MONOCHROME1, which is turned over once already; beside MONOCHROME2 it is a vendor's mistake."""
    plain = image(file_of(ALL, 12, PhotometricInterpretation=photometric))
    for shape in ("INVERSE", "IDENTITY"):
        told = image(file_of(ALL, 12, PhotometricInterpretation=photometric, PresentationLUTShape=shape))
        np.testing.assert_array_equal(meant(told), meant(plain))


@pytest.mark.fault(24)
def test_a_signed_monochrome1_twin_has_equal_values() -> None:
    two = image(file_of(ALL_SIGNED, 12))
    one = image(file_of(-1 - ALL_SIGNED, 12, PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_array_equal(meant(one), meant(two))


@pytest.mark.parametrize(
    ("tags", "direction"),
    [
        ({}, 1),
        ({"PhotometricInterpretation": "MONOCHROME1"}, -1),
        ({"RescaleSlope": -2, "RescaleIntercept": 0}, -1),
        ({"RescaleSlope": -2, "RescaleIntercept": 0, "PhotometricInterpretation": "MONOCHROME1"}, 1),
        ({"ModalityLUTSequence": table([5, 9, 1])}, 0),
    ],
)
def test_direction(tags: dict[str, Any], direction: int) -> None:
    assert image(file_of(ALL, 12, **tags)).direction == direction


def test_a_rescale_beyond_every_number_is_refused() -> None:
    assert rejection(file_of(ALL, 12, RescaleSlope="1e308", RescaleIntercept=0)) is Reason.RESCALE_INVALID


def test_elements_that_may_be_absent_or_empty() -> None:
    """PixelRepresentation, HighBit and an empty VOI LUT Function have a default, whatever applies the window."""
    window = WINDOWS["LINEAR by default"]
    plain = image(file_of(ALL, 12, **window), "window")
    for tags in ({"PixelRepresentation": None}, {"HighBit": None}, {"SamplesPerPixel": None}, {"VOILUTFunction": ""}):
        np.testing.assert_array_equal(meant(image(file_of(ALL, 12, **window, **tags), "window")), meant(plain))


@pytest.mark.parametrize(
    ("orientation", "side", "edge"),
    [
        (None, Laterality.LEFT, Edge.LEFT),
        (None, Laterality.RIGHT, Edge.RIGHT),
        (["A", "R"], Laterality.RIGHT, Edge.RIGHT),  # what turns it makes it upright: the side tells the edge
        (["CC"], Laterality.LEFT, Edge.LEFT),
    ],
)
def test_chest_wall(orientation: list[str] | None, side: Laterality, edge: Edge) -> None:
    assert image(file_of(ALL, 12, PatientOrientation=orientation), side=side).chest_wall is edge


# --- windows and VOI LUTs that break the standard ---------------------------------------------------------------------

BAD_WINDOWS: dict[str, dict[str, Any]] = {
    "width 0": {"WindowCenter": 10, "WindowWidth": 0},
    "width negative": {"WindowCenter": 10, "WindowWidth": -5, "VOILUTFunction": "SIGMOID"},
    "LINEAR below 1": {"WindowCenter": 10, "WindowWidth": 0.5},
    "width NaN": {"WindowCenter": 10, "WindowWidth": "nan"},
    "center infinite": {"WindowCenter": "inf", "WindowWidth": 5},
    "more centers than widths": {"WindowCenter": [10, 20], "WindowWidth": 5},
    "no width": {"WindowCenter": 10},
    "unknown function": {"WindowCenter": 10, "WindowWidth": 5, "VOILUTFunction": "LOG"},
}
BAD_LUTS: dict[str, dict[str, Any]] = {
    "too short": {"VOILUTSequence": table(CURVE[:10], said=11)},
    "17 bits": {"VOILUTSequence": table(CURVE[:10], bits=17)},
    "no data": {"VOILUTSequence": Sequence([item(LUTDescriptor=[10, 0, 16])])},
    "the second too short": {"VOILUTSequence": Sequence([*table(CURVE), *table(CURVE[:10], said=11)])},
}
GOOD_WINDOW = WINDOWS["LINEAR_EXACT"]
GOOD_LUT: dict[str, Any] = {"VOILUTSequence": table(CURVE)}


@pytest.mark.fault(22)
@pytest.mark.parametrize("name", BAD_WINDOWS)
def test_a_bad_window_is_refused_where_it_is_applied_and_else_flagged(name: str) -> None:
    data = file_of(ALL, 12, **BAD_WINDOWS[name])
    assert rejection(data, "window") is Reason.WINDOW_INVALID
    assert image(data).flags == Flag.VOI_INVALID
    np.testing.assert_array_equal(meant(image(data)), ALL)
    assert image(data, "lut").flags == Flag.VOI_INVALID | Flag.VOI_ABSENT
    with_lut = image(file_of(ALL, 12, **BAD_WINDOWS[name], **GOOD_LUT), "lut")
    assert with_lut.flags == Flag.VOI_INVALID
    np.testing.assert_array_equal(with_lut.values, CURVE)


@pytest.mark.fault(22)
@pytest.mark.parametrize("name", BAD_LUTS)
def test_a_bad_voi_lut_is_refused_where_it_is_applied_and_else_flagged(name: str) -> None:
    data = file_of(ALL, 12, **BAD_LUTS[name], **GOOD_WINDOW)
    assert rejection(data, "lut") is Reason.LUT_INVALID
    assert image(data).flags == Flag.VOI_INVALID
    with_window = image(data, "window")
    assert with_window.flags == Flag.VOI_INVALID
    np.testing.assert_array_equal(with_window.values, image(file_of(ALL, 12, **GOOD_WINDOW), "window").values)


@pytest.mark.parametrize(
    ("tags", "voi", "flags"),
    [
        ({}, "none", Flag(0)),
        ({}, "window", Flag.VOI_ABSENT),
        ({}, "lut", Flag.VOI_ABSENT),
        (GOOD_WINDOW, "lut", Flag.VOI_ABSENT),
        (GOOD_LUT, "window", Flag.VOI_ABSENT),
        ({"WindowCenter": "", "WindowWidth": ""}, "window", Flag.VOI_ABSENT),
    ],
)
def test_an_absent_voi_is_flagged(tags: dict[str, Any], voi: Voi, flags: Flag) -> None:
    found = image(file_of(ALL, 12, **tags), voi)
    assert found.flags == flags
    np.testing.assert_array_equal(meant(found), ALL)


# --- padding ----------------------------------------------------------------------------------------------------------


@pytest.mark.fault(25)
@pytest.mark.parametrize(
    ("pixels", "tags", "padded"),
    [
        (ALL, {"PixelPaddingValue": 0}, range(1)),
        (ALL, {"PixelPaddingValue": 4095}, range(4095, 4096)),  # the maximum, as Hologic writes it
        (ALL, {"PixelPaddingValue": 10, "PixelPaddingRangeLimit": 12}, range(10, 13)),
        (ALL, {"PixelPaddingValue": 12, "PixelPaddingRangeLimit": 10}, range(10, 13)),
        (ALL, {"PixelPaddingValue": 4000, "PixelPaddingRangeLimit": 65535}, range(4000, 4096)),
        (ALL, {"PixelPaddingValue": 7, "RescaleSlope": 2, "RescaleIntercept": 5}, range(7, 8)),  # stored, not rescaled
        (ALL, {"PixelPaddingValue": 7, "PhotometricInterpretation": "MONOCHROME1"}, range(7, 8)),
        (ALL_SIGNED, {"PixelPaddingValue": -2048}, range(1)),
        (ALL_SIGNED, {"PixelPaddingValue": -2048, "PixelPaddingRangeLimit": -2040}, range(9)),
        (ALL_SIGNED, {"PixelPaddingValue": 2047}, range(4095, 4096)),
        (ALL, {}, None),
        (ALL, {"PixelPaddingValue": 5000}, None),
        (ALL_SIGNED, {"PixelPaddingValue": -3000}, None),
        (ALL, {"PixelPaddingRangeLimit": 5}, None),
    ],
)
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_padding(syntax: str, pixels: Pixels, tags: dict[str, Any], padded: range | None) -> None:
    marks = image(file_of(pixels, 12, syntax, **tags)).padding
    if padded is None:
        assert marks is None
    else:
        assert marks is not None
        assert marks.shape == (4096,)
        assert np.flatnonzero(marks).tolist() == list(padded)
