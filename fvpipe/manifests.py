"""The tables that an index and a shard folder carry: sorted, stable, readable in a pull request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, fields
from pathlib import Path

from fvpipe.files import write_if_changed
from fvpipe.plan import Index
from fvpipe.tables import write_csv
from fvpipe.types import VIEWS, Breast, BreastFacts, ImageRecord, Rejection


def rejection_order(rejection: Rejection) -> tuple[str, str, str]:
    """The order of every list of rejections."""
    return rejection.what, rejection.reason, rejection.detail


def write_manifests(found: Index, folder: Path) -> None:
    """Write ``images.csv``, ``breasts.csv`` and ``rejected.csv``; a file that would not change is left alone."""
    for name, data in (
        ("images.csv", images_table(found)),
        ("breasts.csv", breasts_table(found.breasts)),
        ("rejected.csv", rejected_table(found.rejections)),
    ):
        write_if_changed(folder / name, data)


def images_table(found: Index) -> bytes:
    """One row an image that can be read, with the breast that it is used for. The only table of paths."""
    used = {image.path: breast.key.breast_id for breast in found.breasts for image in breast.views}
    columns = [field.name for field in fields(ImageRecord)]
    return write_csv([*columns, "breast_id"], ([*astuple(image), used.get(image.path, "")] for image in found.images))


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


def rejected_table(rejections: Sequence[Rejection]) -> bytes:
    """One row a refused file, image or breast."""
    return write_csv(["what", "reason", "detail"], (astuple(r) for r in sorted(rejections, key=rejection_order)))
