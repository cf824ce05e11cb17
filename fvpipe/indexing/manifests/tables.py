"""The tables of an index, as they are written into manifests and shard folders; ``read_manifests`` reads them back.

Sorted, stable and readable in a pull request. A manifest holds all that a build needs of an index, and the digest of
each image's file: what made the shards stands in git.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from operator import attrgetter
from pathlib import Path

import numpy as np

from fvpipe.datasets.source import Source
from fvpipe.dicom.orientation import upright_box
from fvpipe.indexing.index import Index
from fvpipe.io.atomic import write_if_changed
from fvpipe.io.csv_lines import iterate_csv
from fvpipe.reasons import Flag, Rejection, crop_verdict
from fvpipe.shards.coordinates import coordinates_of
from fvpipe.shards.targets import COLUMN_PREFIX
from fvpipe.types import (
    BREAST_FACTS,
    VIEWS,
    Breast,
    BreastKey,
    Finding,
    FusedSample,
    ImageRecord,
)

_COMPARED = ("accession", "study_date", "exam_day", "person", "series")  # and written to no table
RECORD = [field.name for field in fields(ImageRecord) if field.name not in _COMPARED]
"""Columns of ``images.csv`` that are fields of :class:`fvpipe.types.ImageRecord`."""

_OPTIONAL = ("subtype", "machine")  # a column where some breast has it
FACTS = ["label", *(name for name in BREAST_FACTS if name not in _OPTIONAL)]
"""Columns of ``breasts.csv`` that are always there and facts of the breast."""

SIDES = ("top", "bottom", "left", "right")
"""Columns of ``findings.csv`` with the edges of a box in source pixels."""

_VIEW_FACTS = ("rows", "columns", "bits_stored", "row_spacing", "column_spacing")


def write_manifests(found: Index, folder: Path) -> None:
    """Write ``images.csv``, ``breasts.csv``, ``rejected.csv`` and, where there are any, ``findings.csv`` and ``declared.json``.

    A file that would not change is left alone.
    """
    for name, data in _tables(found):
        if data is None:
            (folder / name).unlink(missing_ok=True)
        else:
            write_if_changed(folder / name, data)


def differing_table(found: Index, folder: Path) -> str:
    """Compare an index with what :func:`write_manifests` wrote; return the first table that differs, or nothing."""
    for name, data in _tables(found):
        file = folder / name
        written = file.read_bytes() if file.is_file() else None
        if written != (None if data is None else b"".join(data)):
            return name
    return ""


def _tables(found: Index) -> Iterator[tuple[str, Iterable[bytes] | None]]:
    """Name and lines of each file of a manifest; None for one that must not be there."""
    publishable = found.source.simulated or found.source.adapter.publishable
    # First of all: whatever the folder is called, git must not see rows that are not ours to publish.
    yield ".gitignore", None if publishable else [b"*\n"]
    yield "images.csv", images_table(found)
    breasts, unpaired = found.all_breasts, {breast.key for breast in found.unpaired_breasts}
    yield "breasts.csv", breasts_table(breasts, found.exam_order, unpaired=unpaired)
    yield "rejected.csv", rejected_table(found.rejections)
    yield "findings.csv", findings_table(found, breasts)
    yield "declared.json", _declared(found.source)


def _declared(source: Source) -> list[bytes] | None:
    """What shards have from an adapter and no table has: DVC, which sees no declaration of a user, builds them again by it."""
    if not source.outside:  # DVC sees fvpipe
        return None
    targets = source.adapter.declaration.targets if source.adapter.declaration else {}
    said = {"license": source.license, "targets": {name: [each.meaning, each.unit] for name, each in targets.items()}}
    return [json.dumps(said, indent=1, sort_keys=True).encode() + b"\n"]


def images_table(found: Index) -> Iterator[bytes]:
    """One row per image that can be read, with the label and id of its breast. The only table of paths.

    ``digest`` is there where the index digested the files, ``exam_order`` where a patient has several exams; ``breast_id`` is
    empty for an image that no pipeline uses.
    """
    used = {image.path: breast.key.breast_id for breast in found.all_breasts for image in breast.images}
    values = attrgetter(*RECORD)
    digest = [] if found.digests is None else ["digest"]
    rows = (
        [
            *values(image),
            *([] if found.digests is None else [found.digests[image.path]]),
            facts.label,
            facts.excluded,
            used.get(image.path, ""),
            *([found.exam_order.get((image.patient_id, image.study))] if found.exam_order else []),
        ]
        for image in found.images
        for facts in [found.facts[image.path]]
    )
    order = ["exam_order"] if found.exam_order else []
    return iterate_csv([*RECORD, *digest, "label", "excluded", "breast_id", *order], rows)


def breasts_table(
    breasts: Sequence[Breast],
    exam_order: Mapping[tuple[str, str], int],
    flags: Mapping[str, Flag] | None = None,
    *,
    unpaired: Collection[BreastKey] = (),
    resized: Mapping[str, tuple[str, str]] | None = None,
) -> Iterator[bytes]:
    """One row per breast with everything that is known of it beside its pixels, in the order of `breasts`.

    Cells about a view that a breast lacks are empty.

    Parameters
    ----------
    breasts : iterable of Breast
        In the order of the rows.
    exam_order : mapping of (str, str) to int
        That of the index; empty: there is no column of it.
    flags : mapping of str to Flag, or None
        Flags of their samples by breast id: then the verdict on the crop of each view is given, too.
    unpaired : collection of BreastKey
        Breasts that are not a pair; where there are any, a column says so.
    resized : mapping of str to (str, str), or None
        How CC and MLO of their samples were resized by a pipeline that warps, by breast id: then it is given, too.
    """
    facts = [*FACTS, *(name for name in _OPTIONAL if any(getattr(breast.facts, name) for breast in breasts))]
    targets = sorted({name for breast in breasts for name, _ in breast.facts.targets})
    more_facts = [COLUMN_PREFIX + name for name in targets]
    columns = ["breast_id", "patient_id", "study", "laterality", *facts, *more_facts, "manufacturer", "patient_age"]
    views = [f"{view.lower()}_{name}" for view in VIEWS for name in _VIEW_FACTS]
    crops = [] if flags is None else [f"{view.lower()}_crop" for view in VIEWS]
    warps = [] if resized is None else [f"{view.lower()}_resized" for view in VIEWS]
    rows = (
        [b.key.breast_id, b.key.patient, b.key.study, b.key.laterality]
        + [getattr(b.facts, name) for name in facts]
        + [dict(b.facts.targets).get(name) for name in targets]
        + [b.images[0].manufacturer, b.images[0].patient_age]
        + [getattr(image, name) if image else None for image in b.views for name in _VIEW_FACTS]
        + ([] if flags is None else [crop_verdict(flags[b.key.breast_id], i) if v else None for i, v in enumerate(b.views)])
        + ([] if resized is None else [*resized[b.key.breast_id]])
        + ([b.key not in unpaired] if unpaired else [])
        + ([exam_order.get((b.key.patient, b.key.study))] if exam_order else [])
        for b in breasts
    )
    more = (["paired"] if unpaired else []) + (["exam_order"] if exam_order else [])
    return iterate_csv([*columns, *views, *crops, *warps, *more], rows)


def findings_table(
    found: Index,
    breasts: Iterable[Breast],
    sample: Callable[[Breast], FusedSample] | None = None,
    polygons: bool = False,
) -> Iterator[bytes] | None:
    """One row per reader's box on a view of `breasts`; None where the data set has no boxes.

    Parameters
    ----------
    breasts : iterable of Breast
        In the order of the rows.
    sample : callable or None
        From a breast to its sample: then each box is also given in pixels of the stored image, where it may lie beyond
        the crop. Outlines, where there are any, are points (row,column) in source pixels.
    polygons : bool
        Whether the outline of each finding, or of its box, is also given as points of the stored image: in a warped one, a box
        has no straight sides, and its ``image_`` columns are those of the box around it.
    """
    if not found.has_findings:
        return None
    breasts = list(breasts)
    outlines = any(finding.outline for breast in breasts for view in breast.findings for finding in view)
    columns = ["breast_id", "view", "category", "bi_rads", *SIDES, *(f"image_{side}" for side in SIDES if sample)]
    more = (["outline"] if outlines else []) + (["image_outline"] if polygons else [])
    return iterate_csv([*columns, *more], _boxes(breasts, sample, outlines, polygons))


def _boxes(
    breasts: Iterable[Breast], sample: Callable[[Breast], FusedSample] | None, outlines: bool, polygons: bool
) -> Iterator[list[object]]:
    for breast in breasts:
        drawn = sample(breast) if sample and any(breast.findings) else None
        for v, findings in enumerate(breast.findings):
            for finding in findings:
                box = [getattr(finding, side) for side in SIDES]
                row = [breast.key.breast_id, VIEWS[v], finding.category, finding.bi_rads, *box]
                outline = [" ".join(f"{row:g},{column:g}" for row, column in finding.outline)] if outlines else []
                image = breast.views[v]
                if drawn and image:
                    ends, polygon = _in_image(drawn, v, finding, image)
                    yield row + ends + outline + ([polygon] if polygons else [])
                else:
                    yield row + outline


def _in_image(sample: FusedSample, v: int, finding: Finding, record: ImageRecord) -> tuple[list[float | None], str]:
    """Top, bottom, left and right of a finding in the stored image, and its outline there as text."""
    if sample.placement[v][0] < 0:
        return [None] * 4, ""

    def upright(top: float, bottom: float, left: float, right: float) -> tuple[float, float, float, float]:
        return upright_box((top, bottom, left, right), record.orientation, (record.rows, record.columns))

    place = coordinates_of(sample, v)
    box = place.polygon(*upright(finding.top, finding.bottom, finding.left, finding.right))
    points = [upright(row, row, column, column) for row, column in finding.outline]
    polygon = np.stack(place.to_image(*np.array(points)[:, ::2].T), axis=1) if points else box
    rows, columns = box.T
    ends = [round(float(number), 3) for number in (rows.min(), rows.max(), columns.min(), columns.max())]
    return [*ends], " ".join(f"{row:.2f},{column:.2f}" for row, column in polygon.tolist())


def rejected_table(rejections: Iterable[Rejection]) -> Iterator[bytes]:
    """One row per rejected file, image or breast, in the order of `rejections`."""
    return iterate_csv(["what", "reason", "detail"], ([r.what, r.reason, r.detail] for r in rejections))
