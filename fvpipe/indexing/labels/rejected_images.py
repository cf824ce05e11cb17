"""Rows about rejected images, which describe their breasts all the same: a cancer is one of the breast, whatever shows it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from fvpipe.cache.file_cache import FileCache
from fvpipe.datasets.adapter import ImageFacts
from fvpipe.datasets.source import Source
from fvpipe.dicom.header import read_breast
from fvpipe.dicom.policy import HeaderPolicy
from fvpipe.execution.workers import Workers
from fvpipe.indexing.files.cached_values import read_values
from fvpipe.indexing.labels.breast_labels import BreastLabels
from fvpipe.indexing.labels.imaged_exams import ImagedBreast
from fvpipe.indexing.labels.statements import Statements, statement_digest
from fvpipe.reasons import PASSING, Reason, Rejection
from fvpipe.types import NOTHING_STATED, BreastFacts, ImageRecord, Laterality, SourceFile, StatedImage

_OF_NO_EXAM = PASSING | {
    Reason.VIEW_MODIFIED, Reason.VIEW_NOT_PAIRABLE, Reason.IMAGE_KIND_REFUSED, Reason.REGION_OF_INTEREST,
    Reason.REGION_WITHOUT_IMAGE, Reason.REJECTION_NOTE, Reason.MODALITY_REFUSED,
}  # fmt: skip
"""Reasons of images that show no exam of their own, such as spot views and specimens of a biopsy, or are not read now."""
RowsOfBreasts = list[tuple[ImagedBreast, Sequence[BreastFacts]]]


class BreastTask(NamedTuple):
    """One rejected image whose breast a worker reads."""

    root: Path  # the input folder
    path: str
    policy: HeaderPolicy
    stated: StatedImage


def rows_of_rejected_images(
    source: Source,
    headers: Mapping[str, ImageRecord | Rejection],
    statements: Statements,
    labels: BreastLabels,
    files: Mapping[str, SourceFile],
    workers: Workers,
    file_cache: FileCache,
) -> tuple[RowsOfBreasts, frozenset[ImagedBreast]]:
    """Find what rows say of breasts by their rejected images, such as spot views, and may say of exams of such images alone.

    Where rows do not name breast and exam, the header of the image is read again.

    Parameters
    ----------
    headers : mapping of str to ImageRecord or Rejection
        Of the images that were read, by path.
    statements : Statements
        What label tables and paths say of images.

    Returns
    -------
    rows : list of (ImagedBreast, sequence of BreastFacts)
        What rows about rejected images say of their breasts. Those that name them themselves are in `contradicting_rows` of
        :class:`fvpipe.indexing.labels.statements.BreastStatements`.
    exams : frozenset of ImagedBreast
        Exams of rejected mammograms, of which a row that names no exam may be one; none without such a row.
    """
    reasons = {path: header.reason for path, header in headers.items() if isinstance(header, Rejection)}
    facts_by_path, rows = labels.statements.facts_by_path, labels.table.images
    exams_apart = source.policy.exams_apart
    by_instance = any(row.facts and not row.patient for row in rows.values())
    by_exam = exams_apart and any(facts != BreastFacts() for facts in labels.table.rows.values())

    def stated(path: str) -> StatedImage:
        return statements.stated.get(path) or statements.left_out.get(path, NOTHING_STATED)

    def is_named(path: str) -> bool:
        """Whether row and path name the breast, and its exam where it may have several."""
        said = stated(path)
        exam = said.study or labels.statements.exams_by_path.get(path)
        return bool(said.patient and said.laterality and (exam or not exams_apart))

    described = {
        path
        for path in (*reasons, *statements.left_out)
        if reasons.get(path) not in PASSING and (by_instance or (path in facts_by_path and not is_named(path)))
    }
    of_exams = {path for path, reason in reasons.items() if by_exam and reason not in _OF_NO_EXAM}
    tasks = {path: BreastTask(source.root, path, source.policy, stated(path)) for path in sorted(described | of_exams)}
    found, exams = RowsOfBreasts(), set[ImagedBreast]()
    # What is said of an image decides of which breast it is. One that cannot be read now is rejected for that already.
    states = {path: replace(files[path], state=files[path].state + statement_digest(stated(path))) for path in tasks}
    title = f"rejected images of {source.name}"
    breasts, _ = read_values(read_breasts, tasks, states, workers, file_cache, kind="breast", title=title, max_in_process=512)
    for path, text in breasts.items():
        if not text:  # the image does not say its breast
            continue
        patient, study, letter, instance, modality = json.loads(text)
        breast = (patient, study, Laterality(letter))
        row = rows.get(instance) or labels.statements.sizes_by_path.get(path) or ImageFacts(0)
        facts = (*(() if is_named(path) else facts_by_path.get(path, ())), *(() if row.patient else row.facts))
        if path in described and facts and row.laterality in (None, breast[2]):  # else nobody knows of which breast it is
            found.append((breast, facts))
        if path in of_exams and modality in ("", "MG"):
            exams.add(breast)
    return found, frozenset(exams)


def read_breasts(tasks: Sequence[BreastTask]) -> list[tuple[str, str | Rejection]]:
    """Read on a worker, as JSON, patient, study, side, UID and Modality; nothing where the image does not say its breast."""
    found: list[tuple[str, str | Rejection]] = []
    for root, path, policy, said in tasks:
        try:
            image = read_breast(root, path, policy, said)
        except OSError as error:
            found.append((path, Rejection.unreadable(path, error)))
        else:
            found.append((path, json.dumps([*image[0], *image[1:]]) if image else ""))
    return found
