"""The label table of a data set with its rules applied and its identifiers hashed, once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from fvpipe.datasets.source import Source
from fvpipe.types import BreastFacts, Finding, ImageFacts, Laterality, View


@dataclass(frozen=True, slots=True)
class BreastLabels:
    """Facts of breasts, images and lesions from outside the DICOM files, by identifiers as the headers' records have them.

    Attributes
    ----------
    rows : mapping of (str, Laterality) to BreastFacts
        By patient and side, as far as the label table names them.
    default : BreastFacts
        Facts of an imaged breast that the label table does not name.
    excluded_patients : mapping of str to str
        Patients that a label rule leaves out, and why.
    images : mapping of str to ImageFacts
        By SOP Instance UID.
    findings : mapping of str to sequence of Finding
        Readers' boxes by SOP Instance UID.
    regions : mapping of (str, Laterality, View, int) to (str, int or None)
        Category and BI-RADS of the lesions that mask files outline.
    """

    rows: Mapping[tuple[str, Laterality], BreastFacts] = field(default_factory=dict)
    default: BreastFacts = field(default_factory=BreastFacts)
    excluded_patients: Mapping[str, str] = field(default_factory=dict)
    images: Mapping[str, ImageFacts] = field(default_factory=dict)
    findings: Mapping[str, Sequence[Finding]] = field(default_factory=dict)
    regions: Mapping[tuple[str, Laterality, View, int], tuple[str, int | None]] = field(default_factory=dict)

    def facts(self, patient: str, laterality: Laterality) -> BreastFacts:
        """Facts of one imaged breast, with the reason if a label rule leaves it out."""
        facts = self.rows.get((patient, laterality), self.default)
        excluded = self.excluded_patients.get(patient)
        return replace(facts, excluded=excluded) if excluded else facts


def read_labels(source: Source) -> BreastLabels:
    """Read the label table of a data set.

    Raises
    ------
    LabelTableError
        The table is missing or breaks its form.
    """
    table = source.adapter.read_labels(source.root, source.label_file, source.labels)
    identify = source.policy.identifier  # the identity where identifiers are kept
    return BreastLabels(
        {(identify("patient", patient), side): facts for (patient, side), facts in table.rows.items()},
        BreastFacts(0, pathology="normal") if source.labels.unlabelled == "normal" else BreastFacts(),
        {identify("patient", patient): why for patient, why in table.excluded_patients.items()},
        {identify("instance", instance): facts for instance, facts in table.images.items()},
        {identify("instance", instance): found for instance, found in table.findings.items()},
        {(identify("patient", patient), *rest): what for (patient, *rest), what in table.regions.items()},  # type: ignore[misc]
    )
