"""The equal-area warp: its cells, its pixels against the literal slow reading, its coordinates, and when it does not apply."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks.compare import zoom_densities, zoomed
from fvpipe.cache.sample_store import SampleStore
from fvpipe.config.loading import parse
from fvpipe.config.pipeline import Pipeline
from fvpipe.imaging.canvas import crop_levels
from fvpipe.imaging.decoded_image import DecodedImage
from fvpipe.imaging.film_border import without_film_border
from fvpipe.imaging.fusion import fuse
from fvpipe.imaging.segmentation.segment import Segmentation, segment
from fvpipe.imaging.warp import INTERVALS, Warp, crop_warp, equal_area, outline_widths
from fvpipe.reasons import CropVerdict, Flag
from fvpipe.shards.coordinates import Coordinates, coordinates_of
from fvpipe.types import NO_DIGEST, CropBox, Digest, Edge, Laterality
from tests.support import oracle
from tests.support.decoding import decode
from tests.support.factory import CC, LEFT, MLO, RIGHT, breast, dataset, file_bytes
from tests.support.shard_folder import fused

Floats = NDArray[np.float64]
KNOTS = np.arange(INTERVALS + 1) / INTERVALS
SETTINGS: dict[str, Any] = {
    "segment": {"method": "otsu_log"},
    "fuse": {"align": "each"},
    "resize": {"method": "equal_area"},
    "size": [64, 48],
    "dtype": "float32",
}


def pipeline(**changes: Any) -> Pipeline:
    return parse(Pipeline, {**SETTINGS, **changes}, "test")


def bump(seed: int, most: float) -> Floats:
    """A width that rises and falls as a breast's does, with bumps."""
    rng = np.random.default_rng(seed)
    waves = sum(rng.uniform(0, 0.1) * np.sin(rng.uniform(0, 40) * KNOTS + rng.uniform(0, 6)) for _ in range(3))
    return np.clip(np.sqrt(KNOTS * (1 - KNOTS) * 4) + waves, 0, 1) * most


def areas(warp: Warp) -> Floats:
    """Exact area of each cell in source pixels: the integral of the width over a row, times the share of a column."""
    knots = warp.rows[0] + KNOTS * (warp.rows[-1] - warp.rows[0])
    masses = []
    for top, bottom in zip(warp.rows[:-1], warp.rows[1:], strict=True):
        at = np.array([top, *knots[(knots > top) & (knots < bottom)], bottom])
        width = np.interp(at, knots, warp.widths)
        masses.append(float(np.sum((width[1:] + width[:-1]) / 2 * np.diff(at))))
    return np.outer(masses, np.diff(warp.columns))


# --- cells ------------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.integers(1, 9), st.integers(20, 4000), st.integers(20, 3000), st.sampled_from([0, 0.3, 0.5, 1]))
def test_every_pixel_covers_the_same_area(seed: int, shape: int, height: int, width: int, stretch: float) -> None:
    """Of the breast where it is not stretched, of what it is stretched to where it is."""
    box = CropBox(7, 7 + height, 3, 3 + width)
    warp = equal_area(bump(seed, width), box, stretch, (8 * shape, 5 * shape))
    assert warp.rows[0] == 7
    assert warp.rows[-1] == 7 + height
    found = areas(warp)
    np.testing.assert_allclose(found, found.mean(), rtol=1e-9)
    assert warp.widths.min() >= stretch * width


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999), st.floats(1, 8), st.integers(1, 9))
def test_greatest_over_least_magnification_is_the_zoom(seed: int, zoom: float, count: int) -> None:
    """On each axis: where saliency is 1 against where it is 0."""
    saliency = np.random.default_rng(seed).random((count + 2, count + 2))
    saliency[0, 0] = 1
    saliency[1], saliency[:, 1] = 0, 0
    rows, columns = zoom_densities(saliency, zoom)
    warp = zoomed(np.full(INTERVALS + 1, 900.0), CropBox(0, 700, 0, 900), 1, (400, 500), rows, columns)
    for edges, density in ((warp.rows / 700, rows), (warp.columns, columns)):
        ends = np.arange(len(density) + 1) / len(density)
        sizes = [np.diff(edges[(edges >= low) & (edges <= high)]) for low, high in itertools.pairwise(ends)]
        magnification = np.array([1 / np.median(cells) for cells in sizes])  # cells wholly within one density
        np.testing.assert_allclose(magnification / magnification.min(), density / density.min(), rtol=1e-6)
        assert magnification.max() / magnification.min() == pytest.approx(zoom, rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_coordinates_there_and_back(data: st.DataObject) -> None:
    """To 1e-9, of points and of arrays, mirrored or not, with any densities, also beyond the breast and the crop."""
    rng = np.random.default_rng(data.draw(st.integers(0, 9999)))
    height, width = (int(n) for n in rng.integers(30, 4000, 2))
    box = CropBox(11, 11 + height, 5, 5 + width)
    densities = (rng.uniform(0.3, 3, rng.integers(1, 40)) for _ in range(2))
    warp = zoomed(bump(int(rng.integers(99)), width), box, float(rng.choice([0.1, 0.5, 1])), (256, 128), *densities)
    columns = warp.columns[:: rng.choice([1, -1])]
    sides = [128.0, 256.0][:: rng.choice([1, -1])]
    place = Coordinates(
        np.array(box.as_tuple(), np.int32), np.array([0, 256, *sides], np.float32), warp.rows, columns, warp.widths
    )
    points = rng.uniform([-5, 120], [261, 264], (200, 2)).T
    source = place.to_source(*points)
    np.testing.assert_allclose(place.to_image(*source), points, atol=1e-9, rtol=0)
    row, column = float(points[0, 0]), float(points[1, 0])
    assert place.to_image(*place.to_source(row, column)) == pytest.approx((row, column), abs=1e-9)
    wall = box.left if columns[0] == 0 else box.right
    on_wall = place.to_image(np.array([11.0, 40.0]), np.array([wall, wall]))[1]
    assert set(np.round(on_wall, 9)) <= {128.0, 256.0}


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_pixels_as_the_slow_way(data: st.DataObject) -> None:
    """Smaller, larger, any densities, chest wall on either side, outside masked or not."""
    rng = np.random.default_rng(data.draw(st.integers(0, 9999)))
    shape = tuple(int(n) for n in rng.integers(20, 60, 2))
    stored = rng.integers(0, 4096, shape).astype(np.uint16)
    stored[0, :2] = 0, 4095
    wall, stretch = data.draw(st.sampled_from(list(Edge))), data.draw(st.sampled_from([0, 0.5, 1]))
    mask = drawn_mask(bump(int(rng.integers(99)), shape[1]), shape, wall)
    found = outlined(mask, CropBox(2, shape[0] - 1, 0, shape[1]))
    masked = data.draw(st.booleans())
    used = pipeline(
        segment={"method": "otsu_log", "mask_outside": masked},
        fuse={"layout": "cc"},
        resize={"method": "equal_area", "stretch": stretch},
        size=[int(n) for n in rng.integers(16, 40, 2)],
    )
    image = decoded(stored, wall)
    sample = fuse((image, None), (found, None), used)
    warp = crop_warp(found, wall, used.size, used)
    assert warp is not None
    values = (stored / 4095)[2 : shape[0] - 1]
    values = np.where(mask[2 : shape[0] - 1] == 0, 0, values) if masked else values
    values = (values - sample.intensity_range[0] / 4095) / np.diff(sample.intensity_range / 4095)
    values = np.where(mask[2 : shape[0] - 1] == 0, 0, values) if masked else values
    order = slice(None, None, 1 if wall is Edge.LEFT else -1)
    centers = np.arange(len(values)) + 0.5
    widths = np.interp(centers, KNOTS * len(values), warp.widths)
    expected = oracle.equal_area(values[:, order], warp.rows - 2, warp.columns, widths)[:, order]
    np.testing.assert_allclose(sample.image, expected, atol=1e-5)


def drawn_mask(widths: Floats, shape: tuple[int, ...], wall: Edge) -> NDArray[np.uint8]:
    """A breast of these widths, at least two pixels in each row."""
    across = np.interp((np.arange(shape[0]) + 0.5) / shape[0], KNOTS, widths)
    mask = np.where(np.arange(shape[1]) < np.maximum(across, 2)[:, None], 255, 0).astype(np.uint8)
    return mask if wall is Edge.LEFT else np.ascontiguousarray(mask[:, ::-1])


def outlined(mask: NDArray[np.uint8], box: CropBox, step: int = 1, **more: Any) -> Segmentation:
    area = float(np.count_nonzero(mask)) * step**2
    return Segmentation(box, box, mask, step, 1.0, "otsu_log", {}, area=area, mean=2000.0, **more)


def decoded(stored: NDArray[Any], wall: Edge, scale: int = 1, source: tuple[int, int] | None = None) -> DecodedImage:
    shape = source or (stored.shape[0], stored.shape[1])
    return DecodedImage(stored, np.arange(4096.0), None, 1, wall, NO_DIGEST, NO_DIGEST, shape, scale)


def test_no_part_of_the_outline_is_cut_off() -> None:
    """Every pixel of the mask in the crop lies between the chest wall and the width of its row."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        step, wall = int(rng.integers(1, 10)), (Edge.LEFT, Edge.RIGHT)[seed % 2]
        shape = (int(rng.integers(40, 500)), int(rng.integers(30, 300)))
        mask = drawn_mask(bump(seed, shape[1] * 0.8), shape, wall)
        mask[rng.integers(0, shape[0], 5)] = 255 if seed % 3 else 0  # a sharp nipple, or a cut
        box = CropBox(step, (shape[0] - 1) * step, 0, shape[1] * step)
        widths = outline_widths(outlined(mask, box, step), wall)
        assert widths is not None
        reach = np.count_nonzero(mask, axis=1) * step
        rows = np.arange(box.top, box.bottom) + 0.5
        width = np.interp((rows - box.top) / box.height, KNOTS, widths)
        assert (width >= np.minimum(reach[np.minimum(rows.astype(int) // step, shape[0] - 1)], box.width) - 1e-9).all()


# --- samples ----------------------------------------------------------------------------------------------------------


def pair(side: Laterality = LEFT, flipped: bool = False) -> list[DecodedImage]:
    images = []
    for view, shape in ((CC, (401, 322)), (MLO, (440, 300))):
        pixels = breast(4, view, LEFT, shape, 12).pixels
        pixels = pixels[:, ::-1].copy() if flipped else pixels
        images.append(decode(file_bytes(dataset(pixels, 12, ImageLaterality=side.value), pixels), side))
    return images


def sample_of(images: list[DecodedImage], used: Pipeline) -> Any:
    return fuse(images, [segment(image, used.segment) for image in images], used)


@pytest.mark.parametrize("size", [[64, 48], [200, 96], [600, 500]], ids=str)
@pytest.mark.parametrize("side", [LEFT, RIGHT])
@pytest.mark.parametrize("canonical", ["none", "left"])
def test_fully_stretched_it_is_the_crop(size: list[int], side: Laterality, canonical: str) -> None:
    """Stretch 1 is `align: each` with `resize: area`, also where pixels are enlarged."""
    images, changes = pair(side, side is RIGHT), {"fuse": {"align": "each", "canonical_side": canonical}, "size": size}
    whole = sample_of(images, pipeline(**changes, resize={"method": "equal_area", "stretch": 1}))
    area = sample_of(images, pipeline(**changes, resize={"method": "area"}))
    np.testing.assert_allclose(whole.image, area.image, atol=1e-6)
    assert np.array_equal(whole.boxes, area.boxes)
    assert np.array_equal(whole.placement, area.placement)
    assert area.warp_rows is None
    for view in (0, 1):
        points = np.random.default_rng(0).uniform(0, 300, (2, 50))
        mapped = coordinates_of(whole, view).to_image(*points)
        np.testing.assert_allclose(mapped, coordinates_of(area, view).to_image(*points), atol=1e-4)
        assert coordinates_of(whole, view).scale() == pytest.approx(coordinates_of(area, view).scale())


def test_a_mirrored_image_gives_the_mirrored_sample() -> None:
    left, right = (sample_of(pair(side, side is RIGHT), pipeline()) for side in (LEFT, RIGHT))
    assert np.isfinite(left.warp_rows).all()
    for half in (slice(0, 24), slice(24, 48)):
        np.testing.assert_allclose(right.image[:, half], left.image[:, half][:, ::-1], atol=1e-6)
    canonical = {"align": "each", "canonical_side": "left"}
    upright, turned = (sample_of(pair(side, side is RIGHT), pipeline(fuse=canonical)) for side in (LEFT, RIGHT))
    np.testing.assert_allclose(turned.image, upright.image, atol=1e-6)
    assert np.array_equal(left.image, upright.image)


@pytest.mark.parametrize("canonical", ["none", "left"])
@pytest.mark.parametrize("side", [LEFT, RIGHT])
@pytest.mark.parametrize("layout", ["side_by_side", "stacked", "channels", "mlo"])
def test_a_bright_spot_lies_where_the_coordinates_say(layout: str, side: Laterality, canonical: str) -> None:
    images = pair(side, side is RIGHT)
    used = pipeline(fuse={"layout": layout, "align": "each", "canonical_side": canonical}, size=[256, 256])
    row, column = 200, 60 if side is LEFT else 240
    spotted = []
    for image in images:
        stored = image.stored.copy()
        stored[row : row + 3, column : column + 3] = 4095
        spotted.append(replace(image, stored=stored))
    found = [segment(image, used.segment) for image in images]
    plain, bright = (fuse(given, found, used) for given in (images, spotted))
    for view in (1,) if layout == "mlo" else (0, 1):
        place = coordinates_of(bright, view)
        assert place.warped
        expected = place.to_image(row + 1.5, column + 1.5)
        top, bottom, *sides = bright.placement[view]
        part = np.s_[int(top) : int(bottom), int(min(sides)) : int(max(sides))]
        gain = (bright.image - plain.image)[view if layout == "channels" else ...][part].clip(0)
        rows, columns = (np.arange(n) + 0.5 for n in gain.shape)
        center = (gain.sum(axis=1) @ rows / gain.sum() + top, gain.sum(axis=0) @ columns / gain.sum() + min(sides))
        assert center == pytest.approx(expected, abs=0.35)


@pytest.mark.parametrize("scale", [2, 4])
def test_nothing_moves_at_reduced_resolution(scale: int) -> None:
    """A ramp at reduced resolution gives the ramp's means, unless pixels lie elsewhere than they should."""
    shape = (640, 512)
    mask, box = drawn_mask(bump(3, 300.0), (80, 64), Edge.LEFT), CropBox(24, 601, 0, 300)
    found = outlined(mask, box, 8)
    used = pipeline(fuse={"layout": "cc"}, size=[48, 32])
    means = []
    for step in (1, scale):
        down, across = (np.arange(n // step) * step + 0.5 for n in shape)  # pixel i is centered at source pixel i * step
        stored = (2 * down[:, None] + 2 * across).astype(np.uint16)
        image = decoded(stored, Edge.LEFT, step, shape)
        low, high = (sample := fuse((image, None), (found, None), used)).intensity_range
        means.append(sample.image * (high - low) + low)
    off = (means[1] - means[0])[2:-2, 2:-2]
    assert abs(off.mean()) < 0.2  # of 2 a source pixel
    assert abs(off).max() < 4


def test_resolution_follows_the_smallest_pixels() -> None:
    """A narrow breast is decoded no finer than its rows and columns need, and never coarser than that."""
    box, used = CropBox(0, 2560, 0, 1280), pipeline(size=[256, 256])
    mask = drawn_mask(np.full(INTERVALS + 1, 160.0), (320, 160), Edge.LEFT)
    full, thin = (outlined(mask[:, : 160 // part], box, 8) for part in (1, 2))
    crop = pipeline(resize={"method": "wavelet"}, size=[256, 256])
    assert crop_levels((full, full), crop) == (3, 3)
    assert crop_levels((full, full), used) == (2, 2)  # for rows that are half as wide
    assert crop_levels((thin, thin), used) == (2, 2)
    assert crop_levels((full, full), pipeline(size=[256, 256], resize={"method": "equal_area", "stretch": 1})) == (3, 3)


# --- where it does not apply ------------------------------------------------------------------------------------------


def gaps(mask: NDArray[np.uint8], share: float) -> NDArray[np.uint8]:
    """The mask with a hole in a share of its rows: the outline is not a function of the row there."""
    broken = mask.copy()
    broken[: round(share * len(mask)), 4:6] = 0
    return broken


@pytest.mark.parametrize(
    ("change", "applies"),
    [
        ({}, True),
        ({"mask": 0.09}, True),
        ({"mask": 0.11}, False),
        ({"mask": None}, False),
        ({"mask": "empty"}, False),
        ({"verdict": CropVerdict.LOOSE}, False),
        ({"verdict": CropVerdict.DOUBTFUL}, False),
        ({"verdict": CropVerdict.WHOLE_FRAME}, False),
    ],
    ids=str,
)
def test_an_outline_that_cannot_be_followed_is_cropped(change: dict[str, Any], applies: bool) -> None:
    """The view is then resized as by `area`, the other is warped, and the sample says which."""
    images, used = pair(), pipeline()
    cc, mlo = (segment(image, used.segment) for image in images)
    assert cc.mask is not None
    if "mask" in change:
        kind = change["mask"]
        mask = drawn_mask(np.full(INTERVALS + 1, 90.0), cc.mask.shape, Edge.LEFT)
        masks = {None: None, "empty": np.zeros_like(mask)}
        change = {"mask": masks[kind] if kind in masks else gaps(mask, kind)}
    cc = replace(cc, **change)
    warped = fuse(images, (cc, mlo), used)
    plain = fuse(images, (cc, mlo), pipeline(resize={"method": "area"}))
    assert warped.warp_rows is not None
    assert np.isfinite(warped.warp_rows).all(axis=1).tolist() == [applies, True]
    assert np.array_equal(warped.image[:, :24], plain.image[:, :24]) != applies
    assert not np.array_equal(warped.image[:, 24:], plain.image[:, 24:])
    assert coordinates_of(warped, 0).warped == applies
    if not applies:
        points = np.array([3.0, 200.0]), np.array([5.0, 90.0])
        mapped = coordinates_of(warped, 0).to_image(*points)
        np.testing.assert_array_equal(mapped, coordinates_of(plain, 0).to_image(*points))


@pytest.mark.parametrize(
    ("top", "bottom", "expected"),
    [
        ("wwww", "www", (4, 437)),
        ("....", "..", (0, 440)),
        ("ww", "w", (2, 439)),
        (".ww", "..w", (3, 437)),  # the scan begins outside the film
        ("..www", ".", (5, 440)),
        (".w.w", "", (4, 440)),
        ("wwggg", "gg", (5, 440)),  # what is neither white nor dark goes on, but does not begin a border
        ("wwwwww", "wwwwww", (6, 434)),  # up to as many rows as the strip has, less one that is dark
        ("wwwwwww", ".......w", (0, 440)),  # it does not end
        ("...w", "w...w", (0, 439)),  # a line further in is none
    ],
)
@pytest.mark.parametrize("inside", [0, 1])
def test_a_white_film_border_is_cut_off(top: str, bottom: str, expected: tuple[int, int], inside: int) -> None:
    """At the top and the bottom of the image, wherever in it the crop begins."""
    mask = np.where(np.arange(300) < 150, 255, 0).astype(np.uint8) * np.ones((440, 1), np.uint8)
    pixels = np.where(mask > 0, 2000, 0).astype(np.uint16)
    share = {"w": 150, "g": 40, ".": 0}  # of 150 pixels beside the breast
    for row, kind in [*enumerate(top), *((439 - row, kind) for row, kind in enumerate(bottom))]:
        pixels[row, 150 : 150 + share[kind]] = 4095
    box = CropBox(inside, 440 - inside, 0, 300)
    found = without_film_border(decoded(pixels, Edge.LEFT), outlined(mask, box)).box
    assert found.as_tuple() == (max(expected[0], inside), min(expected[1], 440 - inside), 0, 300)


def test_no_film_border_is_seen_where_the_breast_leaves_no_room() -> None:
    pixels = np.full((440, 300), 4095, np.uint16)
    mask = np.full((440, 300), 255, np.uint8)
    mask[:, 290:] = 0
    pixels[3:-3, 290:] = 0
    found = outlined(mask, CropBox(9, 400, 0, 300))
    assert without_film_border(decoded(pixels, Edge.LEFT), found) is found
    for columns, top in ((290, 0), (280, 3)):
        mask[:, columns:] = 0
        pixels[3:-3, columns:] = 0
        assert without_film_border(decoded(pixels, Edge.LEFT), outlined(mask, CropBox.whole(440, 300))).box.top == top


# --- stored -----------------------------------------------------------------------------------------------------------


def test_the_store_keeps_a_warp(tmp_path: Any) -> None:
    store, key = SampleStore(tmp_path), Digest("a" * 64)
    sample = sample_of(pair(), pipeline())
    store.put(key, sample)
    found = store.get(key)
    for name in ("image", "warp_rows", "warp_columns", "warp_widths"):
        np.testing.assert_array_equal(getattr(found, name), getattr(sample, name))
    store.put(key, fused())
    assert store.get(key).warp_rows is None  # type: ignore[union-attr]


def test_a_conflicting_chest_wall_is_the_one_that_was_found() -> None:
    """A breast on the other edge than the header says is warped from the edge on which it lies."""
    used = pipeline()
    right = pair(LEFT, flipped=True)
    found = [segment(image, used.segment) for image in right]
    assert all(Flag.CHEST_WALL_CONFLICT in each.flags for each in found)
    conflicting, expected = fuse(right, found, used), sample_of(pair(RIGHT, True), used)
    np.testing.assert_array_equal(conflicting.image, expected.image)
    np.testing.assert_array_equal(conflicting.warp_columns, expected.warp_columns)
