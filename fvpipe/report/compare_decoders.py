"""Comparison of images as fvpipe reads them with another library's reading: size, values, polarity."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from fvpipe.config.pipeline import Pipeline
from fvpipe.dicom.decoding.decoders import lossy_decoder
from fvpipe.dicom.decoding.second_reader import LIBRARIES, UnreadableError, library_version, read_values
from fvpipe.dicom.orientation import put_upright
from fvpipe.execution.isolation import Crash
from fvpipe.execution.workers import Workers
from fvpipe.imaging.decoded_image import DecodedImage
from fvpipe.imaging.histogram import bands
from fvpipe.indexing.index import Index
from fvpipe.printable import LINE_COLUMNS
from fvpipe.reasons import Rejection
from fvpipe.report.measurements.measure import ImageTask, read_image, run_on_images

LOSSY_STEPS = 2  # stored values by which decoders of lossy syntaxes may differ; those of lossless ones must agree
ROUNDING = 1e-6  # of the step of one stored value: float arithmetic in another order


@dataclass(frozen=True, slots=True)
class Difference:
    """How another library's reading of an image differs."""

    # size, polarity (light and dark are exchanged), rescale (all values differ by one factor and offset), or pixels
    what: str
    detail: str  # of size and rescale, what was found
    largest: float | None  # largest absolute difference of values; None where the sizes differ
    row: int  # where it is, first in reading order
    column: int
    share: float  # share of pixels that differ by more than the tolerance


@dataclass(frozen=True, slots=True)
class ComparedImage:
    """Result of one image."""

    path: str  # relative to the input folder
    library: str = ""  # the library that read it; empty if none could
    difference: Difference | None = None  # None where it agrees, or was not read
    # Where it differs: what each other library says, as `Difference.what`, "same" or "unread"
    others: tuple[tuple[str, str], ...] = ()
    unread: str = ""  # why no library could read it


@dataclass(frozen=True, slots=True)
class DecoderComparison:
    """Results of a comparison."""

    dataset: str
    images: int  # that passed the header rules; the sample was drawn of them
    seed: int
    rejected: int  # files that are rejected, by their header or, of the sample, by their pixels: they are not compared
    read_by: dict[str, int]  # number of compared images by library and version
    differing: tuple[ComparedImage, ...]  # by path
    unread: tuple[ComparedImage, ...]  # those that no library could read, by path


def compare_decoders(found: Index, size: int | None, seed: int, workers: Workers) -> DecoderComparison:
    """Compare a sample of a data set.

    Parameters
    ----------
    size : int or None
        Number of images; None: all.
    seed : int
        Chooses the sample: the same for any order of the files.
    workers : Workers
        Where images are decoded.

    Raises
    ------
    InputError
        A file changed since it was indexed.
    ClusterError
        The workers failed.
    """
    ranked = sorted(found.images, key=lambda image: (blake3(f"{seed}/{image.path}".encode()).hexdigest(), image.path))
    images = {image.path for image in found.images}
    compared, rejected = list[ComparedImage](), sum(r.what in found.files and r.what not in images for r in found.rejections)
    for each in run_on_images(found, ranked[:size], Pipeline(), compare_images, workers, "compare"):
        if isinstance(each, Crash):
            compared.append(ComparedImage(each.task.record.path, unread=each.detail))
        elif isinstance(each, Rejection):
            rejected += 1
        else:
            compared.append(each)
    compared.sort(key=lambda image: image.path)
    counts = Counter(image.library for image in compared if image.library)
    return DecoderComparison(
        dataset=found.source.name,
        images=len(found.images),
        seed=seed,
        rejected=rejected,
        read_by={library_version(library): counts[library] for library in LIBRARIES if counts[library]},
        differing=tuple(image for image in compared if image.difference),
        unread=tuple(image for image in compared if not image.library),
    )


def compare_images(tasks: Sequence[ImageTask]) -> list[ComparedImage | Rejection]:
    """Compare images on a worker."""
    return [_compare(task) for task in tasks]


def _compare(task: ImageTask) -> ComparedImage | Rejection:
    image = read_image(task)
    if isinstance(image, Rejection):
        return image
    steps = LOSSY_STEPS if lossy_decoder(task.record.transfer_syntax_uid) else 0
    found: dict[str, Difference | None] = {}
    reasons = []
    for library in LIBRARIES:
        try:
            inverted = task.record.photometric_interpretation == "MONOCHROME1"
            theirs = read_values(library, Path(task.root) / task.record.path, inverted=inverted)
            # Other libraries leave an image as it is stored.
            found[library] = _difference(image, put_upright(theirs, task.record.orientation), steps)
        except UnreadableError as error:
            reasons.append(f"{library}: {error}")
        else:
            if found[library] is None:
                break
    if not found:
        return ComparedImage(task.record.path, unread="; ".join(reasons))
    first = next(iter(found))
    words = {library: difference.what if difference else "same" for library, difference in found.items()}
    others = [(library, words.get(library, "unread")) for library in LIBRARIES if library != first]
    return ComparedImage(task.record.path, first, found[first], tuple(others) if found[first] else ())


def _difference(image: DecodedImage, theirs: NDArray[Any], lossy_steps: int) -> Difference | None:
    """Compare all pixels; equal values mean equal stored values, since rescale and polarity keep them apart."""
    if theirs.shape != image.shape:
        sizes = f"{theirs.shape[0]} x {theirs.shape[1]}, here {image.shape[0]} x {image.shape[1]}"
        return Difference("size", sizes, None, 0, 0, 1.0)
    step = float(np.abs(np.diff(image.values)).max())
    tolerance = (lossy_steps + ROUNDING) * step
    ends = (float(image.values.min()), float(image.values.max())) if lossy_steps else None  # some codecs clip an overshoot
    pairs = partial(_bands, image, theirs, ends)
    largest, place, count, done = -1.0, 0, 0, 0
    for ours, other in pairs():
        apart = np.abs(ours - other)
        if float(apart.max()) > largest:
            largest, place = float(apart.max()), done + int(apart.argmax())
        count += int((apart > tolerance).sum())
        done += ours.size
    if not count:
        return None
    row, column = divmod(place, image.shape[1])
    what, detail = _kind(pairs, image.stored.size, 2 * tolerance + step / 1000)
    return Difference(what, detail, largest, row, column, count / image.stored.size)


def _bands(
    image: DecodedImage, theirs: NDArray[Any], ends: tuple[float, float] | None
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Values here and there, part by part: no whole image is in memory as float64."""
    top = 0
    for part in bands(image.stored):
        other = theirs[top : top + len(part)].astype(np.float64)
        yield image.values[part], other if ends is None else np.clip(other, *ends)
        top += len(part)


def _kind(
    pairs: Callable[[], Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]], count: int, tolerance: float
) -> tuple[str, str]:
    """Kind and detail of a difference, from the line fitted through (value here, value there): falling, exact, or neither."""
    means = np.sum([[ours.sum(), other.sum()] for ours, other in pairs()], axis=0) / count
    centered = ((ours - means[0], other - means[1]) for ours, other in pairs())
    xx, yy, xy = np.sum([[(x * x).sum(), (y * y).sum(), (x * y).sum()] for x, y in centered], axis=0)
    if xy < -0.5 * math.sqrt(xx * yy):
        return "polarity", "light and dark are exchanged"
    slope = xy / xx if xx else 0.0
    offset = means[1] - slope * means[0]
    if slope > 0 and all(bool((np.abs(slope * ours + offset - other) <= slope * tolerance).all()) for ours, other in pairs()):
        return "rescale", f"{slope:.6g} x the value here {offset:+.6g}"
    return "pixels", ""


# --- text -------------------------------------------------------------------------------------------------------------


def comparison_text(result: DecoderComparison) -> str:
    """Format a comparison: a summary, then a line for each image that differs or that no library could read."""
    total = sum(result.read_by.values())
    readers = ", ".join(f"{library}: {count}" for library, count in result.read_by.items())
    lines = [
        f"{result.dataset}: {total} of {result.images} images compared (seed {result.seed}; {readers or 'no library'})",
        f"{total - len(result.differing)} agree, {len(result.differing)} differ, {len(result.unread)} could not be compared",
    ]
    if result.rejected:
        lines.append(f"{result.rejected} files rejected, not compared: see rejected.csv of a build, or `fvpipe audit`")
    if result.differing:
        lines.append(f"{'what':<9}{'largest':>9}{'row, column':>15}{'pixels':>9}  {'library':<11}{'other':<10} path")
    for image in result.differing:
        found = image.difference
        assert found is not None
        if found.largest is None:
            measured = f"{found.detail:>33}"
        else:
            measured = f"{found.largest:>9.6g}{f'{found.row}, {found.column}':>15}{found.share:>9.2%}"
        others = ", ".join(word for _, word in image.others)
        lines.append(_with_path(f"{found.what:<9}{measured}  {image.library:<11}{others:<10}", image.path))
    lines += [_with_path(f"{'unread':<9}{image.unread}", image.path) for image in result.unread]
    return "\n".join(lines)


def _with_path(line: str, path: str) -> str:
    """Append a path, shortened in the middle where the line is full; an unusual character is a question mark."""
    path, room = "".join(c if c.isprintable() else "?" for c in path), max(LINE_COLUMNS - len(line) - 1, 24)
    if len(path) > room:
        path = f"{path[: room // 3 - 3]}...{path[-(room - room // 3) :]}"
    return f"{line[: LINE_COLUMNS - 1 - len(path)]} {path}"
