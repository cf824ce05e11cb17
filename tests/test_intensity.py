"""The intensity range of the breast, and windows with a fallback, each against the plain way on float arrays."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fvpipe.config.pipeline import Fuse, Intensity, Pipeline, Resize, Segment, load_pipeline
from fvpipe.imaging.decoded_image import DecodedImage
from fvpipe.imaging.fusion import fuse
from fvpipe.imaging.normalize import crop_image, normalization
from fvpipe.imaging.segmentation.segment import Segmentation, segment
from fvpipe.reasons import Flag
from fvpipe.report.measurements.brightness import NORMALIZATIONS, Brightness, brightness_reports, measure_brightness
from fvpipe.types import Laterality, View
from tests.support.decoding import decode
from tests.support.factory import CC, MLO, breast, dataset, file_bytes, table

VENDORS = ("ge", "hologic", "other", "film")
BREAST = Intensity(method="percentiles", percentiles=(2, 99.9), region="breast")
ALIKE = BREAST.model_copy(update={"median": 0.35})
SHAPE = (480, 384)


@cache
def drawn_as(vendor: str, seed: int, view: View) -> tuple[DecodedImage, NDArray[np.bool_]]:
    """One view with a vendor's distribution of values, and its true outline."""
    made = breast(seed, view, shape=SHAPE)
    tissue, inside = made.drawing.tissue, made.drawing.mask
    rng = np.random.default_rng([seed, VENDORS.index(vendor)])
    fine, rim = tissue ** (0.85 + 0.3 * rng.random()), np.minimum(1, tissue / 0.1)
    values = {
        "ge": 2500 * rim + (850 + 250 * rng.random()) * fine,  # all tissue in the upper quarter of the range
        "hologic": 1500 * (0.8 + 0.4 * rng.random()) * rim + 2200 * fine,
        "other": 4000 * (0.7 + 0.3 * rng.random()) * fine,
        "film": 300 + 900 * rim + 2600 * fine,
    }[vendor]
    air = {"ge": 30, "hologic": 0, "other": 0, "film": 300}[vendor]
    noise = rng.normal(0, 8, SHAPE) if air else 0
    stored = np.clip(np.rint(np.where(inside, values, air) + noise), 0, 4095).astype(np.uint16)
    return decode(file_bytes(dataset(stored, 12, view=view), stored)), inside


def brightness(intensity: Intensity) -> dict[str, list[tuple[float, float]]]:
    """Of each vendor's breasts: mean inside the true outline, and the span of its 5th to 95th percentile."""
    pipeline = Pipeline(segment=Segment(method="otsu_log"), intensity=intensity)
    found: dict[str, list[tuple[float, float]]] = {}
    for vendor in VENDORS:
        for seed in range(12):
            views = [drawn_as(vendor, seed, view) for view in (CC, MLO)]
            crops = [crop_image(image, segment(image, pipeline.segment), pipeline) for image, _ in views]
            tables, _ = normalization(crops, intensity)
            inside = np.concatenate([t[image.stored][mask] for t, (image, mask) in zip(tables, views, strict=True)])
            low, high = np.percentile(inside, (5, 95))
            found.setdefault(vendor, []).append((float(inside.mean()), float(high - low)))
    return found


def separability(means: dict[str, list[float]]) -> float:
    """Mean AUC, over pairs of vendors, of the best threshold on mean brightness."""
    pairs = [(means[a], means[b]) for i, a in enumerate(VENDORS) for b in VENDORS[i + 1 :]]
    areas = [np.greater.outer(a, b).mean() for a, b in pairs]
    return float(np.mean([max(area, 1 - area) for area in areas]))


@pytest.mark.slow
def test_the_breasts_own_range_makes_vendors_alike() -> None:
    """By the whole crop a threshold on mean brightness tells the vendors; by the breast it hardly does."""
    settings = {"crop": Intensity(), "breast": BREAST, "alike": ALIKE}
    measured = {name: brightness(each) for name, each in settings.items()}
    areas = {name: separability({v: [mean for mean, _ in rows] for v, rows in each.items()}) for name, each in measured.items()}
    spans = {name: {v: np.median([span for _, span in rows]) for v, rows in each.items()} for name, each in measured.items()}
    assert areas["crop"] > 0.9
    assert areas["breast"] < 0.7
    assert areas["alike"] <= 0.65
    assert spans["crop"]["ge"] < 0.25
    assert min(spans["breast"].values()) >= 0.5
    assert min(spans["alike"].values()) >= 0.5


def test_the_recommended_pipelines_make_vendors_alike() -> None:
    assert {load_pipeline(name)[1].intensity for name in ("each", "antialiased")} == {ALIKE}


@pytest.mark.parametrize("target", [0.2, 0.35, 0.8])
def test_the_median_of_the_breast_becomes_what_is_asked(target: float) -> None:
    """The order of values stays, and so do both ends."""
    _, _, plain, limits = one_view(BREAST)
    image, found, bent, same = one_view(BREAST.model_copy(update={"median": target}))
    assert same == limits
    np.testing.assert_array_equal(bent[plain == 0], 0)
    np.testing.assert_array_equal(bent[plain == 1], 1)
    assert (np.diff(bent[np.argsort(plain, kind="stable")]) >= 0).all()
    crop = crop_image(image, found, Pipeline(segment=Segment(method="otsu_log"), intensity=BREAST))
    stored, mask = crop.real_pixels()
    assert mask is not None
    inside = stored[mask > 0]
    assert np.median(bent[inside]) == pytest.approx(target, abs=0.01)


def one_view(intensity: Intensity) -> tuple[DecodedImage, Segmentation, NDArray[np.float64], tuple[float, float]]:
    image, _ = drawn_as("ge", 3, CC)
    pipeline = Pipeline(segment=Segment(method="otsu_log"), intensity=intensity)
    found = segment(image, pipeline.segment)
    (values,), (limits,) = normalization([crop_image(image, found, pipeline)], intensity)
    return image, found, values, limits


def test_the_range_is_that_of_the_outline_without_its_rim() -> None:
    image, found, values, (low, high) = one_view(replace_percentiles((0, 100)))
    assert found.mask is not None
    inside = np.repeat(np.repeat(found.mask > 0, found.step, 0), found.step, 1)[: SHAPE[0], : SHAPE[1]]
    outline = image.values[image.stored][: inside.shape[0], : inside.shape[1]][inside]
    assert outline.min() < 1000 < low  # the skin's dark rim does not set the lower end
    assert high == outline.max()
    assert values[:31].max() == 0  # air is clipped to 0
    assert values[int(low)] == 0
    assert values[int(high)] == 1


def replace_percentiles(percentiles: tuple[float, float]) -> Intensity:
    return Intensity(method="percentiles", percentiles=percentiles, region="breast")


def test_an_image_without_an_outline_takes_the_range_of_its_crop() -> None:
    noise = np.random.default_rng(0).integers(100, 4000, SHAPE).astype(np.uint16)
    image = decode(file_bytes(dataset(noise, 12), noise))
    pipeline = Pipeline(segment=Segment(method="otsu_log"), intensity=BREAST)
    found = segment(image, pipeline.segment)
    assert Flag.CC_CROP_FALLBACK in found.flags
    by_crop = pipeline.model_copy(update={"intensity": BREAST.model_copy(update={"region": "crop"})})
    expected = normalization([crop_image(image, found, by_crop)], by_crop.intensity)[1]
    assert normalization([crop_image(image, found, pipeline)], BREAST)[1] == expected


def test_a_mirrored_breast_has_the_same_range() -> None:
    left, _ = drawn_as("hologic", 5, MLO)
    right = replace(left, stored=left.stored[:, ::-1].copy(), chest_wall=left.chest_wall.opposite)  # type: ignore[arg-type]
    pipeline = Pipeline(
        segment=Segment(method="otsu_log"), intensity=BREAST, fuse=Fuse(canonical_side="left"), resize=Resize(method="area")
    )
    samples = [fuse((i, i), (segment(i, pipeline.segment),) * 2, pipeline) for i in (left, right)]
    assert samples[0].intensity_range.tolist() == samples[1].intensity_range.tolist()


def test_the_breasts_range_needs_an_outline() -> None:
    with pytest.raises(ValueError, match=r"intensity.region 'breast' needs a segment.method"):
        Pipeline(intensity=Intensity(region="breast"))


# --- voi: auto --------------------------------------------------------------------------------------------------------


def decoded(voi: Any, **tags: Any) -> DecodedImage:
    made = breast(1)
    return decode(file_bytes(dataset(made.pixels, 12, **tags), made.pixels), Laterality.LEFT, voi)


def test_auto_applies_the_window_that_is_valid() -> None:
    window = {"WindowCenter": 1500, "WindowWidth": 2000}
    assert np.array_equal(decoded("auto", **window).values, decoded("window", **window).values)
    assert decoded("auto", **window).flags == decoded("window", **window).flags


@pytest.mark.parametrize("window", [{"WindowWidth": 0}, {"VOILUTFunction": "CUBIC"}, {"WindowWidth": [100, 200]}])
def test_auto_takes_the_lut_where_the_window_is_invalid(window: dict[str, Any]) -> None:
    tags = {"WindowCenter": 1500, "WindowWidth": 2000, **window, "VOILUTSequence": table(list(range(0, 65536, 16)), 0)}
    found = decoded("auto", **tags)
    assert np.array_equal(found.values, decoded("lut", **tags).values)
    assert Flag.VOI_INVALID in found.flags


def test_auto_takes_the_values_where_nothing_is_there_or_valid() -> None:
    plain = decoded("none")
    absent, invalid = decoded("auto"), decoded("auto", WindowCenter=1500, WindowWidth=-3)
    assert np.array_equal(absent.values, plain.values)
    assert Flag.VOI_ABSENT in absent.flags
    assert np.array_equal(invalid.values, plain.values)
    assert Flag.VOI_INVALID in invalid.flags


@pytest.mark.parametrize("center", [-50_000, 60_000])
def test_auto_passes_over_a_window_that_leaves_nothing_of_the_image(center: int) -> None:
    found = decoded("auto", WindowCenter=center, WindowWidth=100)
    assert np.array_equal(found.values, decoded("none").values)
    assert Flag.VOI_INVALID in found.flags


@pytest.mark.parametrize("window", [(128, 256), (40, 80), (127.5, 255)])
@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
def test_auto_passes_over_a_window_that_leaves_a_silhouette(window: tuple[float, float], photometric: str) -> None:
    """That of 8 bits on an image of 12: nearly all of the breast would be white, or, in a negative, the air black."""
    center, width = window if photometric == "MONOCHROME2" else (4095 - window[0], window[1])
    pixels = breast(1).pixels if photometric == "MONOCHROME2" else 4095 - breast(1).pixels
    tags = {"WindowCenter": center, "WindowWidth": width, "PhotometricInterpretation": photometric}
    data = file_bytes(dataset(pixels, 12, **tags), pixels)
    found = decode(data, Laterality.LEFT, "auto")
    assert np.array_equal(found.values, decode(data, Laterality.LEFT, "none").values)
    assert Flag.VOI_INVALID in found.flags


def test_a_window_that_leaves_a_silhouette_is_flagged_where_it_is_asked_for() -> None:
    found = decoded("window", WindowCenter=128, WindowWidth=256)
    assert np.ptp(found.values) > 0
    assert not np.array_equal(found.values, decoded("none").values)
    assert found.flags == Flag.VOI_INVALID
    wide = {"WindowCenter": 30_000, "WindowWidth": 60_000}  # a tenth of the output's range, of which nothing is lost
    assert decoded("window", **wide).flags == Flag(0)
    assert decoded("auto").flags == Flag.VOI_ABSENT


def test_auto_applies_a_window_that_saturates_a_part() -> None:
    tags = {"WindowCenter": 600, "WindowWidth": 1000}
    assert np.array_equal(decoded("auto", **tags).values, decoded("window", **tags).values)
    assert Flag.VOI_INVALID not in decoded("auto", **tags).flags


def test_auto_looks_at_tissue_alone() -> None:
    """Neither at letters far above it, nor at padding far below the air."""
    pixels = breast(1).pixels.astype("u2") + 2000
    pixels[:40] = 0
    pixels[50:70, 5:50:3] = 65535
    tags = {"WindowCenter": 3600, "WindowWidth": 3400, "PixelPaddingValue": 0}
    data = file_bytes(dataset(pixels, 16, **tags), pixels)
    found = decode(data, Laterality.LEFT, "auto")
    assert Flag.VOI_INVALID not in found.flags
    assert np.array_equal(found.values, decode(data, Laterality.LEFT, "window").values)


# --- the audit --------------------------------------------------------------------------------------------------------


def test_brightness_by_vendor_against_a_slow_count() -> None:
    """Every pair of images compared; a vendor of few images is left out."""
    rng = np.random.default_rng(0)
    rows = [
        (vendor, (Brightness(mean, 0.2), Brightness(round(float(rng.random()), 1), 0.6)))
        for vendor, mean in (("A", 0.2), ("B", 0.8))
        for _ in range(9)
    ]
    before, after = brightness_reports([*rows, ("C", rows[0][1]), ("A", ())])
    assert [(v.vendor, v.images, v.mean, v.span) for v in before.vendors] == [("A", 9, 0.2, 0.2), ("B", 9, 0.8, 0.2)]
    assert before.auc == 1
    first, second = ([found[1].mean for vendor, found in rows if vendor == name] for name in "AB")
    wins = sum((a > b) + (a == b) / 2 for a in first for b in second) / 81
    assert after.auc == pytest.approx(max(wins, 1 - wins), abs=6e-4)


def test_brightness_of_an_image_is_that_inside_its_outline() -> None:
    image, _ = drawn_as("ge", 2, CC)
    found = segment(image, Segment(method="otsu_log"))
    assert found.mask is not None
    inside = np.repeat(np.repeat(found.mask > 0, found.step, 0), found.step, 1)[: SHAPE[0], : SHAPE[1]]
    for measured, intensity in zip(measure_brightness(image, found), NORMALIZATIONS.values(), strict=True):
        pipeline = Pipeline(segment=Segment(method="otsu_log"), intensity=intensity)
        (table,), _ = normalization([crop_image(image, found, pipeline)], intensity)
        values = table[image.stored][inside]
        low, high = np.percentile(values, (5, 95), method="inverted_cdf")
        assert measured.mean == pytest.approx(values.mean(), abs=1e-9)
        assert measured.span == pytest.approx(high - low, abs=1e-3)
