"""Area resizing by sums against the literal, slow reading of it, to half a step of uint16."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fvpipe.config.loading import parse
from fvpipe.config.pipeline import Pipeline
from fvpipe.imaging import resample
from fvpipe.imaging.fusion import fuse
from fvpipe.imaging.resample import area_means, axis_coverage
from fvpipe.imaging.segmentation.segment import full_mask, segment
from tests.support import oracle
from tests.support.decoding import decode
from tests.support.factory import CC, LEFT, MLO, RIGHT, breast, dataset, file_bytes

HALF_STEP = 0.5 / 65535


def means(stored: NDArray[Any], table: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """The whole of an image, resized."""
    axes = [axis_coverage(target, n, 0, n, 1, 0.0) for target, n in zip(size, stored.shape, strict=True)]
    return area_means(stored, table, None, axes[0], axes[1])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_size_from_every_size(data: st.DataObject) -> None:
    """Smaller, larger, and smaller along one axis alone."""
    side = st.integers(1, 90)
    shape, size = data.draw(st.tuples(side, side)), data.draw(st.tuples(side, side))
    dtype = data.draw(st.sampled_from(["u1", "u2"]))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    stored = rng.integers(0, 256, shape).astype(dtype)
    table = rng.random(256)
    np.testing.assert_allclose(means(stored, table, size), oracle.area(table[stored], size), atol=1e-8, rtol=0)


@pytest.mark.parametrize("columns", [3, 1000, 16384])
def test_bands_leave_no_seam(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = np.random.default_rng(0).integers(0, 4096, (500, columns)).astype(np.uint16)
    table = np.linspace(0, 1, 4096)
    size = (37, min(columns, 41))
    found = means(stored, table, size)
    np.testing.assert_allclose(found, oracle.area(table[stored], size), atol=1e-8, rtol=0)
    monkeypatch.setattr(resample, "BAND_PIXELS", 1)
    np.testing.assert_allclose(means(stored, table, size), found, atol=1e-8, rtol=0)


def test_white_stays_white() -> None:
    """Sums are exact: nothing is a little more or less than 1."""
    image = means(np.full((3518, 1201), 9, np.uint16), np.ones(10), (256, 128))
    assert abs(image - 1).max() < 1e-9
    assert (np.rint(image * 65535) == 65535).all()


FUSIONS: list[dict[str, Any]] = [
    {},
    {"size": [100, 90]},
    {"size": [600, 700]},
    {"size": [600, 64]},
    {"fuse": {"layout": "stacked"}},
    {"fuse": {"align": "each"}, "size": [128, 127]},
    {"fuse": {"layout": "channels"}},
    {"fuse": {"layout": "mlo", "canonical_side": "left"}},
    {"fuse": {"canonical_side": "left"}, "segment": {"method": "otsu_log"}},
    {"fuse": {"canonical_side": "left"}, "segment": {"method": "otsu_log", "mask_outside": True}, "size": [96, 96]},
    {"resize": {"aspect": "letterbox"}, "intensity": {"method": "percentiles"}},
]


@pytest.mark.parametrize("setting", FUSIONS, ids=str)
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_fused_as_the_slow_way(setting: dict[str, Any], bits: int) -> None:
    setting = {**setting, "resize": {**setting.get("resize", {}), "method": "area"}, "dtype": "float32"}
    pipeline = parse(Pipeline, setting, "test")
    images = []
    for view, shape in ((CC, (400, 320)), (MLO, (440, 300))):
        pixels = breast(4, view, RIGHT, shape, bits).pixels
        data = file_bytes(dataset(pixels, bits, ImageLaterality="R", PhotometricInterpretation="MONOCHROME1"), pixels)
        images.append(decode(data, RIGHT))
    found = tuple(segment(p, pipeline.segment) for p in images)
    sample = fuse(tuple(images), found, pipeline)  # type: ignore[arg-type]
    low, high = sample.intensity_range
    views = []
    for image, s in zip(images, found, strict=True):
        values = np.clip((image.values[image.stored] - low) / (high - low), 0, 1)
        if pipeline.segment.mask_outside:
            values[full_mask(s, *image.shape) == 0] = 0
        crop = values[s.box.top : s.box.bottom, s.box.left : s.box.right]
        views.append(crop[:, ::-1] if pipeline.fuse.canonical_side == "left" else crop)
    panels = sample.image if sample.image.ndim == 3 else sample.image[None]
    for panel, (canvas, (top, left, height, width)) in zip(*drawn(views, pipeline, panels), strict=True):
        expected = oracle.area(canvas, (height, width))
        np.testing.assert_allclose(panel[top : top + height, left : left + width], expected, atol=HALF_STEP, rtol=0)


def drawn(views: list[NDArray[Any]], pipeline: Pipeline, images: NDArray[Any]) -> tuple[list[Any], list[Any]]:
    """Each panel's image; and its canvas with where that lies in it."""
    height, width = pipeline.size
    layout = pipeline.fuse.layout
    rows, columns = (max(v.shape[i] for v in views) for i in (0, 1))
    if layout == "mlo":
        return [images[0]], [(views[1], (0, 0, height, width))]
    if layout == "channels":
        pads = [np.pad(v, ((0, rows - v.shape[0]), (0, columns - v.shape[1]))) for v in views]
        return list(images), [(p, (0, 0, height, width)) for p in pads]
    if pipeline.fuse.align == "each":
        half = width // 2
        parts = [(0, 0, height, half), (0, half, height, width - half)]
        return [images[0]] * 2, list(zip(views, parts, strict=True))
    if layout == "stacked":
        canvas = np.concatenate([np.pad(v, ((0, 0), (0, columns - v.shape[1]))) for v in views])
    else:
        canvas = np.concatenate([np.pad(v, ((0, rows - v.shape[0]), (0, 0))) for v in views], axis=1)
    if pipeline.resize.aspect == "letterbox":
        scale = min(height / canvas.shape[0], width / canvas.shape[1])
        inner = (round(canvas.shape[0] * scale), round(canvas.shape[1] * scale))
        return [images[0]], [(canvas, ((height - inner[0]) // 2, (width - inner[1]) // 2, *inner))]
    return [images[0]], [(canvas, (0, 0, height, width))]


def test_left_and_right_are_mirror_images() -> None:
    """A flipped image of the other side, brought to the canonical one, is the same image to the last bit but rounding."""
    pipeline = parse(Pipeline, {"fuse": {"canonical_side": "left"}, "resize": {"method": "area"}, "size": [96, 90]}, "test")
    pixels = breast(4, CC, LEFT, (401, 323)).pixels
    images = []
    for side, stored in ((LEFT, pixels), (RIGHT, pixels[:, ::-1].copy())):
        image = decode(file_bytes(dataset(stored, 12, ImageLaterality=side.value), stored), side)
        found = segment(image, pipeline.segment)
        images.append(fuse((image, image), (found, found), pipeline).image.astype(int))
    assert abs(images[0] - images[1]).max() <= 1
