"""Audit of a data set without building it: rejections, properties of the images, and the images to check by eye.

The workers go over the data set twice: first to measure every image, then to draw the few that are shown. The page has
the same bytes for any number of workers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fvpipe.cache.decoder_crashes import cached_crash, encode_crash
from fvpipe.cache.file_cache import FileCache
from fvpipe.config.pipeline import Pipeline
from fvpipe.execution.isolation import Crash
from fvpipe.execution.workers import Workers
from fvpipe.imaging.canvas import needed_views
from fvpipe.imaging.pixel_digest import unturned
from fvpipe.imaging.view_agreement import IDENTICAL_VIEWS, shared_flags
from fvpipe.indexing.index import Index
from fvpipe.indexing.pairing import rejection_order
from fvpipe.io.atomic import write_atomic
from fvpipe.reasons import NOT_BROKEN, CropVerdict, Flag, Reason, Rejection, crop_verdict
from fvpipe.report.html import data_uri, render
from fvpipe.report.inspect import view_flag_codes
from fvpipe.report.measurements.brightness import BrightnessReport, brightness_reports
from fvpipe.report.measurements.measure import ImageMeasurement, Preview, draw_previews, measure_images, run_on_images
from fvpipe.report.measurements.statistics import (
    Deviation,
    GroupReport,
    PairReport,
    count_values,
    group_reports,
    largest_deviations,
    pair_report,
)
from fvpipe.types import BreastKey, Digest
from fvpipe.versions import PREPROCESSING_VERSION

LISTED_REJECTIONS = 200  # rejected files that the page lists by name
KINDS = {
    "whole_frame": "no outline was accepted",
    "doubtful": "a part of the breast may lie outside",
    "loose": "more than the breast",
    "triangle": "the first threshold failed",
    "far": "unlike the others",
}


@dataclass(frozen=True, slots=True)
class WorstImage:
    """An image to check by eye."""

    path: str
    breast_id: str  # empty if it is not paired
    vendor: str
    view: str
    kind: str  # key of :data:`KINDS`
    why: str  # measurement that put it on the list
    flags: tuple[str, ...]  # names of its flags


@dataclass(frozen=True, slots=True)
class Audit:
    """Results of an audit, from which the page and the JSON are made."""

    dataset: str
    simulated: bool
    license: str
    pipeline: str  # whose window and segmentation were used
    pipeline_digest: str
    preprocessing_version: int
    files: int  # in the folder
    images: int  # by their headers
    breasts: int  # pairs
    measured: int  # images whose pixels were read
    rejections: Mapping[str, int]  # number by reason code
    rejected: tuple[Rejection, ...]  # faulty files and breasts
    flags: Mapping[str, int]  # number of images by flag; for the flags of shared pixels, of breasts
    methods: Mapping[str, int]  # number of images by segmentation method
    verdicts: Mapping[str, int]  # number of images by the verdict on their crop
    groups: tuple[GroupReport, ...]  # one per vendor and view
    pairs: PairReport  # CC against MLO
    brightness: tuple[BrightnessReport, ...]  # by vendor, after the paper's normalization and after the recommended one
    worst: tuple[WorstImage, ...]  # images to check by eye, the worst first

    def to_json(self) -> dict[str, Any]:
        """Convert to dictionaries, lists, strings and numbers."""
        data = asdict(self)
        data["made"] = data.pop("simulated")  # the key of the first version
        return data


def audit(
    found: Index, pipeline_name: str, pipeline: Pipeline, workers: Workers, file_cache: FileCache, limit: int
) -> tuple[Audit, dict[str, bytes]]:
    """Measure every image of a data set, and draw the worst.

    Parameters
    ----------
    pipeline_name : str
        Name of the pipeline, for the report.
    pipeline : Pipeline
        Window and segmentation to use.
    workers : Workers
        Workers that read the images.
    file_cache : FileCache
        Cache in which decoder crashes are looked up and stored.
    limit : int
        Number of images to draw.

    Returns
    -------
    audit : Audit
        Results.
    previews : dict of str to bytes
        JPEG of each of the worst images by path; without those that could not be drawn.

    Raises
    ------
    InputError
        If a file changed since it was indexed.
    ClusterError, StorageError
        If the workers fail or the cache cannot be written.
    """
    found = found.of_views(needed_views(pipeline))
    measured, unreadable = _measure(found, pipeline, workers, file_cache)
    rows = {row.record.path: row for row in measured}
    rejected = {rejection.what: rejection for rejection in unreadable}
    incomplete = [
        Rejection(breast.key.breast_id, Reason.VIEW_UNREADABLE, f"its {image.view} was rejected: {rejected[image.path].reason}")
        for breast in found.breasts
        for image in [next((image for image in breast.images if image.path in rejected), None)]
        if image and not breast.without(rejected.keys(), needed_views(pipeline))
    ]
    identical, shared = _compare_breasts(found, rows)
    rejections = sorted([*found.rejections, *unreadable, *incomplete, *identical], key=rejection_order)
    ids = {image.path: breast.key.breast_id for breast in found.breasts for image in breast.images}
    deviations = largest_deviations(measured)
    verdicts = Counter(crop_verdict(row.flags) for row in measured if row.method != "none")
    worst = _worst_first(measured, deviations)[:limit]
    drawn = run_on_images(found, [row.record for row in worst], pipeline, draw_previews, workers, "draw")
    previews = {each.path: each for each in drawn if isinstance(each, Preview)}
    result = Audit(
        dataset=found.source.name,
        simulated=found.source.simulated,
        license=found.source.license,
        pipeline=pipeline_name,
        pipeline_digest=pipeline.digest(),
        preprocessing_version=PREPROCESSING_VERSION,
        files=len(found.files),
        images=len(found.images),
        breasts=len(found.breasts),
        measured=len(measured),
        rejections=count_values(rejection.reason.value for rejection in rejections),
        rejected=tuple(rejection for rejection in rejections if rejection.reason not in NOT_BROKEN),
        flags=count_values(name for flags in (*(row.flags for row in measured), *shared) for name in view_flag_codes(flags)),
        methods=count_values(row.method for row in measured),
        verdicts={verdict.value: verdicts[verdict] for verdict in CropVerdict},
        groups=group_reports(measured),
        pairs=pair_report(found.breasts, rows),
        brightness=brightness_reports([(row.vendor, row.brightness) for row in measured]),
        worst=tuple(_explain(row, deviations, previews.get(row.record.path), ids.get(row.record.path, "")) for row in worst),
    )
    return result, {path: preview.jpeg for path, preview in previews.items()}


def _measure(
    found: Index, pipeline: Pipeline, workers: Workers, file_cache: FileCache
) -> tuple[list[ImageMeasurement], list[Rejection]]:
    """Measure all images; measurements and rejections are sorted by path."""
    measured: list[ImageMeasurement] = []
    cached = ((image, file_cache.value(found.files[image.path], "crash")) for image in found.images)
    rejected = [crash for image, value in cached if (crash := cached_crash(image, pipeline, value))]
    crashed = {rejection.what for rejection in rejected}
    images = [image for image in found.images if image.path not in crashed]
    for each in run_on_images(found, images, pipeline, measure_images, workers, "audit"):
        if isinstance(each, Crash):
            record = each.task.record
            rejection = each.rejection(record.path)
            file_cache.put_values([(found.files[record.path], encode_crash(record, pipeline, rejection))], "crash")
            rejected.append(rejection)
        elif isinstance(each, Rejection):
            rejected.append(each)
        else:
            measured.append(each)
    return sorted(measured, key=lambda row: row.record.path), sorted(rejected, key=rejection_order)


def _compare_breasts(found: Index, rows: Mapping[str, ImageMeasurement]) -> tuple[list[Rejection], list[Flag]]:
    """Breasts whose views are one image, and the flags of those that share a view with another breast, as of a build."""
    digests: dict[BreastKey, list[Digest]] = {}
    identical = dict[str, Rejection]()
    for breast in found.breasts:
        measured = [row for image in breast.images if (row := rows.get(image.path)) and row.pixel_digest]
        if len(measured) == len(breast.images):
            digests[breast.key] = [row.pixel_digest for row in measured if row.pixel_digest]
            same = len(measured) > 1 and len(set(map(unturned, digests[breast.key]))) == 1
            if same and Flag.CC_CONSTANT not in measured[0].flags:
                breast_id = breast.key.breast_id
                detail = f"{' and '.join(image.path for image in breast.images)}: {IDENTICAL_VIEWS}"
                identical[breast_id] = Rejection(breast_id, Reason.IDENTICAL_VIEWS, detail)
    shared = [flags for breast_id, flags in shared_flags(digests.items()).items() if breast_id not in identical]
    return list(identical.values()), shared


# --- the worst images -------------------------------------------------------------------------------------------------


def _kind(row: ImageMeasurement) -> str:
    verdict = crop_verdict(row.flags)
    if verdict is not CropVerdict.GOOD:
        return verdict.value
    return "triangle" if Flag.CC_TRIANGLE in row.flags else "far"


def _worst_first(rows: Sequence[ImageMeasurement], deviations: Mapping[str, Deviation]) -> list[ImageMeasurement]:
    """Sort segmented images: by verdict, the worst first, then those of the triangle threshold, then by deviation."""
    order = list(KINDS)

    def rank(row: ImageMeasurement) -> tuple[int, float, str]:
        path = row.record.path
        return order.index(_kind(row)), -deviations[path].deviations if path in deviations else 0.0, path

    return sorted((row for row in rows if row.method != "none"), key=rank)


def _explain(row: ImageMeasurement, deviations: Mapping[str, Deviation], preview: Preview | None, breast_id: str) -> WorstImage:
    kind, path = _kind(row), row.record.path
    far = deviations.get(path)
    if kind == "far" and far:
        why = f"{far.quantity} {far.value:.3f}: {far.deviations:g} robust deviations from {far.median:.3f}, of {far.group}"
    elif Flag.CC_CONSTANT in row.flags:
        why = "one value only"
    else:
        why = (preview.failures if preview else "") or "the two methods disagree"
    return WorstImage(path, breast_id, row.vendor, row.record.view.value, kind, why, tuple(view_flag_codes(row.flags)))


# --- the page ---------------------------------------------------------------------------------------------------------


def write_audit(result: Audit, previews: Mapping[str, bytes], out: Path) -> None:
    """Write the page of an audit.

    Parameters
    ----------
    previews : mapping of str to bytes
        JPEG of each of the worst images, by path.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    page = render(
        "audit.html.jinja",
        audit=replace(result, rejected=result.rejected[:LISTED_REJECTIONS]),
        rejected_count=len(result.rejected),
        meanings={reason.value: reason.meaning for reason in Reason},
        kinds=KINDS,
        uris={path: data_uri(jpeg) for path, jpeg in previews.items()},
    )
    write_atomic(out, page, durable=False)
