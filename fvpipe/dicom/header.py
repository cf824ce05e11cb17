"""Step 1a: a DICOM file's header -> :class:`ImageRecord`, or a :class:`Rejection` that says which rule it breaks.

The rules are the functions between :func:`read_header` and :func:`open_dicom`, in the order in which they are asked;
each raises :class:`Rejected` with its reason code. Nothing is guessed: a file that breaks a rule is named, counted and
left out. Source of the tags and codes: DICOM PS3.3 C.8.11 (mammography), PS3.16 CID 4014 and 4015.
"""

from __future__ import annotations

import math
import os
import re
import stat
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Literal

from blake3 import blake3
from pydicom.dataset import Dataset
from pydicom.uid import (
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
)

from fvpipe.dicom.elements import (
    RejectedFile,
    integer,
    items,
    number,
    printable,
    shown_code,
    shown_term,
    shown_uid,
    silenced,
    text,
    texts,
)
from fvpipe.dicom.layout import check_pixel_data, pixel_layout
from fvpipe.dicom.reader import HEADER_INFLATE_LIMIT, OpenedDicom, _Bounded, open_dicom, stream
from fvpipe.dicom.value_table import check_rescale
from fvpipe.reasons import Reason, Rejection
from fvpipe.types import Edge, ImageRecord, Laterality, View

# Views: code values of SNOMED CT and of the older SRT / SNM3, CID 4014
VIEW_CODES = {"399162004": View.CC, "R-10242": View.CC, "399368009": View.MLO, "R-10226": View.MLO}
# View modifiers, CID 4015: only these leave a view a standard one
IMPLANT_DISPLACED = frozenset({"399209000", "R-102D5"})
HARMLESS_MODIFIERS = frozenset({"442581004", "R-40AB3"})  # nipple in profile
STANDARD_MAGNIFICATION = (0.9, 1.2)

OVERLAY_GROUPS = frozenset(range(0x6000, 0x6020, 2))  # Overlay Data is (60xx,3000)


@dataclass(frozen=True, slots=True)
class HeaderPolicy:
    """How one data set's headers are to be read: where its adapter departs from the standard.

    Attributes
    ----------
    secondary_capture : bool
        Accept the SOP class Secondary Capture (digitised film).
    for_processing : bool
        Accept mammograms for processing: raw, as the detector gave them. Each is flagged.
    view_in_patient_orientation : bool
        Patient Orientation holds the name of the view (CBIS-DDSM).
    patient_from : {"patient_id", "study"}
        The element that tells patients apart; VinDr-Mammo publishes none but the study.
    patient_pattern : str
        Regular expression whose first group is the patient inside that element; empty: all of it.
    region_pattern : str
        Regular expression of that element in files that are no films but masks or cut-outs of lesions on them; empty: none.
    keep_studies_apart : bool
        Pair views only within a study.
    identifier_key : bytes
        32 bytes that key the digests that replace identifiers; empty: identifiers are published pseudonyms, kept.
    """

    secondary_capture: bool = False
    for_processing: bool = False
    view_in_patient_orientation: bool = False
    patient_from: Literal["patient_id", "study"] = "patient_id"
    patient_pattern: str = ""
    region_pattern: str = ""
    keep_studies_apart: bool = True
    identifier_key: bytes = field(default=b"", repr=False)  # never in a log

    def identifier(self, kind: str, value: str) -> str:
        """`value` as it may be written: itself, or its keyed digest (128 bits) where identifiers are hashed."""
        if not self.identifier_key or not value:
            return value
        return blake3(f"{kind}\0{value}".encode("utf-8", "surrogatepass"), key=self.identifier_key).hexdigest(length=16)


def read_header(root: Path, path: str, policy: HeaderPolicy) -> ImageRecord | Rejection:
    """Read the header of ``root / path``.

    Parameters
    ----------
    root : Path
        The input folder.
    path : str
        POSIX path relative to it.
    policy : HeaderPolicy

    Returns
    -------
    ImageRecord or Rejection
        Never raises for a bad file, whatever its bytes.
    """
    try:
        # Without following a FIFO into a hang: the kind of file is asked first.
        status = os.stat(root / path)
        if not stat.S_ISREG(status.st_mode):
            raise RejectedFile(Reason.NOT_A_FILE, "no regular file")
        with _Bounded(FileIO(root / path), status.st_size) as file:
            opened = open_dicom(file, HEADER_INFLATE_LIMIT)
            with silenced():
                return image_record(path, opened, policy)
    except RejectedFile as rejected:
        return Rejection(path, rejected.reason, rejected.detail)
    except OSError as error:
        return Rejection.unreadable(path, error)


def record_of(data: bytes | memoryview, path: str, policy: HeaderPolicy) -> ImageRecord | None:
    """What the header in a file's bytes says; None where a rule rejects it."""
    try:
        with silenced():
            return image_record(path, open_dicom(stream(data), HEADER_INFLATE_LIMIT), policy)
    except RejectedFile:
        return None


def image_record(path: str, opened: OpenedDicom, policy: HeaderPolicy) -> ImageRecord:
    """Ask every rule of the header, in order; the first that is broken raises :class:`Rejected`."""
    header = opened.header
    check_kind(header, policy)
    check_film(header, policy)
    layout = pixel_layout(opened)
    check_rescale(header)
    view, modifiers = read_view(header, policy)
    laterality = read_laterality(header, policy)
    check_pixel_data(opened, layout)
    patient, study = read_identity(header, policy)
    row_spacing, column_spacing = _spacing(header)
    return ImageRecord(
        path=path,
        patient_id=patient,
        study=study,
        sop_instance_uid=policy.identifier("instance", text(header, "SOPInstanceUID")),
        laterality=laterality,
        view=view,
        rows=layout.rows,
        columns=layout.columns,
        bits_stored=layout.bits_stored,
        photometric_interpretation=layout.photometric_interpretation,
        transfer_syntax_uid=layout.transfer_syntax_uid,
        row_spacing=row_spacing,
        column_spacing=column_spacing,
        manufacturer=printable(text(header, "Manufacturer"))[:64],
        patient_age=_age(header),
        chest_wall=chest_wall_edge(header),
        implant=text(header, "BreastImplantPresent").upper() == "YES",
        implant_displaced=bool(modifiers & IMPLANT_DISPLACED),
        synthetic=_is_synthetic(header),
        overlay=_has_overlay(header),
        shutter=bool(texts(header, "ShutterShape")),
        for_processing=text(header, "SOPClassUID") == DigitalMammographyXRayImageStorageForProcessing
        or _intent(header) == "FOR PROCESSING",
    )


# --- the rules --------------------------------------------------------------------------------------------------------


def check_kind(header: Dataset, policy: HeaderPolicy) -> None:
    """A single-frame 2D mammogram for presentation. An absent SOP class or Modality is allowed: VinDr-Mammo has none."""
    sop_class = text(header, "SOPClassUID")
    allowed = {"", DigitalMammographyXRayImageStorageForPresentation} | (
        {SecondaryCaptureImageStorage} if policy.secondary_capture else set()
    )
    if sop_class == DigitalMammographyXRayImageStorageForProcessing and not policy.for_processing:
        raise RejectedFile(
            Reason.SOP_CLASS_REFUSED, "a mammogram for processing; the data set's `for_processing: true` accepts it"
        )
    if sop_class not in allowed | {DigitalMammographyXRayImageStorageForProcessing}:
        expected = DigitalMammographyXRayImageStorageForPresentation
        raise RejectedFile(Reason.SOP_CLASS_REFUSED, f"SOPClassUID is {shown_uid(sop_class)}; expected {expected}")
    modality = text(header, "Modality").upper()
    if modality not in ("", "MG"):
        raise RejectedFile(Reason.MODALITY_REFUSED, f"Modality is {shown_term(modality)}; expected MG")
    frames = integer(header, "NumberOfFrames", 1)
    if frames != 1:
        raise RejectedFile(Reason.MULTI_FRAME, f"NumberOfFrames is {frames}; expected 1")


def check_film(header: Dataset, policy: HeaderPolicy) -> None:
    """No lesion's mask or cut-out, where the data set has such files beside its films."""
    if policy.region_pattern and re.search(policy.region_pattern, text(header, _PATIENT[policy.patient_from])):
        raise RejectedFile(Reason.REGION_OF_INTEREST, "a mask or a cut-out, and no film")


_PATIENT = {"patient_id": "PatientID", "study": "StudyInstanceUID"}


def read_view(header: Dataset, policy: HeaderPolicy) -> tuple[View, frozenset[str]]:
    """CC or MLO by View Code Sequence first, then View Position, and the code values of the view's modifiers."""
    if policy.view_in_patient_orientation:
        name = text(header, "PatientOrientation").upper()
        if name not in ("CC", "MLO"):
            raise RejectedFile(Reason.VIEW_MISSING, f"PatientOrientation is {shown_term(name)}; expected CC or MLO here")
        return View(name), frozenset()
    item = next(iter(items(header, "ViewCodeSequence")), Dataset())
    code, position = text(item, "CodeValue"), text(header, "ViewPosition").upper()
    coded = VIEW_CODES.get(code)
    positioned = View(position) if position in ("CC", "MLO") else None
    if code and position and coded is not positioned:
        raise RejectedFile(Reason.VIEW_CONFLICT, f"view code is {shown_code(code)}, ViewPosition is {shown_term(position)}")
    if not code and not position:
        raise RejectedFile(Reason.VIEW_MISSING, "neither ViewCodeSequence nor ViewPosition is given")
    view = coded or positioned
    if view is None:
        raise RejectedFile(
            Reason.VIEW_NOT_PAIRABLE, f"the view is {shown_code(code) if code else shown_term(position)}; expected CC or MLO"
        )
    found = [*items(item, "ViewModifierCodeSequence"), *items(header, "ViewModifierCodeSequence")]
    modifiers = frozenset(text(modifier, "CodeValue") for modifier in found)
    unusual = sorted(modifiers - IMPLANT_DISPLACED - HARMLESS_MODIFIERS)
    if unusual:
        raise RejectedFile(Reason.VIEW_MODIFIED, f"view modifier {shown_code(unusual[0])}; expected none but implant displaced")
    factor = number(header, "EstimatedRadiographicMagnificationFactor", 1.0)
    low, high = STANDARD_MAGNIFICATION
    if not low <= factor <= high:
        raise RejectedFile(Reason.VIEW_MODIFIED, f"magnified {factor:g} times; expected {low} to {high}")
    return view, modifiers


def read_laterality(header: Dataset, policy: HeaderPolicy) -> Laterality:
    """L or R, the same in every element that gives a side, and not contradicted by Patient Orientation."""
    keywords = ("ImageLaterality", "Laterality", "FrameLaterality")
    given = {keyword: text(header, keyword).upper() for keyword in keywords}
    given = {keyword: side for keyword, side in given.items() if side}
    if not given or not set(given.values()) <= {"L", "R"}:
        found = ", ".join(f"{keyword} {shown_term(side)}" for keyword, side in given.items()) or "none given"
        raise RejectedFile(Reason.LATERALITY_MISSING, f"laterality: {found}; expected L or R")
    if len(set(given.values())) > 1:
        found = ", ".join(f"{keyword} {side}" for keyword, side in given.items())
        raise RejectedFile(Reason.LATERALITY_CONFLICT, found)
    laterality = Laterality(next(iter(given.values())))
    orientation = [] if policy.view_in_patient_orientation else texts(header, "PatientOrientation")
    # Hung as the standard says, a left breast has rows towards A and columns towards R (or F and R), a right one
    # towards P and L. One of the two may be mirrored; both opposite means that it is the other breast.
    other = {Laterality.LEFT: ("P", "L"), Laterality.RIGHT: ("A", "R")}[laterality]
    if len(orientation) == 2 and orientation[0].startswith(other[0]) and other[1] in orientation[1]:
        raise RejectedFile(Reason.LATERALITY_CONFLICT, f"laterality {laterality}, PatientOrientation of the other breast")
    return laterality


def read_identity(header: Dataset, policy: HeaderPolicy) -> tuple[str, str]:
    """Patient and study to group by, hashed where the data set hashes identifiers."""
    keyword = _PATIENT[policy.patient_from]
    value = text(header, keyword)
    if not value:
        raise RejectedFile(Reason.IDENTIFIER_MISSING, f"{keyword} is absent or empty")
    if policy.patient_pattern:
        match = re.search(policy.patient_pattern, value)
        if not match:
            raise RejectedFile(
                Reason.IDENTIFIER_INVALID, f"{keyword} of {len(value)} characters is not of this data set's form"
            )
        value = match.group(1)
    # U+FFFD stands for bytes that its character set does not have: two patients could become one.
    if len(value) > 64 or not value.isprintable() or "\ufffd" in value:
        found = f"{keyword} has {len(value)} characters, or some that are no text"
        raise RejectedFile(Reason.IDENTIFIER_INVALID, f"{found}; expected at most 64, all printable")
    patient = policy.identifier("patient", value)
    if not policy.keep_studies_apart or policy.patient_from == "study":
        return patient, ""
    study = text(header, "StudyInstanceUID")
    if not study:
        raise RejectedFile(Reason.IDENTIFIER_MISSING, "StudyInstanceUID is absent or empty")
    # A study's UID is long and may tell a site: its digest serves as well, and keeps breast ids short.
    return patient, (policy.identifier("study", study) if policy.identifier_key else blake3(study.encode()).hexdigest())[:12]


# --- facts that reject nothing ----------------------------------------------------------------------------------------


def chest_wall_edge(header: Dataset) -> Edge | None:
    """The edge on which Patient Orientation puts the chest wall: rows that run to the anterior start at it."""
    orientation = texts(header, "PatientOrientation")
    towards = orientation[0][:1] if len(orientation) == 2 else ""
    return {"A": Edge.LEFT, "P": Edge.RIGHT}.get(towards)


def overlay_in_pixels(header: Dataset) -> bool:
    """Whether bits of the stored pixels that are no value's are an overlay's (retired; PS3.3-2004 C.9.2)."""
    planes = [group << 16 for group in OVERLAY_GROUPS]
    return any(plane | 0x0100 in header and plane | 0x3000 not in header for plane in planes)


def _has_overlay(header: Dataset) -> bool:
    tags = header.keys()  # of the elements as they lie there: none is parsed for it
    return any(tag >> 16 in OVERLAY_GROUPS and tag & 0xFFFF == 0x3000 for tag in tags)


def acquisition_date(header: Dataset) -> str:
    """The day of the exposure, to be compared within the reader and never to leave it; empty where it is not given."""
    with silenced():
        return text(header, "AcquisitionDate") or text(header, "ContentDate")


def _intent(header: Dataset) -> str:
    return text(header, "PresentationIntentType").upper()


def _is_synthetic(header: Dataset) -> bool:
    """A 2D image computed from tomosynthesis: vendors say so in Image Type or Series Description, in these words."""
    words = " ".join([*texts(header, "ImageType"), text(header, "SeriesDescription")]).upper()
    return any(mark in words for mark in ("GENERATED_2D", "C-VIEW", "V-PREVIEW", "S-VIEW", "INSIGHT 2D", "SYNTH"))


def _spacing(header: Dataset) -> tuple[float | None, float | None]:
    for keyword in ("ImagerPixelSpacing", "PixelSpacing"):
        try:
            row, column = (float(part) for part in texts(header, keyword))
        except ValueError:  # no numbers, or not two of them
            continue
        if math.isfinite(row) and math.isfinite(column) and row > 0 and column > 0:
            return row, column
    return None, None


def _age(header: Dataset) -> str:
    age = text(header, "PatientAge").upper()
    if not re.fullmatch(r"\d{3}Y", age):
        return ""
    return "90+" if int(age[:3]) >= 90 else age
