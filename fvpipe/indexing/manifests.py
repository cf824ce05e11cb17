"""The tables that an index and a shard folder carry: sorted, stable, readable in a pull request."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from operator import attrgetter
from pathlib import Path

from fvpipe.indexing.index import Index
from fvpipe.io.atomic import write_if_changed
from fvpipe.io.tables import iterate_csv
from fvpipe.reasons import Rejection
from fvpipe.shards.format import to_image
from fvpipe.types import VIEWS, Breast, BreastFacts, Finding, FusedSample, ImageRecord


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
    publishable = found.source.simulated or found.source.adapter.publishable
    tables: tuple[tuple[str, bytes | Iterable[bytes] | None], ...] = (
        # First of all: whatever the folder is called, git must not see rows that are not ours to publish.
        (".gitignore", None if publishable else b"*\n"),
        ("images.csv", images_table(found)),
        ("breasts.csv", breasts_table(found.breasts)),
        ("rejected.csv", rejected_table(found.rejections)),
        ("findings.csv", findings_table(found, found.breasts)),
    )
    for name, data in tables:
        governed.append(folder / name)
        if data is None:
            (folder / name).unlink(missing_ok=True)
        else:
            write_if_changed(folder / name, data)
    return governed


def images_table(found: Index) -> Iterator[bytes]:
    """One row an image that can be read, with the breast that it is used for. The only table of paths."""
    columns = [field.name for field in fields(ImageRecord)]
    values = attrgetter(*columns)
    rows = ([*values(image), found.key(image).breast_id if used else ""] for image, used in found.records.uses())
    return iterate_csv([*columns, "breast_id"], rows)


_FACTS = [field.name for field in fields(BreastFacts) if field.name != "excluded"]


def breasts_table(breasts: Iterable[Breast]) -> Iterator[bytes]:
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
    return iterate_csv([*columns, *views], rows)


_SIDES = ("top", "bottom", "left", "right")
_VIEW_FACTS = ("rows", "columns", "bits_stored", "row_spacing", "column_spacing")


def findings_table(
    found: Index, breasts: Iterable[Breast], sample: Callable[[Breast], FusedSample] | None = None
) -> Iterator[bytes] | None:
    """One row a reader's box on a view of `breasts`; None where the data set has no boxes.

    Parameters
    ----------
    sample : callable or None
        Breast -> its sample: then each box is also given in pixels of the stored image, where it may lie beyond the crop.
    """
    if not found.labels.findings:
        return None
    columns = ["breast_id", "view", "category", "bi_rads", *_SIDES, *(f"image_{side}" for side in _SIDES if sample)]
    return iterate_csv(columns, _boxes(found.labels.findings, breasts, sample))


def _boxes(
    findings: Mapping[str, Sequence[Finding]], breasts: Iterable[Breast], sample: Callable[[Breast], FusedSample] | None
) -> Iterator[list[object]]:
    for breast in breasts:
        boxed = [(v, found) for v, image in enumerate(breast.views) if (found := findings.get(image.sop_instance_uid))]
        drawn = sample(breast) if sample and boxed else None
        for v, found in boxed:
            for finding in found:
                box = [getattr(finding, side) for side in _SIDES]
                row = [breast.key.breast_id, VIEWS[v], finding.category, finding.bi_rads, *box]
                yield row + (_in_image(drawn, v, finding) if drawn else [])


def _in_image(sample: FusedSample, v: int, finding: Finding) -> list[float | None]:
    if sample.placement[v][0] < 0:
        return [None] * 4
    first = to_image(sample.boxes[v], sample.placement[v], finding.top, finding.left)
    second = to_image(sample.boxes[v], sample.placement[v], finding.bottom, finding.right)
    rows, columns = sorted((first[0], second[0])), sorted((first[1], second[1]))
    return [round(number, 3) for number in (*rows, *columns)]


def rejected_table(rejections: Iterable[Rejection]) -> Iterator[bytes]:
    """One row a rejected file, image or breast, in the order of `rejections`: :func:`rejection_order`."""
    return iterate_csv(["what", "reason", "detail"], ([r.what, r.reason, r.detail] for r in rejections))
