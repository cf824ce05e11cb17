"""Rows about rejected images, which describe their breasts all the same: a cancer is one of the breast, whatever shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fvpipe.datasets.adapter import ImageFacts
from fvpipe.datasets.source import Source
from fvpipe.dicom.header import read_breast
from fvpipe.indexing.labels.breast_labels import BreastLabels, ImagedBreast
from fvpipe.reasons import PASSING, Reason, Rejection
from fvpipe.types import NOTHING_STATED, BreastFacts, ImageRecord, StatedImage

_OF_OTHER_EXAMS = PASSING | {
    Reason.VIEW_MODIFIED, Reason.VIEW_NOT_PAIRABLE, Reason.IMAGE_KIND_REFUSED, Reason.REGION_OF_INTEREST,
    Reason.REGION_WITHOUT_IMAGE, Reason.REJECTION_NOTE, Reason.MODALITY_REFUSED,
}  # fmt: skip
"""Reasons of images that are no mammograms of an exam of their own, such as spot views and specimens of a biopsy."""


def rows_of_rejected(
    source: Source,
    headers: Mapping[str, ImageRecord | Rejection],
    stated: Mapping[str, StatedImage],
    labels: BreastLabels,
) -> list[tuple[ImagedBreast, Sequence[BreastFacts]]]:
    """Find the breasts of rejected images, such as of spot views, whose rows do not name them: their headers are read again.

    Rows that name patient and side need no header: `contradicting_rows` of
    :class:`fvpipe.indexing.labels.statements.BreastStatements` has them.

    Parameters
    ----------
    source : Source
        The data set.
    headers : mapping of str to ImageRecord or Rejection
        By path.
    stated : mapping of str to StatedImage
        By path, what label table and path say of images.
    labels : BreastLabels
        The label tables.

    Returns
    -------
    list of (ImagedBreast, sequence of BreastFacts)
        What the rows say of each breast.
    """
    statements, rows = labels.statements, labels.table.images
    by_instance = any(row.facts and not row.patient for row in rows.values())
    found = list[tuple[ImagedBreast, Sequence[BreastFacts]]]()
    for path, header in headers.items():
        if not isinstance(header, Rejection) or header.reason in PASSING:
            continue
        said = stated.get(path, NOTHING_STATED)
        of_path = () if said.patient and said.laterality else statements.facts_by_path.get(path, ())
        image = read_breast(source.root, path, source.policy, said) if of_path or by_instance else None
        if image is None:
            continue
        breast, instance, _ = image
        row = rows.get(instance) or statements.sizes_by_path.get(path) or ImageFacts(0)
        facts = (*of_path, *(() if row.patient else row.facts))
        if facts and row.laterality in (None, breast[2]):  # else nobody knows of which breast it is
            found.append((breast, facts))
    return found


def exams_of_rejected(
    source: Source,
    headers: Mapping[str, ImageRecord | Rejection],
    stated: Mapping[str, StatedImage],
    labels: BreastLabels,
) -> frozenset[ImagedBreast]:
    """Find the exams of rejected mammograms, of which a row that names no exam may be one; none without such a row.

    Parameters are those of :func:`rows_of_rejected`.
    """
    if not any(facts != BreastFacts() for facts in labels.table.rows.values()) or not source.policy.keep_studies_apart:
        return frozenset()
    rejected = [p for p, header in headers.items() if isinstance(header, Rejection) and header.reason not in _OF_OTHER_EXAMS]
    images = (read_breast(source.root, path, source.policy, stated.get(path, NOTHING_STATED)) for path in rejected)
    return frozenset(breast for breast, _, modality in filter(None, images) if modality in ("", "MG"))
