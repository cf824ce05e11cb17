"""Which pipeline keeps small lesions visible, and whether a magnified part of the breast helps: the table of docs/adaptive.md.

Every variant gives samples of the same simulated breasts (`fvpipe phantom --form lesions`), judged by the model observer of
`fvpipe compare`. A zoom magnifies what a saliency map says, twofold: the breast's own map; controls that know nothing of
the breast (a random window, another breast's map, the own map upside down), which a zoom must beat to prove anything; and an
oracle that knows where the lesion is. Simulated data alone: nothing follows for real lesions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import chain
from multiprocessing import get_context

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import Report, Setup
from fvpipe.comparison.detectability import Detectability, ObserverScores
from fvpipe.comparison.observer import WIDER, sample_features
from fvpipe.config.pipeline import Pipeline, load_pipeline
from fvpipe.imaging.decoded_image import DecodedImage
from fvpipe.imaging.fusion import fuse
from fvpipe.imaging.normalize import crop_image, normalization
from fvpipe.imaging.resample import NormalizedCrop
from fvpipe.imaging.segmentation.segment import Segmentation, segment
from fvpipe.imaging.segmentation.thumbnail import Mask
from fvpipe.imaging.warp import INTERVALS, Floats, Warp, outline_widths, source_arrays, stretched, warped_means
from fvpipe.shards.coordinates import coordinates_of
from fvpipe.simulation.dicom_file import SimulatedImage, dicom_bytes
from fvpipe.simulation.lesions import draw_patient
from fvpipe.types import SCALES, CropBox, Edge, FusedSample, Laterality
from tests.support.decoding import decode

NOISES = (64.0, 80.0)  # of 255
GRID = (64, 32)  # of a saliency map: rows of the crop box, shares of the width
ZOOM = 2.0
WINDOW = (16, 8)  # of the grid: a random one
BANDS = (2.0, 4.0)  # of the map, in pixels of four times the grid
LARGER = "cropped, 1.25 x the size"
PIPELINES = ("direct", "cropped", LARGER, "each", "adaptive")
MAPS = ("own map", "another breast's map", "own map upside down", "random window", "oracle")
ZOOMS = tuple(f"adaptive, zoom by {name}" for name in MAPS)
DIFFERENCES = (
    ("cropped", "direct"),
    ("each", "cropped"),
    (LARGER, "cropped"),
    ("adaptive", "each"),
    ("adaptive", "cropped"),
    *((zoom, "adaptive") for zoom in ZOOMS),
    (ZOOMS[0], ZOOMS[1]),
)


@dataclass(frozen=True)
class Judged:
    """One breast; of the sample by each variant the share of breast in it, the pixels of its lesions, and features by noise."""

    label: int
    patient: str
    breast: dict[str, float] = field(default_factory=dict)
    lesions: dict[str, list[float]] = field(default_factory=dict)
    features: dict[tuple[str, float], Floats] = field(default_factory=dict)


def run(setup: Setup) -> Report:
    """Judge all variants on a cohort; with `--full`, on three of fresh seeds."""
    report = Report("Pipelines and controls, by the model observer")
    for seed, patients in setup.size(((0, 6),), ((0, 40),), ((1, 80), (2, 80), (3, 320))):
        setup.say(f"compare: {patients} simulated patients, seed {seed}")
        judged = _judge(patients, seed)
        _describe(report, judged, seed)
        for noise in NOISES:
            _compare(report, judged, seed, noise, setup.size(10, 200, 400))
    return report


def _judge(patients: int, seed: int) -> list[Judged]:
    chunks = [(seed, first, min(first + 2, patients)) for first in range(0, patients, 2)]  # each patient has another beside
    with ProcessPoolExecutor(2, get_context("forkserver")) as pool:
        return list(chain.from_iterable(pool.map(_judge_patients, chunks)))


def _judge_patients(chunk: tuple[int, int, int]) -> list[Judged]:
    cv2.setNumThreads(1)
    seed, first, last = chunk
    drawn = [image for patient in range(first, last) for image in draw_patient(patient, seed)]
    breasts = [_Breast.of(pair) for pair in zip(drawn[::2], drawn[1::2], strict=True)]
    found = []
    for i, breast in enumerate(breasts):
        judged = Judged(breast.label, breast.patient)
        other = breasts[(i + 2) % len(breasts)]  # of the other patient
        for name, sample in _samples(breast, other, np.random.default_rng([seed, 3, first, i])):
            image = (sample.image * np.float32(SCALES[sample.image.dtype.name])).astype(np.float32)
            judged.breast[name] = _breast_share(breast, sample)
            judged.lesions[name] = _lesion_pixels(breast, sample)
            for noise in NOISES:
                judged.features[name, noise] = sample_features(image, sample.placement, breast.name, noise / 255)
        found.append(judged)
    return found


@dataclass(frozen=True)
class _Breast:
    """Both views of a simulated breast, decoded and segmented, with their true outlines and the boxes of its lesion."""

    name: str
    patient: str
    label: int
    masks: list[Mask]
    images: list[DecodedImage]
    outlines: list[Segmentation]
    lesions: list[CropBox]
    crops: list[NormalizedCrop]
    widths: list[Floats | None]

    @staticmethod
    def of(pair: Sequence[SimulatedImage]) -> _Breast:
        tags, adaptive = pair[0].tags, load_pipeline("adaptive")[1]
        images = [decode(dicom_bytes(image), Laterality(tags["ImageLaterality"])) for image in pair]
        outlines = [segment(image, adaptive.segment) for image in images]
        crops = [crop_image(image, outline, adaptive) for image, outline in zip(images, outlines, strict=True)]
        tables, _ = normalization(crops, adaptive.intensity)
        return _Breast(
            name=f"{tags['PatientID']}{tags['ImageLaterality']}",
            patient=tags["PatientID"],
            label=int(pair[0].drawing.lesion is not None),
            masks=[image.drawing.mask for image in pair],
            images=images,
            outlines=outlines,
            lesions=[image.drawing.lesion for image in pair if image.drawing.lesion],
            crops=[NormalizedCrop(crop, table) for crop, table in zip(crops, tables, strict=True)],
            widths=[outline_widths(outline, crop.wall) for outline, crop in zip(outlines, crops, strict=True)],
        )


def _samples(breast: _Breast, other: _Breast, rng: np.random.Generator) -> Iterator[tuple[str, FusedSample]]:
    """Each variant's sample."""
    for name in PIPELINES:
        pipeline = load_pipeline("cropped" if name == LARGER else name)[1]
        if name == LARGER:
            pipeline = pipeline.model_copy(update={"size": (320, 320)})
        outlines = [segment(image, pipeline.segment) for image in breast.images]
        sample = fuse(breast.images, outlines, pipeline)
        yield name, sample
    adaptive, maps = load_pipeline("adaptive")[1], {i: _maps(breast, other, i, rng) for i in range(2)}
    for name, which in zip(ZOOMS, MAPS, strict=True):
        warps = _warps(breast, adaptive, {i: maps[i][which] for i in maps})
        if warps is None:  # an outline that is not warped: as in `each`
            yield name, sample
            continue
        top = np.iinfo(np.uint16).max
        means = [warped_means(crop, warp) for crop, warp in zip(breast.crops, warps, strict=True)]
        halves = [np.rint(half * top).astype(np.uint16) for half in means]
        placement = np.array([[0, 256, 0, 128], [0, 256, 128, 256]], np.float32)
        arrays = source_arrays(dict(enumerate(warps)), {i: crop.crop for i, crop in enumerate(breast.crops)}, (256, 128))
        yield name, replace(sample, image=np.hstack(halves), placement=placement, **arrays)


def _warps(breast: _Breast, pipeline: Pipeline, maps: Mapping[int, Floats]) -> list[Warp] | None:
    """Warps of both views, with the zoom of their maps; None where an outline is not warped."""
    warps = []
    for i, (outline, widths) in enumerate(zip(breast.outlines, breast.widths, strict=True)):
        if widths is None:
            return None
        densities = zoom_densities(maps[i], ZOOM)
        warps.append(zoomed(widths, outline.box, pipeline.resize.stretch, (256, 128), *densities))
    return warps


def zoom_densities(saliency: Floats, zoom: float) -> tuple[Floats, Floats]:
    """Compute densities of rows and columns that magnify salient ones up to `zoom` times as much as others.

    Parameters
    ----------
    saliency : float array, shape (n, m)
        In [0, 1], on evenly spaced rows of the crop box and evenly spaced shares of the width from the chest wall on.
    zoom : float
        At least 1.

    Returns
    -------
    rows, columns : float64 array, shape (n,) and (m,)
        For :func:`zoomed`.
    """
    return 1 + (zoom - 1) * saliency.max(axis=1), 1 + (zoom - 1) * saliency.max(axis=0)


def zoomed(
    widths: Floats, box: CropBox, stretch: float, size: tuple[int, int], row_density: Floats, column_density: Floats
) -> Warp:
    """Divide a crop box as :func:`fvpipe.imaging.warp.equal_area` does, into cells of equal mass instead of equal area.

    Parameters
    ----------
    widths, box, stretch, size
        As for :func:`fvpipe.imaging.warp.equal_area`.
    row_density, column_density : float64 array, shape (n,)
        Positive densities of evenly spaced rows of the crop box, and of evenly spaced shares of the width from the chest wall
        on, by which the output's rows and columns are more closely spaced.
    """
    widths = stretched(widths, box, stretch)
    knots = np.arange(INTERVALS + 1, dtype=np.float64) * (box.height / INTERVALS)
    columns = _equal_masses(np.array([0.0, 1.0]), np.ones(2), column_density, size[1])
    return Warp(box.top + _equal_masses(knots, widths, row_density, size[0]), columns, widths)


def _equal_masses(knots: Floats, heights: Floats, density: Floats, count: int) -> Floats:
    """Edges that divide a mass into `count` equal ones: `heights`, linear between knots, times a piecewise constant density."""
    every = np.union1d(knots, np.arange(len(density) + 1) * (knots[-1] / len(density)))
    every = every[every <= knots[-1]]
    at = np.clip(np.searchsorted(knots, every, side="right") - 1, 0, len(knots) - 2)
    slopes = np.diff(heights) / np.diff(knots)
    level = heights[at] + slopes[at] * (every - knots[at])
    rise, length = slopes[at[:-1]], np.diff(every)
    factor = density[np.minimum((every[:-1] * (len(density) / knots[-1]) + 1e-9).astype(np.int64), len(density) - 1)]
    masses = np.concatenate([[0.0], np.cumsum(length * (level[:-1] + level[1:]) * 0.5 * factor)])
    wanted = np.arange(1, count) * (masses[-1] / count)
    i = np.clip(np.searchsorted(masses, wanted, side="right") - 1, 0, len(length) - 1)
    rest = (wanted - masses[i]) / factor[i]  # = level * x + rise * x^2 / 2
    inner = every[i] + 2 * rest / (level[i] + np.sqrt(np.maximum(level[i] * level[i] + 2 * rise[i] * rest, 0.0)))
    return np.concatenate([knots[:1], inner, knots[-1:]])


def _maps(breast: _Breast, other: _Breast, i: int, rng: np.random.Generator) -> dict[str, Floats]:
    """Saliency of one view on :data:`GRID`, by name."""
    window, oracle = np.zeros(GRID), np.zeros(GRID)
    row, column = (int(rng.integers(length - size)) for length, size in zip(GRID, WINDOW, strict=True))
    window[row : row + WINDOW[0], column : column + WINDOW[1]] = 1
    widths, box = breast.widths[i], breast.outlines[i].box
    if breast.label and widths is not None:
        down, across = _on_grid(breast.lesions[i], widths, box, breast.crops[i].crop.wall)
    else:
        down, across = float(rng.uniform(0.2, 0.8)), float(rng.uniform(0.2, 0.8))
    row, column = int(down * GRID[0]), int(across * GRID[1])
    oracle[max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3] = 1
    own, others = _saliency(breast, i), _saliency(other, i)
    return dict(zip(MAPS, (own, others, own[::-1], window, oracle), strict=True))


def _on_grid(lesion: CropBox, widths: Floats, box: CropBox, wall: Edge) -> tuple[float, float]:
    """Center of a lesion as shares of the crop box's height and of the row's width from the chest wall."""
    row, column = (lesion.top + lesion.bottom) / 2, (lesion.left + lesion.right) / 2
    down = (row - box.top) / box.height
    width = float(np.interp(down, np.linspace(0, 1, INTERVALS + 1), widths))
    return down, min((column - box.left if wall is Edge.LEFT else box.right - column) / width, 0.999)


def _saliency(breast: _Breast, i: int) -> Floats:
    """What is brighter than its surroundings, on :data:`GRID`, the strongest being 1; it knows nothing of lesions."""
    widths, box = breast.widths[i], breast.outlines[i].box
    if widths is None:
        return np.zeros(GRID)
    rows, columns = (4 * length for length in GRID)
    even = Warp(np.linspace(box.top, box.bottom, rows + 1), np.linspace(0, 1, columns + 1), np.maximum(widths, 1.0))
    image = warped_means(breast.crops[i], even)
    bands = [cv2.GaussianBlur(image, (0, 0), s) - cv2.GaussianBlur(image, (0, 0), s * WIDER) for s in BANDS]
    strongest = np.maximum(np.max(bands, axis=0), 0).reshape(GRID[0], 4, GRID[1], 4).max(axis=(1, 3))
    saliency: Floats = strongest / max(float(strongest.max()), 1e-9)
    return saliency


def _breast_share(breast: _Breast, sample: FusedSample) -> float:
    """Share of the sample's pixels that show breast, by the true outline."""
    shown = 0.0
    for i, mask in enumerate(breast.masks):
        top, bottom, left, right = sample.boxes[i].tolist()
        inside = np.ascontiguousarray(mask[top:bottom, left:right]).view(np.uint8)
        (outline, *_), _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        columns, rows = outline[:, 0].T
        shown += _area(sample, i, rows + top, columns + left)
    return shown / float(np.prod(sample.image.shape[-2:]))


def _lesion_pixels(breast: _Breast, sample: FusedSample) -> list[float]:
    """Pixels of the sample under the lesion's box in each view."""
    corners = [
        ([box.top, box.top, box.bottom, box.bottom], [box.left, box.right, box.right, box.left]) for box in breast.lesions
    ]
    return [_area(sample, i, *(np.array(each) for each in corner)) for i, corner in enumerate(corners)]


def _area(sample: FusedSample, view: int, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> float:
    """Area in the sample of a polygon of source pixels."""
    mapped = np.stack(coordinates_of(sample, view).to_image(rows, columns), axis=1)
    return float(cv2.contourArea(mapped.astype(np.float32)))


# --- report -----------------------------------------------------------------------------------------------------------


def _describe(report: Report, judged: list[Judged], seed: int) -> None:
    malignant = sum(each.label for each in judged)
    title = f"Samples of {len(judged)} simulated breasts, {malignant} malignant, seed {seed}"
    table = report.table(title, "variant", "breast in the sample", "lesion pixels", "/ cropped", "views with a lesion")
    base = np.concatenate([each.lesions["cropped"] for each in judged])
    for name in (*PIPELINES, *ZOOMS):
        pixels = np.concatenate([each.lesions[name] for each in judged])
        share = float(np.median([each.breast[name] for each in judged]))
        table.add_row(name, f"{share:.2f}", f"{np.median(pixels):.0f}", f"{np.median(pixels / base):.2f}", str(len(pixels)))
        report.values[f"{seed} breast in {name}"] = share
        report.values[f"{seed} lesion pixels in {name}"] = float(np.median(pixels / base))


def _compare(report: Report, judged: list[Judged], seed: int, noise: float, replicates: int) -> None:
    labels, patients = np.array([each.label for each in judged], np.int64), [each.patient for each in judged]
    columns = ("first", "second", "AUC of the first", "of the second", "difference (95 %)", "verdict")
    table = report.table(f"Model observer, noise {noise:g} of 255, seed {seed}", *columns)
    for first, second in DIFFERENCES:
        both = [np.array([each.features[name, noise] for each in judged]) for name in (first, second)]
        found = ObserverScores.of((both[0], both[1]), labels, patients, replicates).of_group("all", labels >= 0)
        table.add_row(first, second, *_shown(found))
        report.values[f"{seed} {noise:g} {first}"] = found.first.value or 0.0
        report.values[f"{seed} {noise:g} {second}"] = found.second.value or 0.0


def _shown(found: Detectability) -> tuple[str, ...]:
    of = found.difference
    interval = f"{of.value or 0:+.3f} ({of.low or 0:+.3f} to {of.high or 0:+.3f})"
    return (
        f"{found.first.value or 0:.3f}",
        f"{found.second.value or 0:.3f}",
        interval,
        found.verdict_text("the first", "the second"),
    )
