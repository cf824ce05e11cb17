"""Checks of the kind of image: a single-frame 2D mammogram for presentation, full-field, synthetic or low-energy.

Source of the terms of Image Type: DICOM PS3.3 C.8.11.7.1.4; of what older devices write instead, headers in public code.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from pydicom.dataset import Dataset
from pydicom.uid import (
    BreastProjectionXRayImageStorageForPresentation,
    BreastProjectionXRayImageStorageForProcessing,
    BreastTomosynthesisImageStorage,
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForProcessing,
    KeyObjectSelectionDocumentStorage,
    SecondaryCaptureImageStorage,
)

from fvpipe.dicom.attributes import is_for_processing
from fvpipe.dicom.elements import (
    MAX_KNOWN_TEXTS,
    RejectedFile,
    code,
    integer,
    items,
    number,
    shown_code,
    shown_term,
    shown_uid,
    text,
    texts,
    words,
)
from fvpipe.dicom.rules.base import RuleContext
from fvpipe.dicom.rules.languages import english
from fvpipe.dicom.rules.phrases import phrases
from fvpipe.reasons import Reason

# Searched for in words without accents and punctuation, of Image Type from value 3 on, then of free text.
BIOPSY = "a stereotactic or biopsy image"
QUALITY_CONTROL, SPECIMEN, REJECTED = "a quality control image", "an image of a specimen", "a rejected exposure"
NO_VIEW = {
    QUALITY_CONTROL: phrases(
        "QUALITY CONTROL",
        "QC",
        "QUALITY ASSURANCE",
        "QA",
        "CDMAM*",
        "TOR_MAM",
        "TOR_MAS",
        "TOR_MAX",
        "TEST_OBJECT*",
        "PMMA",
        "TEST_IMAGES?",
        "AEC_TESTS?",
    )
    # `ACR PHANTOM` and `FLATFIELD`, not `FLAT FIELD CORRECTED`
    + r"|\b(PH|F)ANTO+M|\bFLAT ?FIELD\b(?! [CK]ORR)",
    SPECIMEN: phrases("SPECIMENS?"),
    # `REJECTED NOT DIAGNOSTIC` and `ABORTED`, not `NOT REJECTED` or `REJECT REASON NONE`: it is denied where nothing follows
    REJECTED: r"(?<!NOT )(?<!NO )\b(REJECT(ED)?|ABORTED)\b(?! (REASON |STATUS )?(NO|NONE|N|0|FALSE)( \||$))",
    "an image of injected ducts": phrases("GALACTOGRA*", "DUCTOGRA*", "PNEUMOCYSTOGRA*"),
    "a screen capture": phrases("SCREEN_SAVES?", "SCREEN_CAPTURES?", "SCREEN_SHOTS?", "DOSE_REPORTS?"),
    # By their products: Lunit, ScreenPoint, Hologic (R2), iCAD
    "an image of computed findings": phrases("LUNIT", "TRANSPARA", "IMAGE_CHECKER", "SECOND_LOOK", "CAD_MARKS", "CAD_RESULTS?"),
    "a map computed from an image": phrases("DENSITY_MAPS?", "HEAT_MAPS?", "SALIENCY_MAPS?", "SCORE_CARDS?"),
    BIOPSY: phrases(
        "STEREO*",
        "*BIOPS*",
        "PRE_FIRE*",
        "POST_FIRE*",
        "PREMARKER*",
        "POSTMARKER*",
        "SCOUTS?",
        "VABB?",
        "MAMMOTOME",
        "NEEDLES?",
        "HOOK_WIRES?",
        "WIRE LOC*",
        "LOCALISATION",
        "LOCALIZATION",
    ),
}
"""Images that are not views of a breast."""
# By these a description speaks of a biopsy that was before this exam.
EARLIER = phrases(
    "FOLLOW_UPS?",
    "F U",
    "STATUS P",
    "STATUS POST",
    "S P",
    "S POST",
    "HISTORY",
    "HX",
    "H O",
    "PREVIOUS*",
    "PRIOR",
    "KONTROLLE",  # German
    "SUIVI",  # French
)
# `AFTER BIOPSY` and `MAMMO L POST BIOPSY`, not `STEREO MAMMO POST BIOPSY`
EARLIER += (
    r"|\bAFTER (\w+ )?(BIOPS|VABB?\b)|^(?!.*\b(STEREO|GUID)).*\b"
    r"(MAM(MO?|MOGRA\w*)? (.* )?POST (BIOPS|VABB?\b)|POST (BIOPS\w*|VABB?) (.* )?MAM(M|\b))"
)
# Of the images of a contrast-enhanced exam only the low-energy one is like a mammogram.
# `SUBTRACTED` and `L CC SUBTRACTION`, not `DARK SUBTRACTED`, which is a correction of the detector
RECOMBINED = phrases("RECOMB*", "IODINE", "HIGH_ENERGY") + r"|(?<!OFFSET )(?<!DARK )\bSUBTRACT"
LOW_ENERGY = phrases("LOW_ENERGY")
HIGH_KVP = (44, 60)  # of the high-energy exposure, at 45 to 49; an X-ray tube has less for a mammogram
HIGH_ENERGY_FILTERS = frozenset({"COPPER", "CU", "TITANIUM", "TI"})  # of no other exposure of a breast
# What is written where there is no agent: whole texts, and beginnings of them. `NONE` and `KEIN KM`, not `NON IONIC`.
NO_CONTRAST = (
    r"(|N|NON|N ?A|0|FALSE|NIL|NATIV|BRAK|無|无|なし|非造影)|(НЕТ|БЕЗ"  # noqa: RUF001 - Cyrillic
    r"|NO|NOT|NONE|NON CONTRAST|WITHOUT|W O|KEIN\w*|OHNE|SANS|AUCUN\w*|SIN|NINGUN\w*|NAO|SEM|NENHUM\w*|SENZA|NESSUN\w*"
    r"|GEEN|BEZ|UTAN|INGEN|UDEN)( .*)?"
)
CONTRAST = phrases(
    "PRE CONTRAST",
    "POST CONTRAST",
    "CONTRAST ENHANCED",
    "CEM",
    "CESM",
    "CEDS?M",
    "CE_2D",
    "CONTRAST_2D",
    "CONTRAST_MAMMO*",
    "DUAL_ENERGY",
    "SENOBRIGHT",  # GE
    "I_VIEW",  # Hologic
    "TICEM",  # Siemens
)
# TOMOSYNTHESIS says nothing of the image
SYNTHETIC = phrases(
    "C_VIEW", "C_VIEWHD", "INTELLIGENT_2D", "I2D",  # Hologic
    "S_VIEW", "S_VIEWHD",  # Fujifilm
    "G_VIEW", "G_VIEWHD",  # Giotto
    "V_PREVIEW", "VOLUME_PREVIEW",  # GE
    "INSIGHT_2D",  # Siemens
    # The general words, in several languages
    "GENERATED_2D", "2D GENERATED", "SYNTH?ETI*", "SINTH?ETI*", "SYNTHESISED*", "SYNTHESIZED*",
    "SYNT", "SYNTHE?", "SYN_MAMM*", "SYNTH?_MAMM*", "S2D",
    "SYN_2D", "SYNTH?_2D", "SINTH?_2D",
    "2D FROM TOMO*", "2D FROM DBT", "2D FROM 3D",
    "2D_SYN", "2D_SYNT", "2D_SYNTH*", "2D_SINT", "2D_SINTH*",
)  # fmt: skip
# In Image Type alone: a description may name the exam instead.
GENERATED_2D = f"{SYNTHETIC}|{phrases('TOMO 2D')}"
# A projection, a slice or a slab, unless the 2D image is said to be computed.
TOMOSYNTHESIS = phrases("TOMO", "TOMOSYNTHESIS", "PROJECTION", "SLICE", "SLAB", "VOLUME", "MIP")
# In descriptions
SLICE = phrases(
    "SLICES?",
    "SMART_SLICES?",  # Hologic
    "SLABS?",
    "THICK_SLABS?",
    "MIPS?",
    "INSIGHT_3D",  # Siemens
    "TOMO RECONS?",
    "TOMO RECONSTRUCTIONS?",
    "TOMOSYNTHESIS RECONS?",
    "TOMOSYNTHESIS RECONSTRUCTIONS?",  # Hologic
)
PROJECTION = phrases(
    "TOMO PROJS?",
    "TOMO PROJECTIONS?",
    "TOMOSYNTHESIS PROJS?",
    "TOMOSYNTHESIS PROJECTIONS?",
    "DBT PROJS?",
    "DBT PROJECTIONS?",
    "RAW PROJS?",
    "RAW PROJECTIONS?",
)
BREAST_TOMOSYNTHESIS = frozenset({
    BreastTomosynthesisImageStorage, BreastProjectionXRayImageStorageForPresentation,
    BreastProjectionXRayImageStorageForProcessing,
})  # fmt: skip
ADDITION = phrases("ADDITION")
FREE_TEXT = ("SeriesDescription", "DerivationDescription", "AcquisitionDeviceProcessingDescription")
# Titles of Key Object notes that reject images: for quality, safety, a wrong worklist entry, an expired retention (CID 7011)
REJECTING_TITLES = frozenset({"113001", "113037", "113038", "113039"})
SPECIMEN_VIEWS = frozenset({"127457009", "G-8310"})  # SNOMED CT and SRT, as view or as its modifier


@dataclass(frozen=True, slots=True)
class ImageKind:
    """Kind of an accepted image: full-field where both are False."""

    synthetic: bool  # a 2D image computed from tomosynthesis
    low_energy: bool  # the low-energy image of a contrast-enhanced exam

    def __str__(self) -> str:
        """Name the kind."""
        names = [name for name, is_it in (("synthetic", self.synthetic), ("low-energy", self.low_energy)) if is_it]
        return " and ".join(names) or "full-field"


def image_kind(context: RuleContext) -> ImageKind:
    """Check for an image that can be a standard view, and tell full-field, synthetic and low-energy ones apart.

    Image Type decides; free text is read for what it leaves open. Value 1 ORIGINAL is never a computed 2D image. A value 3
    that names a kind (contrast, energy, computed 2D) stands where a stereotactic or biopsy image has its own.
    """
    dataset = context.dataset
    for found, is_it in _objects(dataset).items():
        if is_it:
            raise RejectedFile(Reason.IMAGE_KIND_REFUSED, f"{found}; expected a view of a breast")
    image_type = [words(value) for value in texts(dataset, "ImageType")]
    # GE's processing code is as much a term of the device as those of Image Type.
    terms = " | ".join([*image_type[2:], words(text(dataset, "AcquisitionDeviceProcessingCode"))])
    free = " | ".join(
        [
            *(english(text(dataset, keyword)) for keyword in FREE_TEXT),
            *(words(text(item, "CodeMeaning")) for item in items(dataset, "DerivationCodeSequence")),
        ]
    )
    original, generated = image_type[:1] == ["ORIGINAL"], _has(GENERATED_2D, terms)
    low_energy, contrast = _has(LOW_ENERGY, terms), _has(CONTRAST, terms)
    rejected = {f"ImageType: {what}": _has(pattern, terms) for what, pattern in NO_VIEW.items()}
    rejected |= {f"description: {what}": _has(pattern, free) for what, pattern in NO_VIEW.items()}
    if generated or low_energy or contrast or _has(EARLIER, free):
        rejected[f"description: {BIOPSY}"] = False  # it names the exam; "phantom" and "specimen" name what is imaged
    rejected |= {
        "ImageType: both ORIGINAL and a computed 2D image": original and generated,
        "ImageType: a tomosynthesis projection, slice or slab": not generated and _has(TOMOSYNTHESIS, terms),
        "description: a tomosynthesis slice or slab": _has(SLICE, free)
        and not (original or generated or _has(SYNTHETIC, free)),
        "description: a tomosynthesis projection": not generated and _has(PROJECTION, free),
        "ImageType: a recombined or high-energy image": _has(f"{RECOMBINED}|{ADDITION}", terms),
    }
    if not low_energy:
        rejected["description: a recombined or high-energy image"] = _has(RECOMBINED, free)
        low_energy = _has(LOW_ENERGY, free)
        said = text(dataset, "ContrastBolusAgent")
        said = words(said) or said.upper().strip("-_/.? ")  # of no Latin letter it has no words
        coded = (words(text(item, "CodeMeaning")) or code(item) for item in items(dataset, "ContrastBolusAgentSequence"))
        agent = any(re.fullmatch(NO_CONTRAST, each) is None for each in (said, *coded))
        named = not original and (agent or _has(CONTRAST, free))  # an exposure of its own may have the description of its exam
        rejected["contrast-enhanced, and not said to be low-energy"] = (contrast or named) and not low_energy
    for found, is_it in rejected.items():
        if is_it:
            raise RejectedFile(Reason.IMAGE_KIND_REFUSED, f"{found}; expected a full-field, synthetic or low-energy view")
    # Fujifilm's S-View of this workstation is told from its exposures by value 1 alone.
    fuji = words(text(dataset, "ManufacturerModelName")) == "FDR 3000AWS" and image_type[:2] == ["DERIVED", "PRIMARY"]
    sources = {text(item, "ReferencedSOPClassUID") for item in items(dataset, "SourceImageSequence")}
    computed = _has(SYNTHETIC, free) or (fuji and not contrast) or bool(sources & BREAST_TOMOSYNTHESIS)
    return ImageKind(generated or (not original and computed), low_energy)


@lru_cache(MAX_KNOWN_TEXTS)
def _has(pattern: str, where: str) -> bool:
    return re.search(pattern, where) is not None


_OF_THE_EXAM = ("StudyDescription", "PerformedProcedureStepDescription", "RequestedProcedureDescription")
_OTHER_TEXT = (
    *((exam, what) for exam in _OF_THE_EXAM for what in (QUALITY_CONTROL, SPECIMEN)),
    ("ProtocolName", QUALITY_CONTROL),
    ("ProtocolName", SPECIMEN),
    ("PaddleDescription", BIOPSY),
    ("ImageComments", REJECTED),
    ("ExposureStatus", REJECTED),
)
"""Elements that name the exam or a part of the device, and the one kind of :data:`NO_VIEW` that they can be trusted in."""


def _objects(dataset: Dataset) -> dict[str, bool]:
    """What the elements made for it say that the image is of, beside a breast."""
    views = items(dataset, "ViewCodeSequence")
    modifiers = [item for holder in (*views, dataset) for item in items(holder, "ViewModifierCodeSequence")]
    codes = {code(item) for item in (*views, *modifiers)}
    filters = {part for value in texts(dataset, "FilterMaterial") for part in words(value).split()}
    containers = text(dataset, "ContainerIdentifier") + text(dataset, "SpecimenIdentifier")
    return {
        "QualityControlImage: of a phantom": text(dataset, "QualityControlImage").upper() in ("YES", "BOTH"),
        "BodyPartExamined: a phantom": "PHANTOM" in text(dataset, "BodyPartExamined").upper(),
        "BodyPartExamined: a specimen": "SPECIMEN" in text(dataset, "BodyPartExamined").upper(),
        "ContentQualification: a service image": text(dataset, "ContentQualification").upper() == "SERVICE",
        "KVP: the high-energy image of a contrast-enhanced exam": HIGH_KVP[0] <= number(dataset, "KVP", 0) <= HIGH_KVP[1],
        "FilterMaterial: the high-energy image of a contrast-enhanced exam": bool(filters & HIGH_ENERGY_FILTERS),
        "PatientName: a phantom": _is_phantom(dataset),
        "TomoLayerHeight: a tomosynthesis slice": number(dataset, "TomoLayerHeight", 0) > 0,  # Siemens writes 0 in exposures
        **{f"{keyword}: {what}": _has(NO_VIEW[what], english(text(dataset, keyword))) for keyword, what in _OTHER_TEXT},
        "PositionerType: stereo": "STEREO" in text(dataset, "PositionerType").upper(),
        "ViewCodeSequence: a specimen": bool(codes & SPECIMEN_VIEWS),
        "SpecimenDescriptionSequence: a specimen": bool(items(dataset, "SpecimenDescriptionSequence") or containers),
    }


def _is_phantom(dataset: Dataset) -> bool:
    try:
        return not {"PHANTOM", "QC"}.isdisjoint(english(text(dataset, "PatientName")).split())
    except RejectedFile:  # a name that cannot be read is not a reason to leave an image out
        return False


def sop_class(context: RuleContext) -> str:
    """Check for a 2D mammogram for presentation, or what the policy accepts; absent is allowed, as in VinDr-Mammo."""
    found, policy = text(context.dataset, "SOPClassUID"), context.policy
    allowed = {"", DigitalMammographyXRayImageStorageForPresentation, DigitalMammographyXRayImageStorageForProcessing}
    if is_for_processing(context.dataset) and not policy.for_processing:
        detail = (
            "a mammogram for processing; `for_processing: true` of the data set, or of `headers` in a declaration, accepts it"
        )
        raise RejectedFile(Reason.SOP_CLASS_REFUSED, detail)
    titles = {code(item) for item in items(context.dataset, "ConceptNameCodeSequence")}
    if found == KeyObjectSelectionDocumentStorage and titles & REJECTING_TITLES:
        detail = f"a Key Object note that rejects images, with the title {shown_code(max(titles))}; they are left out"
        raise RejectedFile(Reason.REJECTION_NOTE, detail)
    if found not in allowed | ({SecondaryCaptureImageStorage} if policy.secondary_capture else set()):
        detail = f"SOPClassUID is {shown_uid(found)}; expected {DigitalMammographyXRayImageStorageForPresentation}"
        if found == SecondaryCaptureImageStorage:
            detail += (
                " (of digitized film, `secondary_capture: true` of the data set, or of `headers` in a declaration, accepts it)"
            )
        raise RejectedFile(Reason.SOP_CLASS_REFUSED, detail)
    return found


def modality(context: RuleContext) -> str:
    """Check for MG; absent is allowed."""
    found = text(context.dataset, "Modality").upper()
    if found not in ("", "MG"):
        raise RejectedFile(Reason.MODALITY_REFUSED, f"Modality is {shown_term(found)}; expected MG")
    return found


def frames(context: RuleContext) -> int:
    """Check for a single frame."""
    found = integer(context.dataset, "NumberOfFrames", 1)
    if found != 1:
        raise RejectedFile(Reason.MULTI_FRAME, f"NumberOfFrames is {found}; expected 1")
    return found


def region_of_interest(context: RuleContext) -> None:
    """Check that the file is not a mask or cut-out of a lesion, where the data set has such files beside its films."""
    pattern = context.policy.region_pattern
    if pattern and re.search(pattern, text(context.dataset, context.policy.patient_keyword)):
        raise RejectedFile(Reason.REGION_OF_INTEREST, "a mask or a cut-out, and no film")
