"""Over a whole data set without building it: what is rejected, what the images are like, and the worst of the crops.

Two passes on the workers: one gives a row of numbers for each image, the second draws only the images that are shown.
The page is the same bytes for any number of workers.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape

from fvpipe.cache.decoder_crashes import cached_crash, crash_fact
from fvpipe.cache.file_cache import FileCache
from fvpipe.config.pipeline import Pipeline
from fvpipe.execution.isolation import Crash
from fvpipe.execution.workers import Workers
from fvpipe.imaging.segmentation import GATES, Attempt
from fvpipe.indexing.index import Index
from fvpipe.indexing.manifests import rejection_order
from fvpipe.io.atomic import write_atomic
from fvpipe.progress import progress
from fvpipe.reasons import NOT_BROKEN, Flag, Reason, Rejection
from fvpipe.report.inspect import flag_names
from fvpipe.report.measure import Card, ImageTask, Measured, draw_cards, measure_images
from fvpipe.report.statistics import Far, GroupReport, Pairs, counted, groups, how_far, pairs
from fvpipe.types import ImageRecord
from fvpipe.versions import PREPROCESSING_VERSION

LISTED = 200  # rejected files that the page names
KINDS = {"whole_frame": "no outline was believed", "triangle": "the first threshold failed", "far": "unlike the others"}


@dataclass(frozen=True, slots=True)
class Worst:
    """An image that somebody should look at; `kind` is a key of :data:`KINDS`, `why` has the number that made it one."""

    path: str
    breast_id: str
    vendor: str
    view: str
    kind: str
    why: str
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Audit:
    """What a data set comes to. The page and the JSON are this, and nothing else."""

    dataset: str
    simulated: bool
    license: str
    pipeline: str
    pipeline_digest: str
    preprocessing_version: int
    files: int
    images: int
    breasts: int
    measured: int
    rejections: Mapping[str, int]
    rejected: tuple[Rejection, ...]
    flags: Mapping[str, int]
    methods: Mapping[str, int]
    groups: tuple[GroupReport, ...]
    pairs: Pairs
    worst: tuple[Worst, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        data = asdict(self)
        data["made"] = data.pop("simulated")  # the key since the first version
        return data


def audit(
    found: Index, pipeline_name: str, pipeline: Pipeline, workers: Workers, file_cache: FileCache, limit: int
) -> tuple[Audit, dict[str, bytes]]:
    """Look at every image of a data set.

    Parameters
    ----------
    found : Index
    pipeline_name : str
    pipeline : Pipeline
        Whose window and segmentation.
    workers : Workers
    memory : FileCache
        Remembers which files end their decoder.
    limit : int
        Of the worst images.

    Returns
    -------
    (Audit, dict of str to bytes)
        And by path the JPEG of each of the worst; one that could not be drawn is not there.

    Raises
    ------
    InputError
        A file changed meanwhile.
    ClusterError, StorageError
    """
    measured, unreadable = _measure(found, pipeline, workers, file_cache)
    rows = {row.record.path: row for row in measured}
    rejected = {rejection.what: rejection for rejection in unreadable}
    lost = [
        Rejection(breast.key.breast_id, Reason.VIEW_UNREADABLE, f"its {image.view} was rejected: {rejected[image.path].reason}")
        for breast in found.breasts
        for image in [next((image for image in breast.views if image.path in rejected), None)]
        if image
    ]
    rejections = sorted([*found.rejections, *unreadable, *lost], key=rejection_order)
    ids = {image.path: breast.key.breast_id for breast in found.breasts for image in breast.views}
    far = how_far(measured)
    chosen = _worst(measured, far)[:limit]
    cards = _draw(found, pipeline, [row.record for row in chosen], workers)
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
        rejections=counted(rejection.reason.value for rejection in rejections),
        rejected=tuple(rejection for rejection in rejections if rejection.reason not in NOT_BROKEN),
        flags=counted(name for row in measured for name in flag_names(row.flags)),
        methods=counted(row.method for row in measured),
        groups=groups(measured),
        pairs=pairs(found.breasts, rows),
        worst=tuple(_why(row, far, cards.get(row.record.path), ids.get(row.record.path, "")) for row in chosen),
    )
    return result, {path: card.jpeg for path, card in cards.items()}


def _tasks(found: Index, pipeline: Pipeline, images: Sequence[ImageRecord]) -> list[ImageTask]:
    root = os.path.abspath(found.source.root)
    return [ImageTask(root, image, found.files[image.path].state, found.source.policy, pipeline) for image in images]


def _measure(
    found: Index, pipeline: Pipeline, workers: Workers, file_cache: FileCache
) -> tuple[list[Measured], list[Rejection]]:
    """The first pass; both sorted by path."""
    measured: list[Measured] = []
    facts = ((image, file_cache.fact(found.files[image.path], "crash")) for image in found.images)
    rejected = [crash for image, fact in facts if (crash := cached_crash(image, pipeline, fact))]
    known = {rejection.what for rejection in rejected}
    images = [image for image in found.images if image.path not in known]
    with progress(f"audit {found.source.name}", len(images), "images") as advance:
        for batch in workers.run(measure_images, _tasks(found, pipeline, images)):
            for each in batch:
                if isinstance(each, Crash):
                    record = each.task.record
                    rejection = each.rejection(record.path)
                    file_cache.put_facts([(found.files[record.path], crash_fact(record, pipeline, rejection))], "crash")
                    rejected.append(rejection)
                elif isinstance(each, Rejection):
                    rejected.append(each)
                else:
                    measured.append(each)
            advance(len(batch))
    return sorted(measured, key=lambda row: row.record.path), sorted(rejected, key=rejection_order)


def _draw(found: Index, pipeline: Pipeline, images: Sequence[ImageRecord], workers: Workers) -> dict[str, Card]:
    """The second pass, over the worst alone."""
    cards = {}
    with progress(f"draw {found.source.name}", len(images), "images") as advance:
        for batch in workers.run(draw_cards, list(enumerate(_tasks(found, pipeline, images)))):
            for each in batch:
                if not isinstance(each, Crash) and isinstance(each[1], Card):
                    cards[images[each[0]].path] = each[1]
            advance(len(batch))
    return cards


# --- the worst --------------------------------------------------------------------------------------------------------


def _kind(row: Measured) -> str:
    if Flag.CC_CROP_FALLBACK in row.flags:
        return "whole_frame"
    return "triangle" if Flag.CC_TRIANGLE in row.flags else "far"


def _worst(rows: Sequence[Measured], far: Mapping[str, Far]) -> list[Measured]:
    """Whole frames first, then those of the second threshold, then the rest from the farthest; a pipeline without a
    segmentation has none.
    """
    order = list(KINDS)
    shown = [row for row in rows if row.method != "none"]

    def place(row: Measured) -> tuple[int, float, str]:
        path = row.record.path
        return order.index(_kind(row)), -far[path].deviations if path in far else 0.0, path

    return sorted(shown, key=place)


def _why(row: Measured, far: Mapping[str, Far], card: Card | None, breast_id: str) -> Worst:
    kind, path = _kind(row), row.record.path
    how = far.get(path)
    if kind == "far" and how:
        why = f"{how.quantity} {how.value:.3f}: {how.deviations:g} robust deviations from {how.median:.3f}, of {how.among}"
    elif Flag.CC_CONSTANT in row.flags:
        why = "one value only"
    else:
        why = "; ".join(_failed(attempt) for attempt in card.attempts if not attempt.passes) if card else ""
        why = why or "the two methods disagree"
    return Worst(path, breast_id, row.vendor, row.record.view.value, kind, why, tuple(flag_names(row.flags)))


def _failed(attempt: Attempt) -> str:
    """Which gates an attempt failed, by how much."""
    broken = [
        f"{name} {attempt.gates[name]:.3g} (allowed {low:g} to {high:g})"
        for name, (low, high) in GATES.items()
        if name in attempt.gates and not low <= attempt.gates[name] <= high
    ]
    return f"{attempt.method}: {', '.join(broken) or 'nothing above the threshold'}"


# --- the page ---------------------------------------------------------------------------------------------------------


def write_audit(result: Audit, images: Mapping[str, bytes], out: Path) -> None:
    """Write the page: one file that opens without a network.

    Raises
    ------
    StorageError
    """
    environment = Environment(loader=PackageLoader("fvpipe.report"), autoescape=select_autoescape(), trim_blocks=True)
    page = environment.get_template("audit.html.jinja").render(
        audit=replace(result, rejected=result.rejected[:LISTED]),
        rejected=len(result.rejected),
        meanings={reason.value: reason.meaning for reason in Reason},
        kinds=KINDS,
        uris={path: "data:image/jpeg;base64," + base64.b64encode(jpeg).decode() for path, jpeg in images.items()},
    )
    write_atomic(out, page.encode("utf-8", "replace"), durable=False)
