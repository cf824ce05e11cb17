"""Checks of identifiers, and of the other elements of the record."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fvpipe.dicom import attributes
from fvpipe.dicom.elements import RejectedFile, printable, text, texts
from fvpipe.dicom.languages import english
from fvpipe.dicom.rules.base import RuleContext
from fvpipe.dicom.rules.image_kinds import image_kind
from fvpipe.dicom.rules.pixels import pixel_layout
from fvpipe.dicom.rules.views import (
    IMPLANT_DISPLACED,
    laterality,
    not_stated,
    patient_orientation,
    side_and_view,
    side_of_header,
    view,
    view_modifiers,
    view_of_header,
)
from fvpipe.io.spelling import folded_name
from fvpipe.reasons import Reason
from fvpipe.types import Edge, ImageRecord, Orientation


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
    if not policy.keep_studies_apart or policy.patient_from == "study":
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
    return context.policy.identifier("patient", _patient_as_written(context))


def _patient_as_written(context: RuleContext) -> str:
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
    # U+FFFD stands for bytes that its character set does not have: two patients could become one.
    if len(value) > 64 or not value.isprintable() or "\ufffd" in value:
        found = f"{keyword} has {len(value)} characters, or some that are no text"
        raise RejectedFile(Reason.IDENTIFIER_INVALID, f"{found}; expected at most 64, all printable")
    return value


def image_record(context: RuleContext) -> tuple[ImageRecord, str]:
    """Check that the other elements of the record are readable; returns the record and the acquisition date.

    The date is only compared, so it is an identifier like any other: hashed where the data set hashes identifiers.
    """
    dataset, policy, layout = context.dataset, context.policy, pixel_layout(context)
    patient, study = context.fact(identity)
    row_spacing, column_spacing = attributes.pixel_spacing(dataset)
    modifiers: frozenset[str] = context.facts.get(view_modifiers, frozenset())
    orientation: Orientation = context.facts.get(patient_orientation, Orientation.NOT_GIVEN)
    given = orientation not in (Orientation.NOT_GIVEN, Orientation.UNKNOWN)
    kind, stated, dates = context.fact(image_kind), context.stated, attributes.study_date(dataset)
    described = side_and_view(english(text(dataset, "SeriesDescription"))) or ()
    person = attributes.person(dataset)
    if policy.patient_from == "patient_id" and context.is_from_header("patient"):
        person["name"] = folded_name(_patient_as_written(context))
    record = ImageRecord(
        path=context.path,
        patient_id=patient,
        study=study,
        sop_instance_uid=policy.identifier("instance", text(dataset, "SOPInstanceUID")),
        laterality=context.fact(laterality),
        view=context.fact(view),
        rows=layout.rows,
        columns=layout.columns,
        bits_stored=layout.bits_stored,
        photometric_interpretation=layout.photometric_interpretation,
        transfer_syntax_uid=layout.transfer_syntax_uid,
        row_spacing=row_spacing,
        column_spacing=column_spacing,
        manufacturer=printable(text(dataset, "Manufacturer"))[:64],
        patient_age=attributes.patient_age(dataset),
        chest_wall=Edge.of(context.fact(laterality)) if given else None,
        orientation=orientation,
        implant=text(dataset, "BreastImplantPresent").upper() == "YES" or stated.implant,
        implant_displaced=bool(modifiers & IMPLANT_DISPLACED),
        synthetic=kind.synthetic or stated.synthetic,
        low_energy=kind.low_energy or stated.low_energy,
        overlay=attributes.has_overlay(dataset),
        shutter=bool(texts(dataset, "ShutterShape")),
        for_processing=attributes.is_for_processing(dataset),
        accession=policy.exam_digest("accession", text(dataset, "AccessionNumber")),
        study_date=" ".join(policy.exam_digest("date", part) for part in dates),
        exam_day=policy.shifted_day(patient, dates[-1]) if dates and stated.exam_day is None else stated.exam_day,
        person=" ".join(f"{name}:{policy.exam_digest(name, value)}" for name, value in person.items() if value),
        series=" ".join([policy.exam_digest("series", text(dataset, "SeriesInstanceUID")), *described]),
        identity_from=", ".join(_sources(context)),
    )
    return record, policy.identifier("date", attributes.acquisition_date(dataset))


def source_of_facts(text: str) -> dict[str, str]:
    """Parse ``identity_from`` of a record, or ``sources`` of what is stated: header, path or table, by fact.

    Examples
    --------
    >>> source_of_facts("patient path, view table"), source_of_facts("")
    ({'patient': 'path', 'view': 'table'}, {})
    """
    return dict(each.split(" ") for each in text.split(", ") if each)


def _sources(context: RuleContext) -> Iterator[str]:
    """Where label table or path decided: not where the header comes first and speaks."""
    spoken = {"patient": patient_of_header, "laterality": side_of_header, "view": view_of_header}
    for fact, where in source_of_facts(context.stated.sources).items():
        if fact in context.policy.header_first:
            try:
                found = spoken[fact](context) if fact in spoken else text(context.dataset, "StudyInstanceUID")
            except RejectedFile:  # it does not speak: the rule before would have rejected anything else
                found = None
            if found:
                continue
        yield f"{fact} {where}"
