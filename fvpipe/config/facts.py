"""Facts of images and breasts that columns of a label table may give."""

from __future__ import annotations

from collections.abc import Collection

from fvpipe.config.loading import nearest
from fvpipe.types import BREAST_FACTS

IDENTITY = ("patient", "exam", "laterality", "view")
"""Facts that group images into breasts."""

KEYWORDS = {"study_uid": "StudyInstanceUID", "accession": "AccessionNumber", "study_date": "StudyDate"}
"""Keywords of DICOM for the facts by which a row names its exam as the header does."""

EXAM_NAMES = tuple(KEYWORDS)
"""These facts."""

EXAM_DATE = "exam_date"
"""Fact that orders the exams of a patient, and is not compared with a header."""

FACTS = (
    *IDENTITY,
    *EXAM_NAMES,
    EXAM_DATE,
    *("label", *BREAST_FACTS, "implant", "kind"),
    *("rows", "columns", "lesion", "category", "finding_bi_rads", "top", "bottom", "left", "right", "width", "height", "boxes"),
)
"""Facts that a column may give."""


def check_fact(fact: str, more: Collection[str] = ()) -> str:
    """Return a fact that a column may give; `more` are those of a declaration.

    Raises
    ------
    ValueError
        `fact` is unknown.
    """
    if fact not in FACTS and fact not in more:
        known = [*FACTS, *more]
        raise ValueError(f"no fact {fact!r}{nearest(fact, known)}; known: {', '.join(known)}")
    return fact
