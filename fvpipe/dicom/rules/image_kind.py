"""Checks of the kind of image: a single-frame 2D mammogram for presentation."""

from __future__ import annotations

import re

from pydicom.uid import (
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
)

from fvpipe.dicom.elements import RejectedFile, integer, shown_term, shown_uid, text
from fvpipe.dicom.rules.base import RuleContext
from fvpipe.reasons import Reason


def sop_class(context: RuleContext) -> str:
    """Check for a 2D mammogram for presentation, or what the policy accepts; absent is allowed, as in VinDr-Mammo."""
    found, policy = text(context.dataset, "SOPClassUID"), context.policy
    allowed = {"", DigitalMammographyXRayImageStorageForPresentation, DigitalMammographyXRayImageStorageForProcessing}
    if found == DigitalMammographyXRayImageStorageForProcessing and not policy.for_processing:
        detail = "a mammogram for processing; the data set's `for_processing: true` accepts it"
        raise RejectedFile(Reason.SOP_CLASS_REFUSED, detail)
    if found not in allowed | ({SecondaryCaptureImageStorage} if policy.secondary_capture else set()):
        detail = f"SOPClassUID is {shown_uid(found)}; expected {DigitalMammographyXRayImageStorageForPresentation}"
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
    """Check that the file is no mask or cut-out of a lesion, where the data set has such files beside its films."""
    pattern = context.policy.region_pattern
    if pattern and re.search(pattern, text(context.dataset, context.policy.patient_keyword)):
        raise RejectedFile(Reason.REGION_OF_INTEREST, "a mask or a cut-out, and no film")
