"""JPEG 2000 decoded no finer than is needed: nearly the whole image's image, places in source pixels, nothing let through."""

from __future__ import annotations

import json
import struct
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom.uid import ExplicitVRLittleEndian, HTJ2KLossless, JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless

import fvpipe
from benchmarks.antialiased import sample, ssim
from benchmarks.contenders import tasks
from fvpipe.build.sample import key_of
from fvpipe.cache import decoder_crashes
from fvpipe.cache.decoder_crashes import cached_crash, decoders, encode_crash
from fvpipe.config.loading import parse
from fvpipe.config.pipeline import Pipeline, load_pipeline
from fvpipe.dicom.decoding import jpeg2000
from fvpipe.dicom.decoding.codestream import bare_codestream
from fvpipe.dicom.decoding.decoders import REDUCIBLE, decoder_identity, lossy_decoder, reduced_decoder
from fvpipe.dicom.decoding.jpeg2000 import decode_reduced, identity, levels
from fvpipe.dicom.decoding.pixels import decode_image
from fvpipe.dicom.elements import RejectedFile
from fvpipe.imaging.canvas import crop_levels, frame_level
from fvpipe.imaging.decoded_image import DecodedImage
from fvpipe.imaging.fusion import fuse
from fvpipe.imaging.pixel_digest import pixel_digest
from fvpipe.imaging.segmentation.segment import Segmentation, segment
from fvpipe.indexing.files.scan import scan_folder
from fvpipe.project.stages import open_file_cache
from fvpipe.project.standalone import standalone_source
from fvpipe.reasons import Flag, Reason, Rejection
from fvpipe.types import CropBox, Edge, Laterality
from tests.conftest import build, run
from tests.support import factory, oracle
from tests.support.builds import tree
from tests.support.decoding import decode
from tests.support.factory import CC, LEFT, MLO, RIGHT, breast, dataset, encode, file_bytes, table

J2K = JPEG2000Lossless
_, ANTIALIASED = load_pipeline("antialiased")
WHOLE = ANTIALIASED.model_copy(update={"resize": ANTIALIASED.resize.model_copy(update={"method": "area"})})
HALF_STEP = 0.5 / 65535


def ramp(shape: tuple[int, int], bits: int) -> NDArray[Any]:
    """Brighter from pixel to pixel, downwards and to the right, by whole steps."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return (rows * 2 + columns + 20 if bits > 8 else (rows + columns) // 8).astype("u1" if bits <= 8 else "u2")


def in_file(pixels: NDArray[Any], bits: int, syntax: str = J2K, frame: bytes | None = None, **tags: Any) -> bytes:
    return file_bytes(dataset(pixels, bits, **tags), pixels if frame is None else frame, syntax)


def reduced(pixels: NDArray[Any], bits: int, level: int, side: Laterality = LEFT, **tags: Any) -> DecodedImage:
    return decode(in_file(pixels, bits, **tags), side, level=level)


# --- the decoder ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(437, 350), (436, 349), (435, 351), (434, 352), (64, 65)])
@pytest.mark.parametrize("bits", [6, 8, 10, 12, 14, 16])
def test_every_size_and_depth(shape: tuple[int, int], bits: int) -> None:
    """A smooth image halved is every second of its pixels, whatever its size: those that Pillow alone would reject too."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    top = (1 << bits) - 1
    pixels = np.rint((0.5 + 0.4 * np.sin(rows / 60) * np.cos(columns / 50)) * top).astype("u1" if bits <= 8 else "u2")
    frame = bytes(imagecodecs.jpeg2k_encode(pixels, level=0, codecformat="j2k", reversible=True, bitspersample=bits))
    for level in (1, 2, 3):
        small = decode_reduced(frame, level, shape, bits)
        assert small.dtype == pixels.dtype
        every = pixels[:: 1 << level, :: 1 << level]
        assert small.shape == every.shape
        inner = (slice(2, -2), slice(2, -2))
        assert abs(small.astype(int) - every)[inner].max() <= max(2, 0.015 * top)


@pytest.mark.parametrize("syntax", sorted(REDUCIBLE))
def test_every_syntax_with_smaller_resolutions(syntax: str) -> None:
    pixels, bits = breast(4, CC, LEFT, (437, 350), bits=16).pixels, 16  # which the encoder of HTJ2K writes for every depth
    whole, small = (decode(in_file(pixels, bits, syntax), LEFT, level=level) for level in (0, 2))
    assert (whole.scale, small.scale) == (1, 4)
    assert small.shape == (110, 88)
    assert small.source_shape == whole.source_shape == whole.shape == pixels.shape
    assert abs(float(small.stored.mean()) - float(pixels.mean())) < 80
    assert reduced_decoder(syntax) == identity()


def test_other_syntaxes_are_decoded_whole() -> None:
    pixels = breast(4, CC, LEFT, (200, 160)).pixels
    for syntax in (ExplicitVRLittleEndian, RLELossless, JPEGLosslessSV1, JPEGLSLossless):
        image = decode(in_file(pixels, 12, syntax), LEFT, level=2)
        np.testing.assert_array_equal(image.stored, pixels)
        assert reduced_decoder(syntax) == ""


def test_a_codestream_is_halved_no_oftener_than_it_holds() -> None:
    pixels = breast(4, CC, LEFT, (437, 350)).pixels
    for resolutions in (1, 2, 3, 6):  # an image and its halves
        options: dict[str, Any] = {"codecformat": "j2k", "reversible": True, "bitspersample": 12}
        frame = bytes(imagecodecs.jpeg2k_encode(pixels, level=0, resolutions=resolutions, **options))
        assert levels(frame) == resolutions - 1
        image = decode(in_file(pixels, 12, frame=frame), LEFT, level=4)
        assert image.scale == 1 << min(resolutions - 1, 4)


def test_levels_of_a_header_that_says_more() -> None:
    """An offset, a subsampling or a sign moves or changes the smaller image's pixels; damage says nothing."""
    frame = encode(ramp((64, 64), 12), 12, J2K)
    assert levels(frame) == 3
    for at, value in ((16, b"\0\0\0\1"), (20, b"\0\0\0\1"), (32, b"\0\0\0\1"), (42, b"\x8b"), (43, b"\2"), (44, b"\2")):
        assert levels(frame[:at] + value + frame[at + len(value) :]) == 0
    cod = frame.find(b"\xff\x52")
    coc = b"\xff\x53" + struct.pack(">HBBBBBBB", 9, 0, 0, 2, 4, 4, 0, 1)
    assert levels(frame[:cod] + coc + frame[cod:]) == 2
    for damaged in (b"", frame[:40], frame[: cod + 5], frame[:cod] + b"\0" * 40):
        assert levels(damaged) == 0


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_levels_of_anything(data: st.DataObject) -> None:
    frame = bytearray(encode(ramp((40, 40), 12), 12, J2K)[:120])
    for _ in range(data.draw(st.integers(0, 6))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    assert 0 <= levels(bytes(frame[: data.draw(st.integers(0, len(frame)))])) <= 255


def reason(data: bytes, level: int) -> Reason | int:
    try:
        return decode(data, LEFT, level=level).scale
    except RejectedFile as rejected:
        return rejected.reason


def test_what_is_broken_is_refused_as_when_decoded_whole() -> None:
    pixels = breast(4, CC, LEFT, (437, 350)).pixels
    frame, end = encode(pixels, 12, J2K), b"\xff\xd9"
    half = len(frame) // 2
    start = frame.find(b"\xff\x93") + 2
    broken = {
        "no end marker": (frame[:-2], Reason.PIXELS_TRUNCATED),
        "cut": (frame[:half], Reason.PIXELS_TRUNCATED),
        "cut, with an end marker": (frame[:half] + end, Reason.DECODE_FAILED),
        "cut in the smaller image": (frame[: start + 300] + end, Reason.DECODE_FAILED),
        "another size": (encode(pixels[:-1], 12, J2K), Reason.PIXELS_MISMATCH),
        "no codestream": (b"\0" * 100, Reason.DECODE_FAILED),
        "a header alone": (frame[:start] + end, Reason.DECODE_FAILED),
    }
    for name, (damaged, expected) in broken.items():
        data = in_file(pixels, 12, frame=damaged)
        assert reason(data, 0) == reason(data, 2) == expected, name


def test_a_damaged_block_is_refused_as_when_decoded_whole() -> None:
    """HTJ2K tells of a damaged block where JPEG 2000 makes one up."""
    pixels = breast(4, CC, LEFT, (437, 350)).pixels
    frame = bytearray(bare_codestream(encode(pixels, 12, HTJ2KLossless)))
    start = frame.find(b"\xff\x93") + 2
    found = set()
    for at in range(start + 20, start + 2000, 60):
        damaged = bytearray(frame)
        damaged[at : at + 30] = b"\x5a" * 30
        data = in_file(pixels, 12, HTJ2KLossless, bytes(damaged))
        whole, small = reason(data, 0), reason(data, 2)
        # What is damaged beyond the smaller image is not seen by it; what it sees is rejected as by the whole one.
        assert small in (whole, 4)
        found.add(small)
    assert Reason.DECODE_FAILED in found


def test_pillow_does_not_judge_the_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """fvpipe's own limit was asked before; Pillow's would warn from 90 megapixels and reject from 180."""
    from PIL import Image

    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    pixels = breast(4, CC, LEFT, (437, 350)).pixels
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert reduced(pixels, 12, 2).scale == 4


# --- what is decoded whole, because a mean of stored values would mean something else ---------------------------------

UNLIKE: dict[str, dict[str, Any]] = {
    "Modality LUT": {"ModalityLUTSequence": table([i * i // 4096 for i in range(4096)])},
    "padding brighter than all": {"PixelPaddingValue": 4095},
    "padding in the middle": {"PixelPaddingValue": 300},
    "padding at the bright end of an inverted image": {"PhotometricInterpretation": "MONOCHROME1", "PixelPaddingValue": 0},
}


@pytest.mark.parametrize("tags", UNLIKE.values(), ids=UNLIKE)
def test_decoded_whole(tags: dict[str, Any]) -> None:
    pixels = breast(4, CC, LEFT, (437, 350)).pixels
    image = reduced(pixels, 12, 2, **tags)
    assert image.scale == 1
    np.testing.assert_array_equal(image.stored, pixels)


@pytest.mark.parametrize(
    "tags",
    [
        {"PixelPaddingValue": 0},
        {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 40},
        {"PhotometricInterpretation": "MONOCHROME1", "PixelPaddingValue": 4095},
        {"RescaleSlope": "0.1", "RescaleIntercept": "-1000"},
        {"RescaleSlope": "-2", "RescaleIntercept": "9000", "PixelPaddingValue": 4095},
    ],
    ids=str,
)
def test_decoded_in_part(tags: dict[str, Any]) -> None:
    assert reduced(breast(4, CC, LEFT, (437, 350)).pixels, 12, 2, **tags).scale == 4


def test_windows_and_signs_are_decoded_whole() -> None:
    pixels = breast(4, CC, LEFT, (437, 350)).pixels
    data = in_file(pixels, 12, WindowCenter=500, WindowWidth=300)
    assert decode(data, LEFT, "window", level=2).scale == 1
    assert decode(data, LEFT, "none", level=2).scale == 4
    signed = (pixels.astype(np.int16) - 2048).astype(np.int16)
    assert reduced(signed, 12, 2).scale == 1


def test_bits_above_the_stored_ones_are_not_averaged() -> None:
    """12 bits stored in a codestream of 16: only the whole image shows whether its values fit."""
    pixels = breast(4, CC, LEFT, (437, 350)).pixels
    plain = bytes(imagecodecs.jpeg2k_encode(pixels, level=0, codecformat="j2k", reversible=True, bitspersample=16))
    image = decode(in_file(pixels, 12, frame=plain), LEFT, level=2)
    assert image.scale == 1
    np.testing.assert_array_equal(image.stored, pixels)
    pixels[200, 100] |= 1 << 12  # which is none in the smaller image
    frame = bytes(imagecodecs.jpeg2k_encode(pixels, level=0, codecformat="j2k", reversible=True, bitspersample=16))
    assert reason(in_file(pixels, 12, frame=frame), 0) == reason(in_file(pixels, 12, frame=frame), 2) == Reason.PIXELS_MISMATCH


def test_an_overlay_of_one_line_is_not_averaged() -> None:
    """A line of one pixel in the lowest free bit shows in no value of the smaller image: the header tells of it."""
    pixels = breast(4, CC, LEFT, (437, 350)).pixels
    marked = pixels.copy()
    marked[200] |= 1 << 12
    frame = bytes(imagecodecs.jpeg2k_encode(marked, level=0, codecformat="j2k", reversible=True, bitspersample=16))
    header = dataset(pixels, 12)
    header.add_new(0x60000100, "US", 16)
    header.add_new(0x60000102, "US", 12)
    image = decode(file_bytes(header, frame, J2K), LEFT, level=2)
    assert image.scale == 1
    np.testing.assert_array_equal(image.stored, pixels)


@pytest.mark.parametrize(
    ("air", "side"),
    [
        (0, LEFT),
        (1000, RIGHT),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in ((0, RIGHT), (300, LEFT), (300, RIGHT), (1000, LEFT))),
    ],
)
def test_pixels_that_are_partly_padding_are_padding(air: int, side: Laterality) -> None:
    """Or the lowest real value would be nearly that of padding, and air beside it would be taken for the breast."""
    pixels = breast(4, CC, side, (1633, 1281)).pixels // 2 + np.uint16(air)
    pixels[:, slice(801, None) if side is LEFT else slice(480)] = 0
    pixels[:120] = 0
    images = [reduced(pixels, 12, level, side, PixelPaddingValue=0) for level in (0, 1, 2)]
    assert [image.scale for image in images] == [1, 2, 4]
    whole, *others = (segment(image, ANTIALIASED.segment).tight_box.as_tuple() for image in images)
    for box in others:
        assert np.abs(np.subtract(box, whole)).max() <= 16
    minmax = ANTIALIASED.model_copy(update={"intensity": ANTIALIASED.intensity.model_copy(update={"method": "minmax"})})
    ranges = []
    for image in images:
        found = segment(image, minmax.segment)
        ranges.append(fuse((image, image), (found, found), minmax).intensity_range)
    low, high = ranges[0]
    for range_ in ranges[1:]:
        assert np.abs(range_ - ranges[0]).max() < 0.2 * (high - low)


# --- digests ----------------------------------------------------------------------------------------------------------


def test_a_reduced_image_is_never_taken_for_a_whole_one() -> None:
    pixels = breast(4, CC, LEFT, (437, 350)).pixels
    small = reduced(pixels, 12, 2)
    alike = decode(in_file(small.stored, 12), LEFT)  # a whole image of exactly these pixels
    np.testing.assert_array_equal(alike.stored, small.stored)
    digests = {pixel_digest(small.stored, scale) for scale in (1, 2, 4, 8)}
    assert len(digests) == 4
    assert alike.pixel_digest != small.pixel_digest
    assert small.pixel_digest in digests
    again = decode(in_file(pixels, 12, PatientID="P2"), LEFT, level=2)
    assert again.pixel_digest == small.pixel_digest  # duplicates are found among images that were made in the same way


# --- places -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_boxes_in_source_pixels(scale: int) -> None:
    """The edge of a stored pixel lies half of it before the source pixel at which it stands."""
    image = replace(
        reduced(ramp((64, 64), 12), 12, 0),
        stored=np.zeros((10, 12), np.uint16),
        scale=scale,
        source_shape=(10 * scale - 1, 12 * scale),
    )
    assert image.to_source_box(CropBox(0, 10, 0, 12)) == CropBox(0, 10 * scale - 1, 0, 12 * scale)
    box = image.to_source_box(CropBox(3, 7, 2, 11))
    assert [box.top, box.bottom, box.left, box.right] == [
        np.ceil(scale * (3 - 0.5) + 0.5), np.floor(scale * (7 - 0.5) + 0.5),
        np.ceil(scale * (2 - 0.5) + 0.5), np.floor(scale * (11 - 0.5) + 0.5),
    ]  # fmt: skip


def found(box: CropBox) -> Segmentation:
    return Segmentation(box, box, None, 1, float("nan"), "otsu_log", {})


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("chest_wall", list(Edge))
@settings(max_examples=15, deadline=None, phases=(Phase.explicit, Phase.generate, Phase.shrink))
@given(data=st.data())
def test_drawn_as_on_a_lattice_of_half_pixels(scale: int, chest_wall: Edge, data: st.DataObject) -> None:
    """Any box of a reduced image against the slow way: cut and averaged where each stored pixel's edges are."""
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    views, images, boxes = [], [], []
    for _ in range(2):
        shape = data.draw(st.integers(80, 120)), data.draw(st.integers(80, 110))
        stored = rng.integers(0, 1000, tuple(-(-n // scale) for n in shape)).astype(np.uint16)
        image = DecodedImage(
            stored, np.arange(1000) / 999, None, 1, chest_wall, fvpipe.types.Digest(""), fvpipe.types.Digest(""), shape, scale
        )  # fmt: skip
        top, left = data.draw(st.integers(0, shape[0] - 70)), data.draw(st.integers(0, shape[1] - 70))
        box = CropBox(top, data.draw(st.integers(top + 68, shape[0])), left, data.draw(st.integers(left + 68, shape[1])))
        lattice = oracle.spread_out(stored, scale, shape)[2 * box.top : 2 * box.bottom, 2 * box.left : 2 * box.right]
        views.append(lattice[:, ::-1] if chest_wall is Edge.RIGHT else lattice)
        images.append(image)
        boxes.append(found(box))
    settings_ = {"fuse": {"canonical_side": "left"}, "resize": {"method": "wavelet"}, "size": [16, 17], "dtype": "float32"}
    made = fuse((images[0], images[1]), (boxes[0], boxes[1]), parse(Pipeline, settings_, "test"))
    low, high = made.intensity_range.astype(float) * 999  # all of what covers the box in part counts
    rows = max(v.shape[0] for v in views)
    canvas = [np.pad((v - low) / (high - low), ((0, rows - v.shape[0]), (0, 0))) for v in views]
    expected = oracle.area(np.concatenate(canvas, axis=1), (16, 17))
    np.testing.assert_allclose(made.image, expected, atol=HALF_STEP, rtol=0)
    assert made.boxes.tolist() == [list(b.box.as_tuple()) for b in boxes]
    assert made.source_shape.tolist() == [list(p.source_shape) for p in images]


@pytest.mark.parametrize("level", [1, 2, 3])
def test_nothing_moves_by_a_fraction_of_a_pixel(level: int) -> None:
    """A ramp halved is a ramp: its means are those of the whole one, unless pixels stand elsewhere than they should."""
    pixels = ramp((640, 513), 12)
    pipeline = parse(
        Pipeline, {"resize": {"method": "wavelet"}, "size": [32, 30], "fuse": {"layout": "cc"}, "dtype": "float32"}, "test"
    )
    images = []
    for source in (reduced(pixels, 12, 0), reduced(pixels, 12, level)):
        fixed = replace(source, values=np.clip(source.values / 4095, 0.1, 0.3))  # one range for both
        box = found(CropBox(100, 601, 51, 480))
        low, high = fuse((fixed, fixed), (box, box), pipeline).intensity_range
        image = fuse((fixed, fixed), (box, box), pipeline).image
        images.append(image * (high - low) + low)
    off = float((images[1] - images[0])[4:-4, 4:-4].mean()) * 4095 / 3  # in source pixels along the ramp
    assert abs(off) < 0.1, off


# --- against decoding whole -------------------------------------------------------------------------------------------


def pair(shape: tuple[int, int], bits: int, side: Laterality, **tags: Any) -> list[bytes]:
    """CC and MLO with detector noise, as JPEG 2000."""
    files = []
    for view in (CC, MLO):
        pixels = breast(3, view, side, shape, bits, noise=0.008).pixels
        if tags.get("PhotometricInterpretation") == "MONOCHROME1":
            pixels = ((1 << bits) - 1 - pixels).astype(pixels.dtype)
        files.append(in_file(pixels, bits, ImageLaterality=side.value, view=view, **tags))
    return files


CASES: list[Any] = [
    ((1633, 1281), 12, LEFT, 1, {"PixelPaddingValue": 0}),
    pytest.param((1634, 1279), 8, RIGHT, 1, {}, marks=pytest.mark.slow),
    pytest.param((1635, 1283), 16, RIGHT, 1, {}, marks=pytest.mark.slow),
    ((1637, 1282), 12, RIGHT, 1, {"PhotometricInterpretation": "MONOCHROME1", "PixelPaddingValue": 4095}),
    ((3518, 2800), 12, LEFT, 2, {"PixelPaddingValue": 0}),
]


@pytest.mark.parametrize(("shape", "bits", "side", "level", "tags"), CASES, ids=str)
def test_nearly_the_same_as_decoded_whole(
    shape: tuple[int, int], bits: int, side: Laterality, level: int, tags: dict[str, Any]
) -> None:
    files = pair(shape, bits, side, **tags)
    assert frame_level(shape, ANTIALIASED) == level
    assert frame_level(shape, WHOLE) == 0
    images, boxes, areas = [], [], []
    for n in (0, level):
        cc, mlo = (decode(data, side, level=n) for data in files)
        assert cc.scale == mlo.scale == 1 << n
        segmented = segment(cc, ANTIALIASED.segment), segment(mlo, ANTIALIASED.segment)
        made = fuse((cc, mlo), segmented, ANTIALIASED)
        images.append(made.image / 65535)
        boxes.append(made.boxes)
        areas.append(made.breast_area)
        assert made.source_shape.tolist() == [list(shape)] * 2
        assert (made.placement[:, 2] < made.placement[:, 3]).tolist() == [side is LEFT] * 2
    assert ssim(images[0], images[1]) >= 0.99
    assert np.abs(images[0] - images[1]).mean() < 0.015
    assert abs(boxes[0] - boxes[1]).max() <= (1 << level) + 6
    np.testing.assert_allclose(areas[1], areas[0], rtol=0.03)


def test_a_finding_is_where_it_was(tmp_path: Path) -> None:
    """A box in source pixels, drawn into both images by their placements, is the same one."""
    files = pair((1633, 1281), 12, LEFT)
    ends = []
    for level in (0, 1):
        cc, mlo = (decode(data, LEFT, level=level) for data in files)
        made = fuse((cc, mlo), (segment(cc, ANTIALIASED.segment), segment(mlo, ANTIALIASED.segment)), ANTIALIASED)
        for (top, bottom, left, right), (first, last, start, stop) in zip(made.boxes, made.placement, strict=True):
            ends.append(
                [first + (700 - top) / (bottom - top) * (last - first), start + (300 - left) / (right - left) * (stop - start)]
            )
    np.testing.assert_allclose(ends[2:], ends[:2], atol=1.0)


# --- builds -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two patients whose left CC is the same image, as JPEG 2000 large enough to be halved."""
    folder = tmp_path_factory.mktemp("cohort")
    for i, patient in enumerate(("A", "B")):
        for view in (CC, MLO):
            made = breast(7 if view is CC else i, view, LEFT, (1601, 1283), 12)
            uid = f"2.25.{i + 1}{1 if view is CC else 2}"
            factory.mammogram(
                folder / f"{patient}_{view}.dcm", made, J2K, PatientID=patient, view=view, SOPInstanceUID=uid
            )  # fmt: skip
    return folder


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FVPIPE_ID_KEY", "an identifier key of the tests")


@pytest.mark.slow  # tests/test_flow.py has another pipeline
def test_same_bytes_for_any_workers(cohort: Path, tmp_path: Path) -> None:
    build(cohort, tmp_path / "0", pipeline="antialiased")
    build(cohort, tmp_path / "2", pipeline="antialiased", workers=2)
    assert tree(tmp_path / "0") == tree(tmp_path / "2")
    shards = fvpipe.open_shards(tmp_path / "0")
    assert len(shards) == 2
    assert shards.columns["source_shape"].tolist() == [[[1601, 1283]] * 2] * 2
    assert all(Flag.SHARED_PIXELS in Flag(int(flags)) for flags in shards.columns["flags"])


def test_pipelines_do_not_exchange_digests(cohort: Path, tmp_path: Path) -> None:
    """One memory of the files, two ways of decoding: a remembered digest is never the other's."""
    source = standalone_source("test", cohort, "table")
    whole = {decode(file.read_bytes(), LEFT).pixel_digest for file in cohort.rglob("*.dcm")}
    digests: dict[str, set[str]] = {}
    for name in ("antialiased", "cropped", "antialiased", "cropped"):
        build(cohort, tmp_path / name, "--samples", tmp_path / "samples", pipeline=name)
        written = {d.decode() for row in fvpipe.open_shards(tmp_path / name).columns["pixel_digest"] for d in row}
        assert digests.setdefault(name, written) == written
        with open_file_cache(source, tmp_path / "samples") as file_cache:
            assert {file_cache.value(file, "pixels") for file in scan_folder(cohort).files.values()} <= {
                None,
                *whole,
            }
    assert digests["cropped"] == whole
    assert not digests["antialiased"] & whole


def test_a_small_crop_is_decoded_again_and_finer(cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = tasks(cohort, "table", "antialiased", tmp_path)[0]
    asked = []

    def read(*arguments: Any, **named: Any) -> DecodedImage:
        image = decode_image(*arguments, **named)
        asked.append(image.scale)
        return image

    monkeypatch.setattr(fvpipe.build.sample, "decode_image", read)
    usual = sample(task, ANTIALIASED)
    assert asked == [2, 2]
    monkeypatch.setattr(fvpipe.imaging.canvas, "CROP_OVERSAMPLING", 50.0)
    finer = sample(task, ANTIALIASED)
    assert asked[2:] == [2, 2, 1, 1]
    assert finer.pixel_digests == usual.pixel_digests
    assert finer.boxes.tolist() == usual.boxes.tolist()
    assert finer.image.tobytes() != usual.image.tobytes()


def test_what_one_decoder_died_of_is_not_held_against_another(cohort: Path, tmp_path: Path) -> None:
    image = tasks(cohort, "table", "antialiased", tmp_path)[0].images[0]
    crash = Rejection(image.path, Reason.DECODER_CRASHED, "its process ended")
    for pipeline, other in ((ANTIALIASED, WHOLE), (WHOLE, ANTIALIASED)):
        assert cached_crash(image, pipeline, encode_crash(image, pipeline, crash)) == crash
        assert cached_crash(image, other, encode_crash(image, pipeline, crash)) is None
        assert cached_crash(image, pipeline, None) is None


def test_crashes_found_by_another_version_are_not_believed(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first blamed files for workers that never began, or were killed."""
    image = tasks(cohort, "table", "antialiased", tmp_path)[0].images[0]
    first = json.dumps([decoders(image, WHOLE, decoder_identity), Reason.DECODER_CRASHED, "its process ended with SIGKILL"])
    assert cached_crash(image, WHOLE, first) is None
    value = encode_crash(image, WHOLE, Rejection(image.path, Reason.DECODER_CRASHED, "its process ended with SIGABRT"))
    monkeypatch.setattr(decoder_crashes, "CRASH_VERSION", decoder_crashes.CRASH_VERSION + 1)
    assert cached_crash(image, WHOLE, value) is None


def test_the_decoder_belongs_to_the_key(cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = tasks(cohort, "table", "antialiased", tmp_path)[0]
    digests = tuple(image.path for image in task.images)
    before, whole = key_of(task, digests), key_of(replace(task, pipeline=WHOLE), digests)  # type: ignore[arg-type]
    assert before != whole  # though of one pipeline digest
    monkeypatch.setattr(jpeg2000, "identity", lambda: "another one")
    assert key_of(task, digests) != before  # type: ignore[arg-type]
    assert key_of(replace(task, pipeline=WHOLE), digests) == whole  # type: ignore[arg-type]
    assert lossy_decoder(J2K) == ""


def test_levels_of_frames_and_crops() -> None:
    assert frame_level((3518, 2800), ANTIALIASED) == 2
    assert frame_level((4736, 2624), ANTIALIASED) == 2  # 3 would do for the image, and not to find the breast on
    assert frame_level((2294, 1914), ANTIALIASED) == 1
    assert frame_level((1200, 900), ANTIALIASED) == 0
    larger = ANTIALIASED.model_copy(update={"size": (1024, 1024)})
    assert frame_level((3518, 2800), larger) == 0
    assert frame_level((16384, 9000), larger) == 3
    boxes = found(CropBox(0, 2000, 0, 1100)), found(CropBox(0, 2600, 0, 1000))
    assert crop_levels(boxes, ANTIALIASED) == (2, 2)
    assert crop_levels((boxes[0], found(CropBox(0, 1200, 0, 100))), ANTIALIASED) == (1, 1)
    alone = parse(Pipeline, {"resize": {"method": "wavelet"}, "fuse": {"layout": "mlo"}}, "test")
    assert crop_levels(boxes, alone)[1] == 1
    assert frame_level((3518, 2800), alone) == 2
    assert crop_levels(boxes, WHOLE) == (0, 0)


@pytest.mark.usefixtures("inspects_here")
def test_inspect_shows_what_the_pipeline_sees(cohort: Path, tmp_path: Path) -> None:
    png = tmp_path / "a.png"
    said = run("inspect", cohort / "A_CC.dcm", "--pipeline", "antialiased", "--png", png).stdout
    assert "1601" in said and "1283" in said
    assert "2 x 2" in said
    assert png.stat().st_size > 10_000
    box = run("inspect", cohort / "A_CC.dcm", "--pipeline", "cropped", "--json").stdout
    assert "decoded at" not in box
