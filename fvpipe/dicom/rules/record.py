"""The record of an accepted image, from the facts of the other rules and the elements that no rule of its own checks."""

from __future__ import annotations

from collections.abc import Iterator

from fvpipe.dicom import attributes
from fvpipe.dicom.elements import RejectedFile, printable, text, texts
from fvpipe.dicom.rules.base import RuleContext
from fvpipe.dicom.rules.identifiers import identity, patient_as_written, patient_of_header
from fvpipe.dicom.rules.image_kinds import image_kind
from fvpipe.dicom.rules.languages import english
from fvpipe.dicom.rules.pixels import pixel_layout
from fvpipe.dicom.rules.views import (
    IMPLANT_DISPLACED,
    laterality,
    patient_orientation,
    side_and_view,
    side_of_header,
    view,
    view_modifiers,
    view_of_header,
)
from fvpipe.io.folding import folded_name
from fvpipe.types import Edge, ImageRecord, Orientation, sources_by_fact


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
        person["name"] = folded_name(patient_as_written(context))
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


def _sources(context: RuleContext) -> Iterator[str]:
    """Where label table or path decided: not where the header comes first and speaks."""
    spoken = {"patient": patient_of_header, "laterality": side_of_header, "view": view_of_header}
    for fact, where in sources_by_fact(context.stated.sources).items():
        if fact in context.policy.header_first:
            try:
                found = spoken[fact](context) if fact in spoken else text(context.dataset, "StudyInstanceUID")
            except RejectedFile:  # it does not speak: the rule before would have rejected anything else
                found = None
            if found:
                continue
        yield f"{fact} {where}"
