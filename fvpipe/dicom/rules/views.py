"""Checks of view and side: a standard CC or MLO of the left or the right breast.

Source of tags and codes: DICOM PS3.3 C.8.11 (mammography), PS3.16 CID 4014 and 4015.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache

from pydicom.dataset import Dataset

from fvpipe.dicom.elements import MAX_KNOWN_TEXTS, RejectedFile, code, items, number, shown_code, shown_term, text, texts, words
from fvpipe.dicom.orientation import find_orientation
from fvpipe.dicom.rules.base import RuleContext
from fvpipe.dicom.rules.languages import english
from fvpipe.dicom.rules.phrases import phrases
from fvpipe.reasons import Reason
from fvpipe.types import Laterality, Orientation, View

# Views: code values of SNOMED CT and of the older SRT / SNM3, CID 4014
VIEW_CODES = {"399162004": View.CC, "R-10242": View.CC, "399368009": View.MLO, "R-10226": View.MLO}
ML_CODES = frozenset({"399260004", "R-10224"})
VIEW_MEANINGS = {
    "CRANIO CAUDAL": View.CC,
    "CRANIOCAUDAL": View.CC,
    "MEDIO LATERAL OBLIQUE": View.MLO,
    "MEDIOLATERAL OBLIQUE": View.MLO,
}
# Side of an anatomic region, CID 244; then the regions left and right breast
SIDE_CODES = {
    "7771000": "L", "G-A101": "L", "24028007": "R", "G-A100": "R",
    "80248007": "L", "T-04030": "L", "73056007": "R", "T-04020": "R",
}  # fmt: skip
BOTH = frozenset({"B", "U", "BOTH", "BILATERAL"})  # sides of a series of several images
# A whole text: `LEFT BREAST` and `LBREAST`, not `L`
SIDE_OF_BODY_PART = "(LEFT|RIGHT|L|R) ?BREAST|BREAST (LEFT|RIGHT|L|R)|(LEFT|RIGHT)"
# View modifiers, CID 4015: a view with any other is not a standard one
IMPLANT_DISPLACED = frozenset({"399209000", "R-102D5"})
HARMLESS_MODIFIERS = frozenset({"442581004", "R-40AB3"})  # nipple in profile
STANDARD_MAGNIFICATION = (0.9, 1.2)
# Of two elements, the magnification; the second where Pixel Spacing Calibration Type is GEOMETRY
RATIOS = (("DistanceSourceToDetector", "DistanceSourceToPatient"), ("ImagerPixelSpacing", "PixelSpacing"))
OBLIQUE_ANGLES = (30, 150)  # degrees of the beam from the vertical, to either side, at which no CC is exposed
LATERAL_ANGLES = (80, 100)  # at which an ML or LM is exposed, and no MLO
# Searched for in words without accents and punctuation. The abbreviations joined to CC and MLO are those of CID 4014 and 4015
# (ACR): M and S before the view, RL, RM, RI, RS, TAN and ID after it. Apart from it, RM may be a room.
# `LMCC`, `MLOMAG` and `L M CC`, not `MLO`
SPOT_OR_MAGNIFIED = r"\b[LR]?([MS]|MAG|SPOT)(CC|MLO)\b|\b[LR]?(CC|MLO)(MAG|SPOT)\b|\b[LR] [MS] ?(CC|MLO)\b"
# `MAGN` and `SPOT NO 2`, the second one, not `NO SPOT`, `MAG NONE` or `MAG 1 0`; then `1 5X` and `X 1 5`, not `1 0X`
SPOT_OR_MAGNIFIED += r"|(?<!\bNO )(?<!\bNON )\b(SPOT|SPT|SPOT ?MAG|MAG|MAGN(IF\w*)?|ZOOM|CONED?|LOUPE|LUPE)\b"
SPOT_OR_MAGNIFIED += r"(?! (FACTOR )?((NO|NONE)( \||$)|1 00?X?\b))|\b1 [3-9] ?X\b|\bX ?1 [3-9]\b"
NOT_STATED = (
    "neither label table nor path gives {} of this image (no row lists it, no column is named for it, or the pattern `path` "
    "does not fit it), and {}, which only DICOM files have"
)
NOR_STATED = "; nor does label table or path give one (no row lists it, no column is named for it, or its cell is empty)"
OTHER_VIEWS = phrases(
    "ROLL", "ROLLED", "TANGENTIAL", "EXAG*", "CLEAVAGE", "CLEO", "CLEOPATRA", "AXILLARY TAIL", "ANTERIOR COMPRESSION"
)
OTHER_VIEWS += r"|\b[LR]?XCC[LM]?\b|\b[LR]?(CC|MLO)(R[LMIS]| ?TAN| RL)\b"  # `LXCCL` and `CC TAN`, not `CC RM`
A_SIDE = "(LT?|RT?|LEFT|RIGHT)"
# In a text that names no standard view. AT (axillary tail) is an English word, RM a room, and ML oblique is MLO.
# `LML` and `LEFT LATERAL`, not `L ML OBLIQUE` or `LEFT LATERAL OBLIQUE`
OTHER_VIEWS_OF_A_SIDE = (
    rf"\b{A_SIDE} ?(ML(?! ?O(BL\w*)?\b)|LM|LMO|SIO|ISO|FB|CV|TAN|AXILLA)\b|\b(ML|LM|LMO|AXILLA) (LT|RT|LEFT|RIGHT)\b"
    rf"|^(?!.*\bOBL)(.* )?({A_SIDE} (TRUE |90 )?LAT(ERAL)?|(?<!UNI )(?<!MONO )(?<!BI )LAT(ERAL)? (LT|RT|LEFT|RIGHT)"
    r"|(TRUE|90) LAT(ERAL)?)\b"
)
STANDARD_VIEWS = r"\b[LR]?(CC|MLO)\b|" + phrases("CRANIO_CAUDAL*", "FACE")  # the last is French, as in `face et profil`
# Meanings of codes of other views, CID 4014, by the view of the code; in several languages `oblique` stands first
OTHER_MEANINGS = phrases(
    "LATERO_MEDIAL",
    "CAUDO_CRANIAL",
    "SUPERO_LATERAL",
    "SUPERO_MEDIAL",
    "INFERO_LATERAL",
    "INFERO_MEDIAL",
    "EXAGGERATED*",
    "SPOT*",
    "AXILL*",
)
NOT_MEANT = {
    View.CC: f"{OTHER_MEANINGS}|{phrases('MEDIO_LATERAL')}",
    # `MEDIOLATERAL`, not `OBLIQUE MEDIO LATERAL`
    View.MLO: OTHER_MEANINGS + r"|^(?!.*\b(OBL|MLO\b)).*\bMEDIO ?LATERAL\b",
}
# A view in a word of a description, also joined to a side or to abbreviations: `RMLO` and `LXCCTAN`, not `ACCESS`
A_VIEW = r"\b[LR]?[A-Z]{0,4}(CC|MLO)(?:MAG|SPOT|TAN|ID|R[LMIS])?\b"
# As a series description has it, or Fujifilm's processing description: `L CC` and `RTMLO`, not `CC LEFT`
SIDE_AND_VIEW = rf"\b{A_SIDE} ?(CC|MLO)\b"
VIEW_AND_SIDE = rf"\b(CC|MLO) {A_SIDE}\b"  # where no side stands before a view: `CC LEFT` and `MLO R`, not `MLO ROLLED`
# Both views of a side, or both sides of a view: `L CC AND MLO` and `R L CC`, not `L CC L MLO`
SEVERAL = r"\b(CC (AND |UND |ET |[YEI] )?MLO|MLO (AND |UND |ET |[YEI] )?CC)\b"
SEVERAL += r"|\b((LT?|LEFT) (AND |UND |ET |[YEI] )?(RT?|RIGHT)|(RT?|RIGHT) (AND |UND |ET |[YEI] )?(LT?|LEFT))\b"
OF_THE_DEVICE = ("PaddleDescription", "AcquisitionDeviceProcessingDescription")
FREE_TEXT = ("SeriesDescription", "ProtocolName", "AcquisitionProtocolName")
DISPLACED = phrases(
    "IMP_DISP",
    "IMP_DISPL*",
    "IMPL_DISP",
    "IMPL_DISPL*",
    "IMPLANTS?_DISP",
    "IMPLANTS?_DISPL*",
    "DISPLACED IMPLANTS?",
    "EKLUND",
    "PUSH_BACK",
    "PUSHED_BACK",
)
DISPLACED += r"|\b[LR]?(CC|MLO) ?ID\b(?! ?\d)"  # `LCCID` and `L MLO ID`, not `L CC ID 4711`, an identifier


def not_stated(context: RuleContext, fact: str, what: str) -> str:
    """Say that nothing gives a fact of an image whose header is not asked, or that has none as DICOM has it."""
    if fact in context.policy.from_header:  # a copy, whose row may be found by an element of that header
        found = NOT_STATED.format(what, "the adapter takes it from the header")
        return f"{found}: a copy in another format needs a declaration that takes it from a table or the path"
    return NOT_STATED.format(what, "the adapter does not take it from the header")


def view(context: RuleContext) -> View:
    """Check for CC or MLO: by the header, by the label table or path, or by both, which must agree."""
    stated = context.stated.view
    if not context.is_from_header("view"):
        if stated is None:
            raise RejectedFile(Reason.VIEW_MISSING, not_stated(context, "view", "a view"))
        return stated
    try:
        found = view_of_header(context)
    except RejectedFile as rejected:
        if rejected.reason is not Reason.VIEW_MISSING:
            raise
        if stated is None:
            raise RejectedFile(rejected.reason, rejected.detail + NOR_STATED) from None
        return stated
    if stated not in (None, found):
        raise RejectedFile(Reason.VIEW_CONFLICT, f"the header says {found}, the label table or path {stated}")
    return found


def view_of_header(context: RuleContext) -> View:
    """Check for CC or MLO by View Code Sequence first, then View Position, which must not disagree."""
    if context.policy.view_in_patient_orientation:
        name = text(context.dataset, "PatientOrientation").upper()
        if name not in ("CC", "MLO"):
            raise RejectedFile(Reason.VIEW_MISSING, f"PatientOrientation is {shown_term(name)}; expected CC or MLO here")
        return _as_patient_id(context, View(name))
    codes = [each for each in map(code, items(context.dataset, "ViewCodeSequence")) if each]
    first = codes[0] if codes else ""
    if len({VIEW_CODES.get(each, each) for each in codes}) > 1:  # one view may have codes of SNOMED CT and of SRT
        shown = " and ".join(shown_code(each) for each in codes[:2])
        raise RejectedFile(Reason.VIEW_CONFLICT, f"ViewCodeSequence has {len(codes)} views, {shown}; expected one")
    for item in items(context.dataset, "ViewCodeSequence"):
        meant = VIEW_MEANINGS.get(words(text(item, "CodeMeaning")))
        if meant and meant is not VIEW_CODES.get(code(item), meant):
            raise RejectedFile(Reason.VIEW_CONFLICT, f"view code is {shown_code(code(item))}, its meaning {meant}")
        stated = VIEW_CODES.get(code(item))
        if stated and re.search(NOT_MEANT[stated], words(text(item, "CodeMeaning"))):
            raise RejectedFile(Reason.VIEW_CONFLICT, f"view code is {shown_code(code(item))}, its meaning another view")
    (_, position), coded = _view_position(context.dataset), VIEW_CODES.get(first) or VIEW_MEANINGS.get(words(first))
    if context.policy.ml_is_mlo:
        position, coded = "MLO" if position == "ML" else position, View.MLO if first in ML_CODES else coded
    positioned = View(position) if position in ("CC", "MLO") else None
    if first and position and coded is not positioned:
        raise RejectedFile(Reason.VIEW_CONFLICT, f"view code is {shown_code(first)}, ViewPosition is {shown_term(position)}")
    if not first and not position:
        raise RejectedFile(Reason.VIEW_MISSING, "neither ViewCodeSequence nor ViewPosition is given")
    found = coded or positioned
    if found is None:
        shown = shown_code(first) if first else shown_term(position)
        raise RejectedFile(Reason.VIEW_NOT_PAIRABLE, f"the view is {shown}; expected CC or MLO")
    processed = side_and_view(text(context.dataset, "AcquisitionDeviceProcessingDescription"))
    if processed and processed[1] is not found:
        detail = f"the view is {found}, by AcquisitionDeviceProcessingDescription {processed[1]}"
        raise RejectedFile(Reason.VIEW_CONFLICT, detail)
    angle, (least, most) = abs(number(context.dataset, "PositionerPrimaryAngle", 0)), OBLIQUE_ANGLES
    if found is View.MLO:
        least, most = LATERAL_ANGLES
    if least < angle < most:
        detail = f"the view is {found}, PositionerPrimaryAngle {angle:g} degrees; expected at most {least}"
        raise RejectedFile(Reason.VIEW_CONFLICT, detail)
    return _as_patient_id(context, found)


def _view_position(dataset: Dataset) -> tuple[str, str]:
    """Side, where it stands beside the view as in ``R-MLO``, and view of View Position; its name in full is the view, too."""
    position = text(dataset, "ViewPosition").upper()
    if re.fullmatch(f"{SIDE_AND_VIEW}|{VIEW_AND_SIDE}", words(position)) and (named := side_and_view(position)):
        return named
    return "", VIEW_MEANINGS.get(words(position), position)


def _as_patient_id(context: RuleContext, found: View) -> View:
    if (named := in_patient_id(context, "view")) not in ("", found):
        detail = f"the view is {found}, {context.policy.patient_keyword} names {shown_term(named)}"
        raise RejectedFile(Reason.VIEW_CONFLICT, detail)
    return found


def in_patient_id(context: RuleContext, fact: str) -> str:
    """Side or view that the patient's identifier names, where the data set's pattern has a group for it."""
    pattern = re.compile(context.policy.patient_pattern)
    match = pattern.search(text(context.dataset, context.policy.patient_keyword)) if fact in pattern.groupindex else None
    return (match[fact] or "").upper() if match else ""


@lru_cache(MAX_KNOWN_TEXTS)
def side_and_view(description: str) -> tuple[Laterality, View] | None:
    """Side and view that a description names, such as ``R MLO``; None where it names none or several.

    Examples
    --------
    >>> side_and_view("RMLO"), side_and_view("CC left, 2D"), side_and_view("R CC, L CC"), side_and_view("L CC and MLO")
    ((<Laterality.RIGHT: 'R'>, <View.MLO: 'MLO'>), (<Laterality.LEFT: 'L'>, <View.CC: 'CC'>), None, None)
    """
    found = {(side[0], view) for side, view in re.findall(SIDE_AND_VIEW, words(description))}
    found = found or {(side[0], view) for view, side in re.findall(VIEW_AND_SIDE, words(description))}
    if len(found) != 1 or re.search(SEVERAL, words(description)):
        return None
    ((side, view),) = found
    return Laterality(side), View(view)


def view_modifiers(context: RuleContext) -> frozenset[str]:
    """Check that no modifier makes the view another one than the standard view; returns the code values.

    Image Type, the paddle and the device's processing say so, too. A description is read where the header has no place for
    modifiers, or where it names the view itself: then it is of this image, and not of the exam.
    """
    holders = *items(context.dataset, "ViewCodeSequence"), context.dataset
    modifiers = frozenset(code(item) for holder in holders for item in items(holder, "ViewModifierCodeSequence"))
    unusual = sorted(modifiers - IMPLANT_DISPLACED - HARMLESS_MODIFIERS - {""})
    if unusual:
        raise RejectedFile(Reason.VIEW_MODIFIED, f"view modifier {shown_code(unusual[0])}; expected none but implant displaced")
    named = {"ImageType": " | ".join(words(value) for value in texts(context.dataset, "ImageType")[2:])}
    named |= {keyword: english(text(context.dataset, keyword)) for keyword in (*OF_THE_DEVICE, *FREE_TEXT)}
    if any("ViewModifierCodeSequence" in holder for holder in holders):
        this = {context.facts.get(view)}
        named = {k: found for k, found in named.items() if k not in FREE_TEXT or set(re.findall(A_VIEW, found)) == this}
    if context.policy.ml_is_mlo:
        named = {keyword: re.sub(r"\bML\b", "MLO", found) for keyword, found in named.items()}
    for keyword, found in named.items():
        if re.search(SPOT_OR_MAGNIFIED, found):
            raise RejectedFile(Reason.VIEW_MODIFIED, f"{keyword}: spot compression or magnification; expected a standard view")
        of_a_side = re.search(OTHER_VIEWS_OF_A_SIDE, found) and not re.search(STANDARD_VIEWS, found)
        if of_a_side or re.search(OTHER_VIEWS, found):
            raise RejectedFile(Reason.VIEW_MODIFIED, f"{keyword}: another view, such as ML, XCCL or TAN; expected CC or MLO")
        if re.search(DISPLACED, found):
            modifiers |= IMPLANT_DISPLACED
    return modifiers


def partial_view(context: RuleContext) -> None:
    """Check that the image is not said to show a part of the breast."""
    partial = text(context.dataset, "PartialView").upper()
    if partial == "YES" or items(context.dataset, "PartialViewCodeSequence"):
        raise RejectedFile(Reason.VIEW_MODIFIED, "PartialView: a part of the breast; expected the whole one")


def magnification(context: RuleContext) -> float:
    """Check for the magnification of a standard view; 1 where nothing tells it.

    Its factor tells it, else the distances, else a Pixel Spacing that is corrected for it.
    """
    keyword = "EstimatedRadiographicMagnificationFactor"
    factor = number(context.dataset, keyword, 0.0)
    if not factor:
        factor = 1.0
        corrected = text(context.dataset, "PixelSpacingCalibrationType").upper() == "GEOMETRY"
        for ratio in RATIOS if corrected else RATIOS[:1]:
            detector, patient = (_first_number(context.dataset, each) for each in ratio)
            if detector > 0 and patient > 0:
                keyword, factor = " / ".join(ratio), detector / patient
                break
    low, high = STANDARD_MAGNIFICATION
    if math.isnan(factor):
        raise RejectedFile(Reason.VIEW_MODIFIED, f"{keyword} is not one number; expected {low} to {high}")
    if not low <= factor <= high:
        raise RejectedFile(Reason.VIEW_MODIFIED, f"{keyword}: magnified {factor:g} times; expected {low} to {high}")
    return factor


def _first_number(dataset: Dataset, keyword: str) -> float:
    try:
        return float(texts(dataset, keyword)[0])
    except (IndexError, ValueError):  # absent, empty or no number
        return 0.0


def laterality(context: RuleContext) -> Laterality:
    """Check for L or R: by the header, by the label table or path, or by both, which must agree."""
    stated = context.stated.laterality
    if not context.is_from_header("laterality"):
        if stated is None:
            raise RejectedFile(Reason.LATERALITY_MISSING, not_stated(context, "laterality", "a side"))
        return stated
    found = side_of_header(context)
    if found is None:
        if stated is None:
            detail = "laterality: none given; expected L or R"
            raise RejectedFile(Reason.LATERALITY_MISSING, detail + NOR_STATED)
        return stated
    if stated not in (None, found):
        raise RejectedFile(Reason.LATERALITY_CONFLICT, f"the header says {found}, the label table or path {stated}")
    return found


def side_of_header(context: RuleContext) -> Laterality | None:
    """Check for L or R, the same in every element that gives a side; None where none does."""
    given = {key: text(context.dataset, key).upper() for key in ("ImageLaterality", "Laterality", "FrameLaterality")}
    if given["ImageLaterality"] and given["Laterality"] in BOTH:  # of a series of both breasts
        del given["Laterality"]
    for keyword in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):  # where the standard has it
        anatomies = [anatomy for group in items(context.dataset, keyword) for anatomy in items(group, "FrameAnatomySequence")]
        given[f"FrameLaterality in {keyword}"] = "\\".join(
            sorted({text(anatomy, "FrameLaterality").upper() for anatomy in anatomies})
        )
    given = {keyword: {"LEFT": "L", "RIGHT": "R"}.get(side, side) for keyword, side in given.items() if side}
    if named := in_patient_id(context, "laterality"):  # alone in some films of CBIS-DDSM
        given[context.policy.patient_keyword] = named[0]
    if not given:
        return None
    if not set(given.values()) <= {"L", "R"}:
        found = ", ".join(f"{keyword} {shown_term(side)}" for keyword, side in given.items())
        raise RejectedFile(Reason.LATERALITY_MISSING, f"laterality: {found}; expected L or R")
    for anatomy in ("AnatomicRegion", "PrimaryAnatomicStructure"):
        regions = items(context.dataset, f"{anatomy}Sequence")
        modifiers = [item for region in regions for item in items(region, f"{anatomy}ModifierSequence")]
        coded = {SIDE_CODES.get(code(item)) or _named_side(text(item, "CodeMeaning")) for item in (*regions, *modifiers)}
        sides = {side for side in coded if side}
        if len(sides) == 1:  # two are both breasts, as an exam has them
            given[f"{anatomy}Sequence"] = sides.pop()
    if part := _named_side(text(context.dataset, "BodyPartExamined")):
        given["BodyPartExamined"] = part
    if positioned := _view_position(context.dataset)[0]:
        given["ViewPosition"] = positioned
    types = {words(value) for value in texts(context.dataset, "ImageType")[2:]} & {"LEFT", "RIGHT"}
    if len(types) == 1:
        given["ImageType"] = types.pop()[0]
    if processed := side_and_view(text(context.dataset, "AcquisitionDeviceProcessingDescription")):
        given["AcquisitionDeviceProcessingDescription"] = processed[0]
    if len(set(given.values())) > 1:
        raise RejectedFile(Reason.LATERALITY_CONFLICT, ", ".join(f"{keyword} {side}" for keyword, side in given.items()))
    return Laterality(next(iter(given.values())))


def _named_side(part: str) -> str:
    """L or R where a text is the name of a side or of its breast, else nothing."""
    found = re.fullmatch(SIDE_OF_BODY_PART, words(part))
    return "".join(side or "" for side in found.groups())[:1] if found else ""


def patient_orientation(context: RuleContext) -> Orientation:
    """Check that Patient Orientation fits view and side; returns how the pixels lie.

    Field of View Rotation and Horizontal Flip are about the detector and not about the patient: where Patient Orientation
    is given they are not read, and where it is not they only tell that the image may not be upright.
    """
    dataset = context.dataset
    found = find_orientation(texts(dataset, "PatientOrientation"), context.fact(laterality), context.fact(view))
    if found is not Orientation.NOT_GIVEN:
        return found
    turned = number(dataset, "FieldOfViewRotation", 0) % 360 != 0
    flipped = text(dataset, "FieldOfViewHorizontalFlip").upper() == "YES"
    return Orientation.UNKNOWN if turned or flipped else found
