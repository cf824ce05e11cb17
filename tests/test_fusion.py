"""Every alternative of a pipeline file, each against the same thing done the plain way on full-size float arrays."""

from __future__ import annotations

import hashlib
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from fvpipe.config.loading import parse
from fvpipe.config.pipeline import Pipeline
from fvpipe.dicom.elements import silenced
from fvpipe.imaging.decoded_image import DecodedImage
from fvpipe.imaging.fusion import fuse
from fvpipe.imaging.segmentation.segment import Segmentation, full_mask, segment
from fvpipe.reasons import Flag
from fvpipe.types import FusedSample, Laterality
from tests.support import oracle
from tests.support.decoding import decode
from tests.support.factory import CC, LEFT, MLO, RIGHT, Made, breast, dataset, file_bytes

STEP = 1 / 65535
SHAPES = ((400, 320), (440, 300))


def pair(side: Laterality = LEFT, **tags: Any) -> tuple[DecodedImage, DecodedImage]:
    """CC and MLO of one breast, of two sizes."""
    images = []
    for view, shape in zip((CC, MLO), SHAPES, strict=True):
        made = breast(4, view, side, shape, 12)
        data = file_bytes(dataset(made.pixels, 12, ImageLaterality=side.value, **tags), made.pixels)
        images.append(decode(data, side))
    return images[0], images[1]


def build(settings: dict[str, Any], side: Laterality = LEFT) -> tuple[FusedSample, list[NDArray[Any]], Pipeline]:
    """The sample, and both crops as plain float arrays."""
    pipeline = parse(Pipeline, settings, "test")
    images = pair(side)
    found = tuple(segment(p, pipeline.segment) for p in images)
    sample = fuse(images, found, pipeline)  # type: ignore[arg-type]
    crops = [plain(p, s, pipeline) for p, s in zip(images, found, strict=True)]
    return sample, crops, pipeline


def plain(image: DecodedImage, found: Segmentation, pipeline: Pipeline) -> NDArray[Any]:
    values = image.values[image.stored]
    box = found.box
    return values[box.top : box.bottom, box.left : box.right]


def unit(image: NDArray[Any], low: float | None = None, high: float | None = None) -> NDArray[Any]:
    low, high = image.min() if low is None else low, image.max() if high is None else high
    return np.clip((image - low) / (high - low), 0, 1)


def padded(views: list[NDArray[Any]], axis: int) -> list[NDArray[Any]]:
    """Both as long as the longer along the other axis, filled with the pair's minimum."""
    fill = min(v.min() for v in views)
    length = max(v.shape[1 - axis] for v in views)
    widths = [[(0, 0), (0, 0)] for _ in views]
    for view, width in zip(views, widths, strict=True):
        width[1 - axis] = (0, length - view.shape[1 - axis])
    return [np.pad(v, w, constant_values=fill) for v, w in zip(views, widths, strict=True)]


def close(image: NDArray[Any], expected: NDArray[Any], tolerance: float = STEP) -> None:
    assert image.shape == expected.shape
    np.testing.assert_allclose(image / 65535, expected, atol=tolerance)


def test_side_by_side_is_the_paper() -> None:
    sample, crops, _ = build({})
    close(sample.image, oracle.resized(unit(np.concatenate(padded(crops, 1), axis=1)), (256, 256)))


def test_stacked() -> None:
    sample, crops, _ = build({"fuse": {"layout": "stacked"}, "segment": {"method": "otsu_log"}})
    close(sample.image, oracle.resized(unit(np.concatenate(padded(crops, 0), axis=0)), (256, 256)))


@pytest.mark.parametrize("align", ["pad", "each"])
def test_channels(align: str) -> None:
    sample, crops, _ = build({"fuse": {"layout": "channels", "align": align}})
    low, high = min(c.min() for c in crops), max(c.max() for c in crops)
    if align == "pad":
        size = tuple(max(c.shape[i] for c in crops) for i in (0, 1))
        crops = [np.pad(c, [(0, s - n) for s, n in zip(size, c.shape, strict=True)], constant_values=low) for c in crops]
    close(sample.image, np.stack([oracle.resized(unit(c, low, high), (256, 256)) for c in crops]))


@pytest.mark.parametrize(("layout", "i"), [("cc", 0), ("mlo", 1)])
def test_single_view(layout: str, i: int) -> None:
    sample, crops, _ = build({"fuse": {"layout": layout}, "segment": {"method": "otsu_log"}})
    close(sample.image, oracle.resized(unit(crops[i]), (256, 256)))
    assert (sample.placement[1 - i] == -1).all()
    assert sample.placement[i].tolist() == [0, 256, 0, 256]
    assert (sample.boxes >= 0).all()  # the other view's box is known all the same


@pytest.mark.parametrize(("layout", "axis"), [("side_by_side", 1), ("stacked", 0)])
def test_each_view_to_its_half(layout: str, axis: int) -> None:
    sample, crops, _ = build({"fuse": {"layout": layout, "align": "each"}, "size": [256, 255]})
    low, high = min(c.min() for c in crops), max(c.max() for c in crops)
    sizes = [(256, 127), (256, 128)] if axis else [(128, 255), (128, 255)]
    halves = [oracle.resized(unit(c, low, high), size) for c, size in zip(crops, sizes, strict=True)]
    close(sample.image, np.concatenate(halves, axis=axis))


def test_min_max_per_view() -> None:
    sample, crops, _ = build({"intensity": {"method": "minmax_per_view"}, "fuse": {"align": "each"}})
    halves = [oracle.resized(unit(c), (256, 128)) for c in crops]
    close(sample.image, np.concatenate(halves, axis=1))
    assert sample.intensity_range.tolist() == [[c.min(), c.max()] for c in crops]


def test_robust_percentiles() -> None:
    sample, crops, _ = build({"intensity": {"method": "percentiles", "percentiles": [1, 99]}})
    low, high = np.percentile(np.concatenate([c.ravel() for c in crops]), [1, 99], method="inverted_cdf")
    assert sample.intensity_range.tolist() == [low, high]
    close(sample.image, oracle.resized(unit(np.concatenate(padded(crops, 1), axis=1), low, high), (256, 256)))


def test_percentiles_per_view() -> None:
    sample, crops, _ = build({"intensity": {"method": "percentiles_per_view", "percentiles": [2, 98]}})
    expected = [np.percentile(c, [2, 98], method="inverted_cdf").tolist() for c in crops]
    assert sample.intensity_range.tolist() == expected


def test_letterbox_keeps_the_aspect() -> None:
    sample, crops, _ = build({"resize": {"aspect": "letterbox"}})
    image = unit(np.concatenate(padded(crops, 1), axis=1))
    scale = 256 / max(image.shape)
    height, width = (round(side * scale) for side in image.shape)
    expected = np.zeros((256, 256))
    top, left = (256 - height) // 2, (256 - width) // 2
    expected[top : top + height, left : left + width] = oracle.resized(image, (height, width))
    close(sample.image, expected)
    (cc, mlo) = sample.placement
    assert (cc[1] - cc[0]) / (cc[3] - cc[2]) == pytest.approx(400 / 320, rel=0.02)
    assert mlo[3] == pytest.approx(left + width)


def test_area_is_the_mean_over_what_a_pixel_covers() -> None:
    """480 x 640 to 120 x 160: exactly 4 x 4 source pixels each."""
    made = [breast(i, v, shape=(480, 320)) for i, v in enumerate((CC, MLO))]
    images = tuple(decode(file_bytes(dataset(m.pixels, 12), m.pixels), LEFT) for m in made)
    pipeline = parse(Pipeline, {"resize": {"method": "area"}, "size": [120, 160]}, "test")
    sample = fuse(images, tuple(segment(p, pipeline.segment) for p in images), pipeline)  # type: ignore[arg-type]
    image = unit(np.concatenate([m.pixels.astype(float) for m in made], axis=1))
    close(sample.image, image.reshape(120, 4, 160, 4).mean(axis=(1, 3)))


def test_area_of_odd_sizes_agrees_with_opencv() -> None:
    sample, crops, _ = build({"resize": {"method": "area"}, "size": [100, 90]})
    image = unit(np.concatenate(padded(crops, 1), axis=1)).astype(np.float32)
    close(sample.image, cv2.resize(image, (90, 100), interpolation=cv2.INTER_AREA), 2 * STEP)


def test_canonical_side_mirrors_right_breasts() -> None:
    """A right breast that is the mirror image of a left one gives the same sample; its placement runs backwards."""
    settings = {"fuse": {"canonical_side": "left"}, "segment": {"method": "otsu_log"}}
    pipeline = parse(Pipeline, settings, "test")
    samples = []
    for side in (LEFT, RIGHT):
        images = []
        for view, shape in zip((CC, MLO), SHAPES, strict=True):
            pixels = breast(4, view, LEFT, shape).pixels
            pixels = np.ascontiguousarray(pixels if side is LEFT else pixels[:, ::-1])
            images.append(decode(file_bytes(dataset(pixels, 12, ImageLaterality=side.value), pixels), side))
        found = tuple(segment(p, pipeline.segment) for p in images)
        samples.append(fuse(tuple(images), found, pipeline))  # type: ignore[arg-type]
    left, right = samples
    assert np.array_equal(left.image, right.image)
    assert (left.placement[:, 2] < left.placement[:, 3]).all()
    assert np.array_equal(right.placement, left.placement[:, [0, 1, 3, 2]])


def test_canonical_side_follows_the_breast_where_the_header_is_wrong() -> None:
    settings = {"fuse": {"canonical_side": "left"}, "segment": {"method": "otsu_log"}}
    pipeline = parse(Pipeline, settings, "test")
    pixels = [breast(4, view, RIGHT, shape).pixels for view, shape in zip((CC, MLO), SHAPES, strict=True)]
    images = tuple(decode(file_bytes(dataset(p, 12), p), LEFT) for p in pixels)
    sample = fuse(images, tuple(segment(p, pipeline.segment) for p in images), pipeline)  # type: ignore[arg-type]
    assert Flag.CHEST_WALL_CONFLICT in sample.flags
    assert (sample.placement[:, 2] > sample.placement[:, 3]).all()


def test_mask_outside() -> None:
    settings = {"segment": {"method": "otsu_log", "mask_outside": True, "margin": 0.1}}
    pipeline = parse(Pipeline, settings, "test")
    made = [breast(4, view, LEFT, shape, pedestal=0.1) for view, shape in zip((CC, MLO), SHAPES, strict=True)]
    images = tuple(decode(file_bytes(dataset(m.pixels, 12), m.pixels), LEFT) for m in made)
    found = tuple(segment(p, pipeline.segment) for p in images)
    sample = fuse(images, found, pipeline)  # type: ignore[arg-type]
    views = []
    inside = [full_mask(s, *p.shape) > 0 for s, p in zip(found, images, strict=True)]
    fill = min(p.values[p.stored][m].min() for p, m in zip(images, inside, strict=True))
    for image, mask, s in zip(images, inside, found, strict=True):
        values = np.where(mask, image.values[image.stored], fill)
        views.append(values[s.box.top : s.box.bottom, s.box.left : s.box.right])
    close(sample.image, oracle.resized(unit(np.concatenate(padded(views, 1), axis=1)), (256, 256)))
    assert (sample.image == 0).mean() > 0.05


@pytest.mark.parametrize("size", [[256, 256], [512, 512], [1024, 1024], [128, 320]])
def test_sizes(size: list[int]) -> None:
    sample, crops, _ = build({"size": size})
    close(sample.image, oracle.resized(unit(np.concatenate(padded(crops, 1), axis=1)), (size[0], size[1])))


@pytest.mark.parametrize(("dtype", "tolerance"), [("uint8", 0.5 / 255), ("uint16", 0.5 / 65535), ("float32", 1e-6)])
def test_dtypes(dtype: str, tolerance: float) -> None:
    sample, crops, _ = build({"dtype": dtype})
    assert sample.image.dtype == dtype
    top = {"uint8": 255, "uint16": 65535, "float32": 1}[dtype]
    expected = oracle.resized(unit(np.concatenate(padded(crops, 1), axis=1)), (256, 256))
    np.testing.assert_allclose(sample.image.astype(float) / top, expected, atol=tolerance + 1e-9)


def test_padding_takes_the_minimum_over_real_pixels() -> None:
    """Inverted 16-bit data whose background lies high: a fill of 0 would squeeze the breast into a sliver of the range."""
    images = []
    for view, shape in zip((CC, MLO), SHAPES, strict=True):
        tissue = breast(4, view, LEFT, shape).pixels
        pixels = (65535 - 3000 - tissue).astype(np.uint16)
        pixels[:, -20:] = 65535
        tags = {"PhotometricInterpretation": "MONOCHROME1", "PixelPaddingValue": 65535}
        images.append(decode(file_bytes(dataset(pixels, 16, **tags), pixels), LEFT))
    pipeline = Pipeline()
    whole = tuple(segment(p, pipeline.segment) for p in images)
    sample = fuse(tuple(images), whole, pipeline)  # type: ignore[arg-type]
    assert sample.intensity_range[0] == 3000
    assert (sample.image[:, -8:] == 0).all()
    assert sample.image.max() > 60000


def test_a_constant_pair_is_zeros_and_flagged() -> None:
    pixels = np.full((100, 80), 5, np.uint16)
    images = tuple(decode(file_bytes(dataset(pixels, 12), pixels), LEFT) for _ in range(2))
    pipeline = parse(Pipeline, {"segment": {"method": "otsu_log"}}, "test")
    sample = fuse(images, tuple(segment(p, pipeline.segment) for p in images), pipeline)  # type: ignore[arg-type]
    assert not sample.image.any()
    expected = Flag.CONSTANT_IMAGE | Flag.CC_CONSTANT | Flag.MLO_CONSTANT | Flag.CC_CROP_FALLBACK | Flag.MLO_CROP_FALLBACK
    assert sample.flags == expected


GOLDEN = "11f5e96f5df0bfa54d7ac135080b7c12d0a3ec11049d8bfdf6835fa4f25209ff"
"""Of the settings that the cohort's golden digests do not reach. See tests/test_flow.py for what to do when it changes."""


def test_golden_bytes_of_the_alternatives() -> None:
    digest = hashlib.sha256()
    tags: dict[str, dict[str, Any]] = {
        "inverted": {"PhotometricInterpretation": "MONOCHROME1", "PixelPaddingValue": 4095},
        "rescaled": {"RescaleSlope": "-2", "RescaleIntercept": "10000"},
        "windowed": {"WindowCenter": ["1500", "9"], "WindowWidth": ["1000", "9"], "VOILUTFunction": "LINEAR_EXACT"},
    }
    settings: list[dict[str, Any]] = [
        {
            "segment": {"method": "triangle", "mask_outside": True},
            "fuse": {"canonical_side": "left"},
            "resize": {"method": "area"},
        },
        {"segment": {"method": "agreement"}, "fuse": {"layout": "channels"}, "intensity": {"method": "percentiles_per_view"}},
        {"voi": "window", "resize": {"aspect": "letterbox"}, "fuse": {"layout": "stacked", "align": "each"}, "dtype": "uint8"},
    ]
    for values in tags.values():
        images = pair(RIGHT, **values)
        for setting in settings:
            pipeline = parse(Pipeline, {**setting, "size": [96, 96]}, "test")
            found = tuple(segment(p, pipeline.segment) for p in images)
            sample = fuse(images, found, pipeline)  # type: ignore[arg-type]
            digest.update(sample.image.tobytes() + sample.boxes.tobytes() + int(sample.flags).to_bytes(4, "little"))
    assert digest.hexdigest() == GOLDEN


def test_voi_window_is_applied_before_everything() -> None:
    tags = {"WindowCenter": 1500, "WindowWidth": 1000}
    made = Made(breast(4, CC).pixels, breast(4, CC).drawing, 12)
    data = file_bytes(dataset(made.pixels, 12, **tags), made.pixels)
    image = decode(data, LEFT, "window")
    with silenced():
        from pydicom.pixels import apply_windowing

        expected = apply_windowing(made.pixels, dataset(made.pixels, 12, **tags))
    np.testing.assert_allclose(image.values[image.stored], expected)
    pipeline = parse(Pipeline, {"voi": "window"}, "test")
    sample = fuse((image, image), tuple(segment(p, pipeline.segment) for p in (image, image)), pipeline)  # type: ignore[arg-type]
    close(sample.image, oracle.resized(unit(np.concatenate([expected, expected], axis=1)), (256, 256)))
