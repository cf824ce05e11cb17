"""Where the breast is: scored against the truth of simulated images, and against boxes drawn on real films by hand."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless

import fvpipe
from fvpipe.config.pipeline import Segment
from fvpipe.datasets.registry import get_adapter
from fvpipe.dicom.decoding.pixels import decode_image
from fvpipe.dicom.header import read_header
from fvpipe.dicom.image_header import ImageHeader
from fvpipe.imaging.decoded_image import DecodedImage
from fvpipe.imaging.segmentation.segment import Segmentation, full_mask, segment, trace_segmentation
from fvpipe.imaging.segmentation.threshold import otsu_threshold, triangle_threshold
from fvpipe.imaging.segmentation.thumbnail import column_means
from fvpipe.reasons import CropVerdict, Flag
from fvpipe.types import CropBox, Edge, Laterality, View
from tests.conftest import build, read_truth
from tests.support.decoding import decode
from tests.support.factory import CC, LEFT, MLO, RIGHT, Made, breast, dataset, file_bytes, write
from tests.support.films import BY_HAND
from tests.support.variations import score, variation, varied

LOG = Segment(method="otsu_log")


def image(made: Made, syntax: str = ExplicitVRLittleEndian, side: str = "L", **tags: object) -> DecodedImage:
    """What the reader makes of a drawn view."""
    data = file_bytes(dataset(made.pixels, made.bits, ImageLaterality=side, **tags), made.pixels, syntax)
    return decode(data, LEFT if side == "L" else RIGHT)


def iou(a: CropBox, b: CropBox) -> float:
    """Intersection over union."""
    height = min(a.bottom, b.bottom) - max(a.top, b.top)
    width = min(a.right, b.right) - max(a.left, b.left)
    both = max(height, 0) * max(width, 0)
    return both / (a.height * a.width + b.height * b.width - both)


def dice(found: Segmentation, made: Made) -> float:
    """Overlap of the outline with the true one."""
    mask = full_mask(found, *made.pixels.shape) > 0
    return float(2 * (mask & made.drawing.mask).sum() / (mask.sum() + made.drawing.mask.sum()))


@pytest.mark.parametrize("form", ["vindr", "cmmd"])
def test_box_of_every_phantom(form: str, phantoms: dict[str, Path]) -> None:
    root = phantoms[form]
    for truth in read_truth(root):
        header = read_header(root, truth.path, get_adapter(form).policy)
        assert isinstance(header, ImageHeader)
        found = segment(decode_image((root / truth.path).read_bytes(), header), LOG)
        assert iou(found.tight_box, truth.box) >= 0.97, (truth.path, found)
        assert found.method == "otsu_log"
        assert found.box.top <= found.tight_box.top
        assert found.box.right >= found.tight_box.right


FULL_SIZE = [
    pytest.param(ExplicitVRLittleEndian, 12, (3518, 2800), CC, "L", marks=pytest.mark.slow),
    pytest.param(RLELossless, 14, (3580, 2638), MLO, "L", marks=pytest.mark.slow),
    (JPEGLosslessSV1, 16, (2812, 2012), MLO, "R"),
    (JPEG2000Lossless, 8, (2294, 1914), CC, "R"),
]


@pytest.mark.parametrize(("syntax", "bits", "shape", "view", "side"), FULL_SIZE)
def test_box_at_published_sizes(syntax: str, bits: int, shape: tuple[int, int], view: str, side: str) -> None:
    """At full size the thumbnail is smaller than the image: the box's edges are refined."""
    made = breast(3, CC if view == "CC" else MLO, LEFT if side == "L" else RIGHT, shape, bits, plate="L CC")
    found = segment(image(made, syntax, side), LOG)
    assert found.step > 1
    assert iou(found.tight_box, made.drawing.box) >= 0.99
    assert dice(found, made) >= 0.98


VARIATIONS = {
    "plain": {},
    "label plate": {"plate": "L CC"},
    "noise": {"noise": 0.01},
    "pedestal": {"pedestal": 0.05, "noise": 0.004},
    "16 bits, few levels": {"used": 0.02},
    "full range": {"used": 1.0},
}


@pytest.mark.parametrize("pixels", VARIATIONS.values(), ids=VARIATIONS.keys())
@pytest.mark.parametrize("view", [CC, MLO])
def test_variations(pixels: dict[str, Any], view: str) -> None:
    scores = []
    for seed in range(6):
        made = breast(seed, CC if view == "CC" else MLO, LEFT, (512, 410), 16, **pixels)
        found = segment(image(made), LOG)
        assert Flag.CC_CROP_FALLBACK not in found.flags, (seed, found.gates)
        scores.append((iou(found.tight_box, made.drawing.box), dice(found, made)))
    boxes, outlines = np.array(scores).T
    assert boxes.min() >= 0.95
    assert outlines.mean() >= 0.98


@pytest.mark.parametrize("method", ["otsu_log", "triangle", "otsu_linear"])
def test_reference_engine_agrees(method: str) -> None:
    """SimpleITK's filters, in the same chain, find the same box."""
    for seed in range(4):
        shown = image(breast(seed, MLO if seed % 2 else CC, shape=(512, 410)))
        fast, reference = (segment(shown, Segment(method=method, engine=engine)) for engine in ("opencv", "simpleitk"))  # type: ignore[arg-type]
        assert fast.method == reference.method
        assert iou(fast.tight_box, reference.tight_box) >= 0.98


def test_agreement_believes_only_both() -> None:
    made = breast(1, shape=(512, 410))
    assert segment(image(made), Segment(method="agreement")).method == "otsu_log"
    # A very dim plateau around a bright one: Otsu on logarithms draws its line below both, the triangle between the two.
    y, x = np.ogrid[-200:200, :300]
    dim, bright = (y / 140) ** 2 + (x / 200) ** 2 < 1, (y / 80) ** 2 + (x / 120) ** 2 < 1
    plateaus = (40 * dim + 3960 * bright).astype(np.uint16)
    shown = image(Made(plateaus, made.drawing, 12))
    boxes = [segment(shown, Segment(method=method)).tight_box for method in ("otsu_log", "triangle")]  # type: ignore[arg-type]
    assert iou(*boxes) < 0.5
    found = segment(shown, Segment(method="agreement"))
    assert (found.method, found.flags) == ("whole_frame", Flag.CC_CROP_FALLBACK)


METAMORPHIC = [
    (ExplicitVRLittleEndian, CC, {}),
    (RLELossless, MLO, {"noise": 0.004, "pedestal": 0.05}),
    (JPEGLSLossless, MLO, {"plate": "L MLO"}),
]


@pytest.mark.parametrize(("syntax", "view", "how"), METAMORPHIC, ids=str)
def test_metamorphic_polarity_mirror_padding_depth(syntax: str, view: View, how: dict[str, Any]) -> None:
    """What must not matter: who is white, which side is left, how much is padded, how deep the bits are."""
    made = breast(2, view, LEFT, (1400, 1120), 12, **how)
    rows, columns = made.pixels.shape
    shown = image(made, syntax)
    plain = segment(shown, LOG)
    turned = image(
        Made((4095 - made.pixels).astype(np.uint16), made.drawing, 12), syntax, PhotometricInterpretation="MONOCHROME1"
    )
    assert segment(turned, LOG).box == plain.box
    mirrored = segment(image(Made(np.ascontiguousarray(made.pixels[:, ::-1]), made.drawing, 12), syntax, side="R"), LOG)
    found, box = mirrored.tight_box, plain.tight_box
    expected = (box.top, box.bottom, columns - box.right, columns - box.left)
    # The thumbnail leaves out the last columns that fill none of its pixels: those are on the other side now.
    assert np.abs(np.array(found.as_tuple()) - expected).max() <= (0 if columns % plain.step == 0 else plain.step)
    padded = np.pad(made.pixels, ((0, 0), (0, 200)), constant_values=4095)
    wide = image(Made(padded, made.drawing, 12), syntax, PixelPaddingValue=4095)
    found = segment(wide, LOG).tight_box
    assert np.abs(np.array(found.as_tuple()) - box.as_tuple()).max() <= 2 * plain.step
    inside = slice(box.top, box.bottom), slice(box.left, box.right)
    np.testing.assert_array_equal(wide.values[wide.stored[inside]], shown.values[shown.stored[inside]])
    shallow = image(Made((made.pixels >> 4).astype(np.uint8), made.drawing, 8), syntax)
    moved = np.abs(np.array(segment(shallow, LOG).tight_box.as_tuple()) - box.as_tuple())
    assert (moved <= 0.01 * np.array([rows, rows, columns, columns])).all()


@pytest.mark.fault(24)
@pytest.mark.parametrize("pipeline", ["direct", "cropped"])
def test_a_monochrome1_twin_has_the_same_sample_bytes(pipeline: str, tmp_path: Path) -> None:
    """From files to shards: every image, label, outline and flag."""
    images = {}
    for name in ("MONOCHROME2", "MONOCHROME1"):
        for view in (CC, MLO):
            made = breast(5, view, LEFT, (640, 500), 12)
            pixels = (4095 - made.pixels).astype(np.uint16) if name == "MONOCHROME1" else made.pixels
            tags = {"PhotometricInterpretation": name, "view": view, "SOPInstanceUID": f"2.25.{1 + (view is MLO)}"}
            write(tmp_path / name / f"{view}.dcm", file_bytes(dataset(pixels, 12, **tags), pixels))
        build(tmp_path / name, tmp_path / f"{name}-out", pipeline=pipeline)
        sample = fvpipe.open_shards(tmp_path / f"{name}-out")[0]
        images[name] = sample.image.tobytes()
    assert images["MONOCHROME1"] == images["MONOCHROME2"]


def test_margin_is_a_share_of_the_longer_side() -> None:
    shown = image(breast(0, shape=(640, 500)))
    tight = segment(shown, Segment(method="otsu_log", margin=0.0))
    wide = segment(shown, Segment(method="otsu_log", margin=0.1))
    assert tight.box == tight.tight_box == wide.tight_box
    longer = max(tight.box.height, tight.box.width)
    assert wide.box == tight.box.expanded(round(longer * 0.1), 640, 500)


@pytest.mark.parametrize(
    "pixels",
    [
        np.full((300, 240), 7, np.uint16),
        np.random.default_rng(0).integers(0, 4096, (300, 240), dtype=np.uint16),
        np.pad(np.full((20, 20), 3000, np.uint16), ((100, 180), (100, 120))),  # a specimen: no chest wall
        np.pad(np.full((300, 60), 3000, np.uint16), ((0, 0), (90, 90))),  # a bar
    ],
    ids=["constant", "noise", "specimen", "bar"],
)
def test_what_is_no_breast_stays_whole_and_flagged(pixels: np.ndarray) -> None:
    found = segment(image(Made(pixels, breast().drawing, 12)), LOG)
    assert found.method == "whole_frame"
    assert Flag.CC_CROP_FALLBACK in found.flags
    assert found.box == CropBox.whole(*pixels.shape)


def test_wrong_side_is_flagged() -> None:
    made = breast(0, CC, RIGHT, (512, 410))
    found = segment(image(made, side="L"), LOG)
    assert Flag.CHEST_WALL_CONFLICT in found.flags
    assert iou(found.tight_box, made.drawing.box) >= 0.97


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
@pytest.mark.parametrize("side", [LEFT, RIGHT])
def test_the_wrong_side_of_an_image_that_is_not_cropped_is_flagged(side: Laterality, photometric: str) -> None:
    """As in CMMD, where both side tags of some patients are exchanged."""
    made = breast(0, MLO, RIGHT, (512, 410))
    pixels = made.pixels if photometric == "MONOCHROME2" else (4095 - made.pixels).astype(np.uint16)
    data = file_bytes(dataset(pixels, 12, view=MLO, PhotometricInterpretation=photometric), pixels)
    found = segment(decode(data, side), Segment())
    assert found.flags == (Flag.CHEST_WALL_CONFLICT if side is LEFT else Flag(0))
    assert (found.method, found.verdict, found.box) == ("none", CropVerdict.GOOD, CropBox.whole(512, 410))


@pytest.mark.parametrize("side", [LEFT, RIGHT])
def test_a_negative_that_is_not_cropped_is_flagged(side: Laterality) -> None:
    """Inverted pixels whose header does not say so: the values are wrong in every pipeline."""
    made = breast(0, CC, side, (512, 410))
    pixels = (4095 - made.pixels).astype(np.uint16)
    found = segment(decode(file_bytes(dataset(pixels, 12), pixels), side), Segment())
    assert (found.method, found.verdict, found.flags) == ("none", CropVerdict.WHOLE_FRAME, Flag.CC_CROP_FALLBACK)


@pytest.mark.fault(25)
def test_padding_is_background() -> None:
    made = breast(0, CC, LEFT, (512, 410))
    padded = made.pixels.copy()
    padded[:, 380:] = 4095  # a padding value at the maximum
    plain = segment(image(made), LOG)
    assert segment(image(Made(padded, made.drawing, 12), PixelPaddingValue=4095), LOG).box == plain.box


def hardened(image: DecodedImage) -> dict[str, tuple[DecodedImage, int]]:
    """Real pixels made harder, each written as a file and read again, and the rows that it has above the film."""
    film = image.stored.astype(np.int64)
    if image.direction < 0:
        film = int(film.max()) - film
    side, left = (LEFT, True) if image.chest_wall is Edge.LEFT else (RIGHT, False)
    rows, columns = film.shape
    rng = np.random.default_rng(0)
    border, plate = film.copy(), film.copy()
    thick = rows // 100
    border[:thick], border[-thick:], border[:, :thick], border[:, -thick:] = 65535, 65535, 65535, 65535
    at = slice(int(0.88 * columns), int(0.97 * columns)) if left else slice(int(0.03 * columns), int(0.12 * columns))
    plate[int(0.85 * rows) : int(0.9 * rows), at] = 65535
    far = ((0, 0), (0, 300)) if left else ((0, 0), (300, 0))
    variants: dict[str, tuple[NDArray[np.int64], int, dict[str, object]]] = {
        "white borders": (border, 16, {}),
        "inverted": (65535 - film, 16, {"PhotometricInterpretation": "MONOCHROME1"}),
        "pedestal": (5000 + film * 60000 // 65535, 16, {}),
        "noise": (np.clip(film + rng.integers(-400, 401, film.shape), 0, 65535), 16, {}),
        "pedestal and noise": (np.clip(5000 + film * 60000 // 65535 + rng.integers(-400, 401, film.shape), 0, 65535), 16, {}),
        "label plate": (plate, 16, {}),
        "padded far from the chest wall": (np.pad(film, far, constant_values=65535), 16, {"PixelPaddingValue": 65535}),
        "padded above": (np.pad(film, ((200, 0), (0, 0))), 16, {}),
        "12 bits": (film >> 4, 12, {}),
        "8 bits": (film >> 8, 8, {}),
        "900 levels of 16 bits": (film * 900 // 65536, 16, {}),
    }
    made = {}
    for name, (pixels, bits, tags) in variants.items():
        stored = pixels.astype(np.uint8 if bits == 8 else np.uint16)
        data = file_bytes(dataset(stored, bits, ImageLaterality=side.value, **tags), stored)
        made[name] = decode(data, side), 200 if name == "padded above" else 0
    return made


def test_boxes_of_real_films_are_those_drawn_by_hand(cbis: Path) -> None:
    """Clean and hardened: no edge lies off the one drawn on the clean film by 2 % of its side."""
    for name, expected in BY_HAND.items():
        header = read_header(cbis, name, get_adapter("cbis").policy)
        assert isinstance(header, ImageHeader)
        clean, record = decode_image((cbis / name).read_bytes(), header), header.record
        allowed = 0.02 * np.array([record.rows, record.rows, record.columns, record.columns])
        for how, (shown, above) in {"clean": (clean, 0), **hardened(clean)}.items():
            found = segment(shown, LOG)
            beside = shown.shape[1] - record.columns if clean.chest_wall is Edge.RIGHT else 0
            moved = np.array(found.tight_box.as_tuple()) - (above, above, beside, beside) - expected
            assert (np.abs(moved) < allowed).all(), (name, how, moved.tolist(), found.gates)
            assert found.flags == Flag(0), (name, how)


def test_real_digital_mammograms() -> None:
    """GE's breast without the abdomen below it; a stereotactic biopsy, which shows no outline to trust."""
    folder = Path(__file__).parent / "data" / "mg"
    found = segment(decode((folder / "GH133.dcm").read_bytes(), RIGHT), LOG)
    assert iou(found.tight_box, CropBox(0, 2250, 1155, 2394)) >= 0.98  # by eye: the fold, and the nipple's side
    assert found.flags == Flag(0)
    found = segment(decode((folder / "OutOfBoundsOverlay.dcm").read_bytes(), LEFT), LOG)
    assert (found.method, found.flags) == ("whole_frame", Flag.CC_CROP_FALLBACK)


def test_made_breasts_under_hard_surroundings() -> None:
    """A short form of benchmarks/segmentation.py, which takes 1,200 of all sizes."""
    scores = [score(varied(variation(seed, longest=420))) for seed in range(60)]
    dices = np.array([s.dice for s in scores])
    assert dices.mean() >= 0.98, sorted(scores, key=lambda s: s.dice)[:3]
    assert np.percentile(dices, 1) >= 0.95, sorted(scores, key=lambda s: s.dice)[:3]
    assert not [s for s in scores if s.fallback or s.lost > 0.01]


@given(hnp.arrays(np.int64, 256, elements=st.one_of(st.just(0), st.integers(0, 300), st.integers(0, 1 << 24))))
def test_otsu_is_its_definition(counts: NDArray[np.int64]) -> None:
    """The smallest threshold of the largest variance between the classes, in exact fractions."""
    assume(np.count_nonzero(counts) > 1)
    numbers, total = counts.tolist(), int(counts.sum())
    best, largest = 0, Fraction(-1)
    for i in range(255):
        dark = sum(numbers[: i + 1])
        if 0 < dark < total:
            moment = sum(j * n for j, n in enumerate(numbers[: i + 1]))
            rest = sum(j * n for j, n in enumerate(numbers[i + 1 :], i + 1))
            variance = Fraction(dark * (total - dark)) * (Fraction(moment, dark) - Fraction(rest, total - dark)) ** 2
            if variance > largest:
                best, largest = i, variance
    assert otsu_threshold(counts) == best


def test_thresholds_on_known_histograms() -> None:
    counts = np.zeros(256, np.int64)
    counts[[10, 11, 200, 201]] = [50, 50, 40, 40]
    assert 11 <= otsu_threshold(counts) < 200
    slope = np.zeros(256, np.int64)
    slope[5] = 1000
    slope[6:100] = np.arange(94, 0, -1)
    assert 5 < triangle_threshold(slope) < 20


@pytest.mark.parametrize("shape", [(3518, 16), (512, 16), (16, 3518), (16384, 16), (20, 1000)])
@pytest.mark.parametrize("method", ["otsu_log", "triangle", "agreement"])
def test_an_image_without_interior_is_left_whole(shape: tuple[int, int], method: Any) -> None:
    pixels = np.arange(shape[0] * shape[1], dtype=np.uint16).reshape(shape) % 4000
    stripe = decode(file_bytes(dataset(pixels, 12), pixels, ExplicitVRLittleEndian), LEFT)
    found, trace = trace_segmentation(stripe, Segment(method=method))
    assert (found.method, found.box, found.flags) == ("whole_frame", CropBox.whole(*shape), Flag.CC_CROP_FALLBACK)
    assert trace is None


@pytest.mark.parametrize("shape", [(16, 130), (16, 512), (17, 33), (33, 16), (100, 17), (512, 18), (512, 24), (3518, 140)])
@pytest.mark.parametrize("method", ["otsu_log", "agreement"])
def test_a_small_interior_is_segmented_or_left_whole(shape: tuple[int, int], method: Any) -> None:
    """Uneven, with a margin beside the chest wall, or with a bright half."""
    x = np.broadcast_to(np.arange(shape[1]) / shape[1], shape)
    for values in (x, np.maximum(x - 0.2, 0), x < 0.5):
        pixels = (4000 * values).astype(np.uint16)
        found = segment(decode(file_bytes(dataset(pixels, 12), pixels), LEFT), Segment(method=method))
        assert found.box.height <= shape[0]
        assert found.box.width <= shape[1]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("step", range(1, 14))
def test_column_means_are_means(step: int, dtype: type) -> None:
    """Of rows that lie apart, too."""
    many = np.random.default_rng(step).integers(0, np.iinfo(dtype).max, (40, 9 * step), dtype, endpoint=True)[::3]
    exact = many.reshape(len(many), 9, step).astype(np.int64).sum(axis=2)
    found = column_means(many, step).astype(np.int64)
    assert (2 * np.abs(found * step - exact) <= step).all()
