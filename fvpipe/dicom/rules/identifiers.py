"""Checks of the identifiers of patient and exam."""

from __future__ import annotations

import re

from fvpipe.dicom.elements import RejectedFile, text
from fvpipe.dicom.policy import unusable_patient
from fvpipe.dicom.rules.base import RuleContext
from fvpipe.dicom.rules.views import not_stated
from fvpipe.reasons import Reason


def identity(context: RuleContext) -> tuple[str, str]:
    """Check for identifiers to group by; returns patient and study, hashed where the data set hashes identifiers."""
    policy, stated = context.policy, context.stated
    patient = patient_of_header(context) if context.is_from_header("patient") else ""
    if not (patient or stated.patient):
        raise _missing(context, "patient", policy.patient_keyword)
    if stated.patient and patient not in ("", stated.patient):
        detail = "the header names another patient than the label table or path; use a declaration that takes the patient from"
        raise RejectedFile(Reason.IDENTIFIER_CONFLICT, f"{detail} elsewhere, where its {policy.patient_keyword} means nothing")
    patient = patient or stated.patient
    if not policy.exams_apart:
        return patient, ""
    study = text(context.dataset, "StudyInstanceUID") if context.is_from_header("exam") else ""
    if not (study or stated.study):
        raise _missing(context, "exam", "StudyInstanceUID")
    # A study's UID is long and may identify a site: a digest distinguishes studies as well, and keeps breast ids short.
    return patient, policy.exam_digest("study", study) if study else stated.study


def _missing(context: RuleContext, fact: str, keyword: str) -> RejectedFile:
    detail = f"{keyword} is absent or empty" if context.is_from_header(fact) else not_stated(context, fact, f"the {fact}")
    if fact == "exam" and not context.is_from_header(fact):
        detail += ". Where a patient has one exam, the column of the patient can name it, too"
    return RejectedFile(Reason.IDENTIFIER_MISSING, detail)


def patient_of_header(context: RuleContext) -> str:
    """The patient as records hold it; nothing where the header has none."""
    return context.policy.identifier("patient", patient_as_written(context))


def patient_as_written(context: RuleContext) -> str:
    """The patient as the header has it, before it is hashed; nothing where the header has none."""
    policy, keyword = context.policy, context.policy.patient_keyword
    value = text(context.dataset, keyword)
    if not value:
        return ""
    if policy.patient_pattern:
        match = re.search(policy.patient_pattern, value)
        if not (match and match[1]):
            detail = f"{keyword} of {len(value)} characters is not of this data set's form"
            raise RejectedFile(Reason.IDENTIFIER_INVALID, detail)
        value = match[1]
    if problem := unusable_patient(value):
        raise RejectedFile(Reason.IDENTIFIER_INVALID, f"{keyword} {problem}")
    return value
