"""Tables of an index, read back as :mod:`fvpipe.indexing.manifests.tables` wrote them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from fvpipe.datasets.source import Source
from fvpipe.errors import InputError
from fvpipe.indexing.index import Index
from fvpipe.indexing.manifests.tables import FACTS, RECORD, SIDES, differing_table
from fvpipe.indexing.pairing import Unpaired
from fvpipe.io.tables import Row, read_own_table
from fvpipe.reasons import Reason, Rejection
from fvpipe.shards.targets import COLUMN_PREFIX
from fvpipe.types import (
    VIEWS,
    Breast,
    BreastFacts,
    BreastKey,
    Digest,
    Edge,
    Finding,
    ImageRecord,
    Laterality,
    Orientation,
    View,
)


def read_manifests(source: Source, folder: Path) -> Index:
    """Read what :func:`fvpipe.indexing.manifests.tables.write_manifests` wrote, for those who have no DICOM files.

    Raises
    ------
    InputError
        A table is missing, was edited, or is of another version of fvpipe.
    """
    try:
        found = _read(source, folder)
        _check_consistent(found, folder)
    except (OSError, KeyError, ValueError) as error:
        raise InputError(
            f"{folder}: is not a manifest that this fvpipe can read ({type(error).__name__}); write it again with "
            f"`fvpipe index --dataset {source.name}`"
        ) from None
    return found


def _read(source: Source, folder: Path) -> Index:
    rows, images = _read_images(folder)
    findings = _read_findings(folder)
    exam_order = {
        (image.patient_id, image.study): number
        for row, image in zip(rows, images, strict=True)
        if (number := _number(row.get("exam_order")))
    }
    breasts, unpaired = _read_breasts(source.name, folder, _views(rows, images), findings or {})
    rejected = read_own_table(folder / "rejected.csv", ["what", "reason", "detail"])
    return Index(
        source=source,
        files={},
        images=images,
        facts={
            image.path: BreastFacts(int(row["label"]), excluded=row["excluded"])
            for row, image in zip(rows, images, strict=True)
        },
        breasts=breasts,
        rejections=[Rejection(_path(row["what"]), Reason(row["reason"]), row["detail"]) for row in rejected],
        digests={image.path: Digest(row["digest"]) for row, image in zip(rows, images, strict=True)},
        has_findings=findings is not None,
        unpaired=tuple(unpaired),
        exam_order=exam_order,
    )


def _read_images(folder: Path) -> tuple[Sequence[Row], list[ImageRecord]]:
    """Rows of ``images.csv`` and the image of each."""
    rows = read_own_table(folder / "images.csv", [*RECORD, "digest", "label", "excluded", "breast_id"])
    return rows, [_record(row) for row in rows]


def _views(rows: Iterable[Row], images: Iterable[ImageRecord]) -> Mapping[str, Mapping[View, ImageRecord]]:
    """Images of each breast, by its id."""
    views: defaultdict[str, dict[View, ImageRecord]] = defaultdict(dict)
    for row, image in zip(rows, images, strict=True):
        if row["breast_id"]:
            views[row["breast_id"]][image.view] = image
    return views


def _read_findings(folder: Path) -> Mapping[tuple[str, str], Sequence[Finding]] | None:
    """Boxes by breast id and view; None where the data set has none at all."""
    if not (folder / "findings.csv").is_file():
        return None
    boxes: defaultdict[tuple[str, str], list[Finding]] = defaultdict(list)
    for row in read_own_table(folder / "findings.csv", ["breast_id", "view", "category", *SIDES]):
        top, bottom, left, right = (float(row[side]) for side in SIDES)
        points = [tuple(map(float, point.split(","))) for point in row.get("outline").split()]
        outline = tuple((point[0], point[1]) for point in points)
        finding = Finding(row["category"], _number(row["bi_rads"]), top, bottom, left, right, outline)
        boxes[row["breast_id"], row["view"]].append(finding)
    return boxes


def _read_breasts(
    dataset: str,
    folder: Path,
    views: Mapping[str, Mapping[View, ImageRecord]],
    findings: Mapping[tuple[str, str], Sequence[Finding]],
) -> tuple[list[Breast], list[Unpaired]]:
    """Pairs, and breasts without one."""
    breasts, unpaired = list[Breast](), list[Unpaired]()
    for row in read_own_table(folder / "breasts.csv", ["breast_id", "patient_id", "study", "laterality", *FACTS]):
        name, key = row["breast_id"], BreastKey(dataset, row["patient_id"], row["study"], Laterality(row["laterality"]))
        images = views.get(name, {})
        cc, mlo = (tuple(findings.get((name, view), ())) for view in VIEWS)
        breast = Breast(key, images.get(View.CC), images.get(View.MLO), _facts(row), (cc, mlo))
        pair = row.get("paired") != "false"
        if len(breast.images) < 1 + pair:
            raise ValueError("images.csv lacks an image of a breast")
        if pair:
            breasts.append(breast)
        else:
            unpaired.append(Unpaired(breast))
    return breasts, unpaired


def _check_consistent(found: Index, folder: Path) -> None:
    """Check that no row stands twice, and that the tables agree.

    Raises
    ------
    ValueError
        One does, or they do not.
    """
    breasts = [*found.breasts, *(each.breast for each in found.unpaired)]
    for what in ([image.path for image in found.images], [breast.key for breast in breasts], found.rejections):
        if len(set(what)) < len(what):
            raise ValueError("a row stands twice")
    for breast in breasts:
        if any(found.facts[image.path].label != breast.facts.label for image in breast.images):
            raise ValueError("images.csv and breasts.csv give one breast two labels")
    if name := differing_table(found, folder):  # such as a breast without its row in the other table
        raise ValueError(f"{name} contradicts the other tables")


# --- cells ------------------------------------------------------------------------------------------------------------


def _record(row: Row) -> ImageRecord:
    """Parse one row of ``images.csv``."""
    values: dict[str, Any] = {name: parse(row[name]) for name, parse in _FIELDS.items()}
    return ImageRecord(**values)


def _facts(row: Row) -> BreastFacts:
    return BreastFacts(
        int(row["label"]),
        _number(row["bi_rads"]),
        row["density"],
        row["age"],
        row["pathology"],
        row["subset"],
        subtype=row.get("subtype"),
        machine=row.get("machine"),
        targets=tuple(
            (name.removeprefix(COLUMN_PREFIX), cell)
            for name, cell in row.cells.items()
            if name.startswith(COLUMN_PREFIX) and cell
        ),
    )


def _number(cell: str) -> int | None:
    return int(cell) if cell else None


def _path(cell: str) -> str:
    r"""A path as the operating system has it: bytes that are not UTF-8 were written as ``\udc80`` to ``\udcff``."""
    return re.sub(r"\\u(dc[89a-f][0-9a-f])", lambda match: chr(int(match[1], 16)), cell)


_PARSERS: Mapping[str, Callable[[str], object]] = {
    "str": str,
    "int": int,
    "float | None": lambda cell: float(cell) if cell else None,
    "bool": {"true": True, "false": False}.__getitem__,
    "Laterality": Laterality,
    "View": View,
    "Orientation": Orientation,
    "Edge | None": lambda cell: Edge(cell) if cell else None,
}
"""By the type of a field of :class:`fvpipe.types.ImageRecord`, as its annotation has it."""

_FIELDS = {field.name: _PARSERS[str(field.type)] for field in fields(ImageRecord) if field.name in RECORD} | {"path": _path}
