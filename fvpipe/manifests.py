"""The tables that an index and a shard folder carry: sorted, stable, readable in a pull request."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from operator import attrgetter
from pathlib import Path

from fvpipe.files import write_if_changed
from fvpipe.plan import Index
from fvpipe.shards import to_image
from fvpipe.tables import write_csv
from fvpipe.types import VIEWS, Breast, BreastFacts, Finding, FusedSample, ImageRecord, Rejection


def rejection_order(rejection: Rejection) -> tuple[str, str, str]:
    """The order of every list of rejections."""
    return rejection.what, rejection.reason, rejection.detail


def write_manifests(found: Index, folder: Path) -> list[Path]:
    """Write ``images.csv``, ``breasts.csv``, ``rejected.csv`` and, where there are boxes, ``findings.csv``.

    A file that would not change is left alone.

    Returns
    -------
    list of Path
        All that this governs, whether it is there or must not be.
    """
    governed = []
    publishable = found.source.made or found.source.adapter.publishable
    for name, data in (
        # First of all: whatever the folder is called, git must not see rows that are not ours to publish.
        (".gitignore", None if publishable else b"*\n"),
        ("images.csv", images_table(found)),
        ("breasts.csv", breasts_table(found.breasts)),
        ("rejected.csv", rejected_table(found.rejections)),
        ("findings.csv", findings_table(found, found.breasts)),
    ):
        governed.append(folder / name)
        if data is None:
            (folder / name).unlink(missing_ok=True)
        else:
            write_if_changed(folder / name, data)
    return governed


def images_table(found: Index) -> bytes:
    """One row an image that can be read, with the breast that it is used for. The only table of paths."""
    used = {image.path: breast.key.breast_id for breast in found.breasts for image in breast.views}
    columns = [field.name for field in fields(ImageRecord)]
    values = attrgetter(*columns)
    return write_csv([*columns, "breast_id"], ([*values(image), used.get(image.path, "")] for image in found.images))


_FACTS = [field.name for field in fields(BreastFacts) if field.name != "excluded"]


def breasts_table(breasts: Sequence[Breast]) -> bytes:
    """One row a breast and what is known of it beside its pixels, in the order of `breasts`."""
    columns = ["breast_id", "patient_id", "study", "laterality", *_FACTS, "manufacturer", "patient_age"]
    views = [f"{view.lower()}_{name}" for view in VIEWS for name in _VIEW_FACTS]
    rows = (
        [b.key.breast_id, b.key.patient, b.key.study, b.key.laterality]
        + [getattr(b.facts, name) for name in _FACTS]
        + [b.cc.manufacturer, b.cc.patient_age]
        + [getattr(image, name) for image in b.views for name in _VIEW_FACTS]
        for b in breasts
    )
    return write_csv([*columns, *views], rows)


_VIEW_FACTS = ("rows", "columns", "bits_stored", "row_spacing", "column_spacing")


def findings_table(
    found: Index, breasts: Iterable[Breast], sample: Callable[[Breast], FusedSample] | None = None
) -> bytes | None:
    """One row a reader's box on a view of `breasts`; None where the data set has no boxes.

    Parameters
    ----------
    sample : callable or None
        Breast -> its sample: then each box is also given in pixels of the stored image, where it may lie beyond the crop.
    """
    if not found.labels.findings:
        return None
    sides = ("top", "bottom", "left", "right")
    columns = ["breast_id", "view", "category", "bi_rads", *sides, *(f"image_{side}" for side in sides if sample)]
    rows = []
    for breast in breasts:
        boxed = [(v, image) for v, image in enumerate(breast.views) if image.sop_instance_uid in found.labels.findings]
        drawn = sample(breast) if sample and boxed else None
        for v, image in boxed:
            for finding in found.labels.findings[image.sop_instance_uid]:
                row = [breast.key.breast_id, VIEWS[v], finding.category, finding.bi_rads, *(getattr(finding, s) for s in sides)]
                rows.append(row + (_in_image(drawn, v, finding) if drawn else []))
    return write_csv(columns, rows)


def _in_image(sample: FusedSample, v: int, finding: Finding) -> list[float | None]:
    if sample.placement[v][0] < 0:
        return [None] * 4
    first = to_image(sample.boxes[v], sample.placement[v], finding.top, finding.left)
    second = to_image(sample.boxes[v], sample.placement[v], finding.bottom, finding.right)
    rows, columns = sorted((first[0], second[0])), sorted((first[1], second[1]))
    return [round(number, 3) for number in (*rows, *columns)]


def rejected_table(rejections: Sequence[Rejection]) -> bytes:
    """One row a refused file, image or breast."""
    rows = ([r.what, r.reason, r.detail] for r in sorted(rejections, key=rejection_order))
    return write_csv(["what", "reason", "detail"], rows)
