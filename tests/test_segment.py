"""Where the breast is: scored against the truth of made images, and against boxes of real films that were looked at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fvpipe import dicom
from fvpipe.datasets import adapter
from fvpipe.params import Segment
from fvpipe.pixels import read_picture
from fvpipe.segment import full_mask, otsu_threshold, segment, triangle_threshold
from fvpipe.types import CropBox, Flag, Picture, Segmentation
from tests.conftest import read_truth
from tests.factory import CC, LEFT, MLO, RIGHT, Made, breast, dataset, file_bytes

LOG = Segment(method="otsu_log")


def picture(made: Made, syntax: str = dicom.EXPLICIT_LE, side: str = "L", **tags: object) -> Picture:
    """What the reader makes of a drawn view."""
    data = file_bytes(dataset(made.pixels, made.bits, ImageLaterality=side, **tags), made.pixels, syntax)
    return read_picture(data, LEFT if side == "L" else RIGHT)


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
        record = dicom.read_header(root, truth.path, adapter(form).policy)
        assert isinstance(record, dicom.ImageRecord)
        found = segment(read_picture((root / truth.path).read_bytes(), record.laterality), LOG)
        assert iou(found.tight_box, truth.box) >= 0.97, (truth.path, found)
        assert found.method == "otsu_log"
        assert found.box.top <= found.tight_box.top
        assert found.box.right >= found.tight_box.right


FULL_SIZE = [
    (dicom.EXPLICIT_LE, 12, (3518, 2800), CC, "L"),
    (dicom.RLE, 14, (3580, 2638), MLO, "L"),
    (dicom.JPEG_LOSSLESS_SV1, 16, (2812, 2012), MLO, "R"),
    (dicom.JPEG_2000_LOSSLESS, 8, (2294, 1914), CC, "R"),
]


@pytest.mark.parametrize(("syntax", "bits", "shape", "view", "side"), FULL_SIZE)
def test_box_at_published_sizes(syntax: str, bits: int, shape: tuple[int, int], view: str, side: str) -> None:
    """At full size the thumbnail is smaller than the picture: the box's edges are refined."""
    made = breast(3, CC if view == "CC" else MLO, LEFT if side == "L" else RIGHT, shape, bits, plate="L CC")
    found = segment(picture(made, syntax, side), LOG)
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
def test_variations(pixels: dict[str, object], view: str) -> None:
    scores = []
    for seed in range(6):
        made = breast(seed, CC if view == "CC" else MLO, LEFT, (512, 410), 16, **pixels)
        found = segment(picture(made), LOG)
        assert Flag.CC_CROP_FALLBACK not in found.flags, (seed, found.gates)
        scores.append((iou(found.tight_box, made.drawing.box), dice(found, made)))
    boxes, outlines = np.array(scores).T
    assert boxes.min() >= 0.95
    assert outlines.mean() >= 0.98


@pytest.mark.parametrize("method", ["otsu_log", "triangle", "otsu_linear"])
def test_reference_engine_agrees(method: str) -> None:
    """SimpleITK's filters, in the same chain, find the same box."""
    for seed in range(4):
        shown = picture(breast(seed, MLO if seed % 2 else CC, shape=(512, 410)))
        fast, reference = (segment(shown, Segment(method=method, engine=engine)) for engine in ("opencv", "simpleitk"))  # type: ignore[arg-type]
        assert fast.method == reference.method
        assert iou(fast.tight_box, reference.tight_box) >= 0.98


def test_agreement_believes_only_both() -> None:
    made = breast(1, shape=(512, 410))
    assert segment(picture(made), Segment(method="agreement")).method == "otsu_log"
    # A dim plateau around a bright one: Otsu draws its line between the two, the triangle below both.
    plateaus = np.zeros((400, 300), np.uint16)
    plateaus[60:340, :200] = 70
    plateaus[120:280, :120] = 4000
    shown = picture(Made(plateaus, made.drawing, 12))
    boxes = [segment(shown, Segment(method=method)).tight_box for method in ("otsu_log", "triangle")]  # type: ignore[arg-type]
    assert iou(*boxes) < 0.5
    found = segment(shown, Segment(method="agreement"))
    assert (found.method, found.flags) == ("whole_frame", Flag.CC_CROP_FALLBACK)


def test_metamorphic_polarity_and_mirror() -> None:
    made = breast(2, MLO, LEFT, (640, 500), 12)
    plain = segment(picture(made), LOG)
    twin = Made((4095 - made.pixels).astype(np.uint16), made.drawing, 12)
    assert segment(picture(twin, PhotometricInterpretation="MONOCHROME1"), LOG).box == plain.box
    mirrored = Made(np.ascontiguousarray(made.pixels[:, ::-1]), made.drawing, 12)
    found = segment(picture(mirrored, side="R"), LOG)
    width = made.pixels.shape[1]
    assert found.tight_box == CropBox(
        plain.tight_box.top, plain.tight_box.bottom, width - plain.tight_box.right, width - plain.tight_box.left
    )


def test_margin_is_a_share_of_the_longer_side() -> None:
    shown = picture(breast(0, shape=(640, 500)))
    tight = segment(shown, Segment(method="otsu_log", margin=0.0))
    wide = segment(shown, Segment(method="otsu_log", margin=0.1))
    assert tight.box == tight.tight_box == wide.tight_box
    longer = max(tight.box.height, tight.box.width)
    assert wide.box == tight.box.grown(round(longer * 0.1), 640, 500)


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
    found = segment(picture(Made(pixels, breast().drawing, 12)), LOG)
    assert found.method == "whole_frame"
    assert Flag.CC_CROP_FALLBACK in found.flags
    assert found.box == CropBox.whole(*pixels.shape)


def test_wrong_side_is_flagged() -> None:
    made = breast(0, CC, RIGHT, (512, 410))
    found = segment(picture(made, side="L"), LOG)
    assert Flag.CHEST_WALL_CONFLICT in found.flags
    assert iou(found.tight_box, made.drawing.box) >= 0.97


def test_padding_is_background() -> None:
    made = breast(0, CC, LEFT, (512, 410))
    padded = made.pixels.copy()
    padded[:, 380:] = 4095  # a padding value at the maximum
    plain = segment(picture(made), LOG)
    assert segment(picture(Made(padded, made.drawing, 12), PixelPaddingValue=4095), LOG).box == plain.box


ACCEPTED = {
    # What was found, looked at on docs/films.jpg and accepted: the whole breast, no border, no label plate, no light leak of
    # the film's edge. A box that moves by more is to be looked at again. Top, bottom, left, right.
    "sfm-benign-0/1-130.dcm": (623, 3927, 0, 1590),
    "sfm-benign-0/1-131.dcm": (0, 4035, 0, 1511),
    "sfm-benign-0/1-132.dcm": (884, 4071, 1494, 2864),
    "sfm-benign-0/1-133.dcm": (0, 3858, 1373, 2920),
    "sfm-malign-0/1-280.dcm": (603, 4332, 0, 1637),
    "sfm-malign-0/1-281.dcm": (0, 4181, 0, 1717),
    "sfm-malign-0/1-282.dcm": (493, 4247, 1095, 2592),
    "sfm-malign-0/1-283.dcm": (0, 4368, 971, 2632),
}


def test_film_borders_do_not_stretch_the_box(cbis: Path) -> None:
    """Three of the films have a border along the chest wall that joins the breast from top to bottom."""
    for name, expected in ACCEPTED.items():
        record = dicom.read_header(cbis, name, adapter("cbis").policy)
        assert isinstance(record, dicom.ImageRecord)
        found = segment(read_picture((cbis / name).read_bytes(), record.laterality), LOG)
        moved = np.abs(np.array(found.tight_box.as_tuple()) - expected)
        assert moved.max() < 0.02 * max(record.rows, record.columns), (name, found)
        assert found.flags == Flag(0)


def test_thresholds_on_known_histograms() -> None:
    counts = np.zeros(256, np.int64)
    counts[[10, 11, 200, 201]] = [50, 50, 40, 40]
    assert 11 <= otsu_threshold(counts) < 200
    slope = np.zeros(256, np.int64)
    slope[5] = 1000
    slope[6:100] = np.arange(94, 0, -1)
    assert 5 < triangle_threshold(slope) < 20
