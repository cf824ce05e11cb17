"""How the headers of one data set are read: where they depart from the standard, and whether identifiers are hashed."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from datetime import date
from typing import Literal

from blake3 import blake3

from fvpipe.config.formats import DICOM, Format
from fvpipe.types import Exam

SHIFT_DAYS = 1 << 20  # a patient's days are shifted by less than this


@dataclass(frozen=True, slots=True)
class HeaderPolicy:
    """How the headers of one data set are read.

    Attributes
    ----------
    formats : tuple of str
        Formats of the files that are images of the data set, told by their first bytes.
    inverted : bool
        Low values are white in those of them that cannot say so: PNG, JPEG, PGM and NRRD.
    secondary_capture : bool
        Accept the SOP class Secondary Capture (digitized film).
    for_processing : bool
        Accept mammograms for processing (raw detector data). Each is flagged.
    view_in_patient_orientation : bool
        Patient Orientation holds the name of the view (CBIS-DDSM).
    ml_is_mlo : bool
        The view ``ML``, by its name or its code, stands for MLO (INbreast).
    patient_from : {"patient_id", "study"}
        The element that identifies a patient; VinDr-Mammo publishes no patient, only the study.
    patient_pattern : str
        Regular expression whose first group is the patient inside that element; empty: the whole value. What groups
        ``laterality`` and ``view`` find must be those of the header; the side may stand there alone.
    region_pattern : str
        Regular expression of that element in files that are masks or cut-outs of lesions; empty: there are none.
    keep_studies_apart : bool
        Pair views only within a study.
    from_header : tuple of str
        Which of ``patient``, ``exam``, ``laterality`` and ``view`` are read from the header. Where the label table or the
        path speaks too, it must agree; the others come from there alone. An exam's names differ: that of the header counts.
    header_first : tuple of str
        Those of `from_header` for which the header is named as the source where it speaks.
    identifier_key : bytes
        32 bytes, the key of the digests that replace identifiers; empty: identifiers are published pseudonyms and are kept.
    """

    formats: tuple[Format, ...] = DICOM
    inverted: bool = False
    secondary_capture: bool = False
    for_processing: bool = False
    view_in_patient_orientation: bool = False
    ml_is_mlo: bool = False
    patient_from: Literal["patient_id", "study"] = "patient_id"
    patient_pattern: str = ""
    region_pattern: str = ""
    keep_studies_apart: bool = True
    from_header: tuple[str, ...] = ("patient", "exam", "laterality", "view")
    header_first: tuple[str, ...] = ("patient", "exam", "laterality", "view")
    identifier_key: bytes = field(default=b"", repr=False)  # never in a log

    @property
    def patient_keyword(self) -> str:
        """Keyword of the element that identifies a patient."""
        return {"patient_id": "PatientID", "study": "StudyInstanceUID"}[self.patient_from]

    @property
    def exams_apart(self) -> bool:
        """Whether a patient may have several exams, each a study."""
        return self.keep_studies_apart and self.patient_from != "study"

    def identifier(self, kind: str, value: str) -> str:
        """Return `value`, or its keyed digest (128 bits, hexadecimal) where identifiers are hashed; empty stays empty."""
        if not self.identifier_key or not value:
            return value
        return blake3(f"{kind}\0{value}".encode("utf-8", "surrogatepass"), key=self.identifier_key).hexdigest(length=16)

    def exam_digest(self, kind: str, value: str) -> str:
        """Return 12 hexadecimal digits that tell exams apart, keyed where identifiers are hashed; empty stays empty."""
        if self.identifier_key or not value:
            return self.identifier(kind, value)[:12]
        return blake3(value.encode("utf-8", "surrogatepass")).hexdigest()[:12]

    def shifted_day(self, patient: str, day: str) -> int | None:
        """Return the number of a day (``YYYYMMDD``), shifted by days that only patient and key decide; None for no day.

        It orders the days of a patient, whose identifier `patient` is as records hold it, and tells none of them.
        """
        try:
            number = date.fromisoformat(day).toordinal()
        except ValueError:
            return None
        name = patient.encode("utf-8", "surrogatepass")
        shift = blake3(name, key=self.identifier_key) if self.identifier_key else blake3(name)
        return number + int.from_bytes(shift.digest(length=8), "big") % SHIFT_DAYS

    def exam(self, named: Exam) -> Exam:
        """Names of an exam as the records have them."""
        names = {"study": named.study, "accession": named.accession, "date": named.date}
        return Exam(*(sys.intern(self.exam_digest(kind, value)) for kind, value in names.items()))


def unusable_patient(written: str) -> str:
    """Say why the identifier of a patient cannot be used; empty where it can."""
    # U+FFFD stands for bytes that its character set does not have: two patients could become one.
    if len(written) > 64 or not written.isprintable() or "\ufffd" in written:
        return f"has {len(written)} characters, or some that are not text; expected at most 64, all printable"
    return ""
