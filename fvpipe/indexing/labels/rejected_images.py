"""Rows about rejected images, which describe their breasts all the same: a cancer is one of the breast, whatever shows it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fvpipe.cache.file_cache import FileCache
from fvpipe.datasets.adapter import ImageFacts
from fvpipe.datasets.source import Source
from fvpipe.dicom.header import read_breast
from fvpipe.dicom.policy import HeaderPolicy
from fvpipe.execution.isolation import Crash
from fvpipe.execution.workers import Workers
from fvpipe.indexing.labels.breast_labels import BreastLabels, ImagedBreast
from fvpipe.indexing.labels.statements import Statements, statement_digest
from fvpipe.progress import progress
from fvpipe.reasons import PASSING, Reason, Rejection
from fvpipe.types import NOTHING_STATED, BreastFacts, ImageRecord, Laterality, SourceFile, StatedImage

_OF_NO_EXAM = PASSING | {
    Reason.VIEW_MODIFIED, Reason.VIEW_NOT_PAIRABLE, Reason.IMAGE_KIND_REFUSED, Reason.REGION_OF_INTEREST,
    Reason.REGION_WITHOUT_IMAGE, Reason.REJECTION_NOTE, Reason.MODALITY_REFUSED,
}  # fmt: skip
"""Reasons of images that show no exam of their own, such as spot views and specimens of a biopsy, or are not read now."""
BreastTask = tuple[Path, str, HeaderPolicy, StatedImage]
RowsOfBreasts = list[tuple[ImagedBreast, Sequence[BreastFacts]]]


def said_of_rejected(
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
    exams_apart = source.policy.keep_studies_apart and source.policy.patient_from != "study"
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
    tasks = {path: (source.root, path, source.policy, stated(path)) for path in sorted(described | of_exams)}
    found, exams = RowsOfBreasts(), set[ImagedBreast]()
    for path, (patient, study, letter, instance, modality) in _breasts(source.name, tasks, files, workers, file_cache).items():
        breast = (patient, study, Laterality(letter))
        row = rows.get(instance) or labels.statements.sizes_by_path.get(path) or ImageFacts(0)
        facts = (*(() if is_named(path) else facts_by_path.get(path, ())), *(() if row.patient else row.facts))
        if path in described and facts and row.laterality in (None, breast[2]):  # else nobody knows of which breast it is
            found.append((breast, facts))
        if path in of_exams and modality in ("", "MG"):
            exams.add(breast)
    return found, frozenset(exams)


def _breasts(
    name: str, tasks: Mapping[str, BreastTask], files: Mapping[str, SourceFile], workers: Workers, file_cache: FileCache
) -> dict[str, list[str]]:
    """What :func:`read_breasts` gives of each image that names its breast, by path."""
    cached = {path: replace(files[path], state=files[path].state + statement_digest(task[3])) for path, task in tasks.items()}
    known = {path: file_cache.value(file, "breast") for path, file in cached.items()}
    new = [task for path, task in tasks.items() if known[path] is None]
    with progress(f"rejected images of {name}", len(new), "files") as advance:
        for batch in workers.run(read_breasts, new, max_in_process=512):
            answers = {each[0]: each[1] for each in batch if not isinstance(each, Crash)}
            read = {path: text for path, text in answers.items() if text is not None}
            file_cache.put_values([(cached[path], text) for path, text in read.items()], "breast")
            known.update(read)
            advance(len(batch))
    return {path: json.loads(text) for path, text in known.items() if text}


def read_breasts(tasks: Sequence[BreastTask]) -> list[tuple[str, str | None]]:
    """On a worker: path, and patient, study, side, UID and Modality as JSON.

    The text is empty where the image does not say its breast; None where the file cannot be read this time.
    """
    found: list[tuple[str, str | None]] = []
    for root, path, policy, said in tasks:
        try:
            image = read_breast(root, path, policy, said)
        except OSError:
            found.append((path, None))
        else:
            found.append((path, json.dumps([*image[0], *image[1:]]) if image else ""))
    return found
