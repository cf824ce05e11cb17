"""How alike a normalization makes vendors: simulated breasts in four styles of intensities, by mean brightness.

`python -m benchmarks.intensity [COUNT] [FIRST]` takes COUNT breasts of each style (20), from seed FIRST (30000) on. Printed is
the mean AUC, over pairs of styles, with which a threshold on mean brightness tells one from the other (.5 is chance, and about
.57 is expected of 20 against 20 alike), and of each style the mean and the span from the 5th to the 95th percentile.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from fvpipe.config.pipeline import Intensity, Pipeline, Segment, load_pipeline
from fvpipe.imaging.normalize import crop_image, normalization
from fvpipe.imaging.segmentation.segment import segment
from tests.support.archive import STYLES, ArchiveImage, archive_case, draw_archive


def main() -> None:
    """Print one line for each normalization and style."""
    count, first = map(int, (sys.argv[1:] + ["20", "30000"][len(sys.argv) - 1 :])[:2])
    images = _drawn(count, first)
    recommended = load_pipeline("each")[1].intensity
    settings = {
        "minimum and maximum of the crop": Intensity(),
        "percentiles 0.1 and 99.9 of the crop": Intensity(method="percentiles"),
        "percentiles of the breast": recommended.model_copy(update={"median": None}),
        "the same, and the median": recommended,
    }
    for name, intensity in settings.items():
        measured = {style: [_brightness(image, intensity) for image in images[style]] for style in STYLES}
        areas = [_separability(measured[a], measured[b]) for a, b in combinations(STYLES, 2)]
        print(f"{name}: AUC {np.mean(areas):.2f}")
        for style, values in measured.items():
            mean, span = np.median(values, axis=0)
            print(f"  {style:<9} mean {mean:.2f}, span {span:.2f}, least span {min(s for _, s in values):.2f}")


def _drawn(count: int, first: int) -> dict[str, list[ArchiveImage]]:
    images: dict[str, list[ArchiveImage]] = defaultdict(list)
    seed = first
    while any(len(images[style]) < count for style in STYLES):
        case = archive_case(seed, [], longest=480)
        if len(images[case.style]) < count:
            images[case.style].append(draw_archive(case))
        seed += 1
    return images


def _brightness(made: ArchiveImage, intensity: Intensity) -> tuple[float, float]:
    pipeline = Pipeline(segment=Segment(method="otsu_log"), intensity=intensity)
    crop = crop_image(made.image, segment(made.image, pipeline.segment), pipeline)
    (table,), _ = normalization([crop], intensity)
    inside: NDArray[np.float64] = table[made.image.stored][made.breast]
    low, high = np.percentile(inside, (5, 95))
    return float(inside.mean()), float(high - low)


def _separability(first: list[tuple[float, float]], second: list[tuple[float, float]]) -> float:
    a, b = (np.array([mean for mean, _ in values]) for values in (first, second))
    area = float(np.greater.outer(a, b).mean())
    return max(area, 1 - area)


if __name__ == "__main__":
    main()
