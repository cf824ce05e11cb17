"""Label tables -> :class:`~fvpipe.indexing.labels.breast_labels.BreastLabels`, with identifiers as the records have them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

from fvpipe.datasets.adapter import LabelTable, check_values
from fvpipe.datasets.combine import DescribedBreast
from fvpipe.datasets.source import Source
from fvpipe.errors import ParameterError
from fvpipe.indexing.labels.breast_labels import BreastLabels
from fvpipe.indexing.labels.statements import BreastStatements, Statements, collect_statements
from fvpipe.types import BreastFacts, Exam


def read_labels(source: Source, paths: Sequence[str]) -> tuple[BreastLabels, Statements]:
    """Read the label tables of a data set, and join the rows that list images, and the paths, to the files.

    Parameters
    ----------
    paths : sequence of str
        Files that could be images.

    Raises
    ------
    LabelTableError
        A table is missing or breaks its form, or a row fits two files.
    ParameterError
        An adapter that is not a declaration gives a value that is none.
    """
    table = source.adapter.read_labels(source.root, source.label_file, source.labels)
    statements = collect_statements(source, table, paths)
    if source.adapter.declaration is None:  # of a declaration, every cell was parsed
        try:
            check_values(table, (facts for of_image in statements.of_breasts.facts_by_path.values() for facts in of_image))
        except ParameterError as error:
            raise ParameterError(f"adapter {source.adapter.name!r}: {error}") from None
    return _make_labels(source, table, statements.of_breasts), statements


def _make_labels(source: Source, table: LabelTable, statements: BreastStatements) -> BreastLabels:
    """Hash the identifiers of a data set's label tables as the records have them."""
    policy = source.policy

    def identify(kind: str, value: str) -> str:
        """Make an identifier that shares its text with those of rows and records that are equal.

        A package may give texts of pydicom or numpy, which Python shares only as texts of its own.
        """
        return sys.intern(str(policy.identifier(kind, value)))

    def digest(kind: str, value: str) -> str:
        return sys.intern(policy.exam_digest(kind, value))

    def by_exam(rows: Mapping[DescribedBreast, BreastFacts]) -> dict[DescribedBreast, BreastFacts]:
        exams = {exam: policy.exam(exam) for _, _, exam in rows}
        return {(identify("patient", p), side, exams[exam]): facts for (p, side, exam), facts in rows.items()}

    breasts = [(patient, Exam()) for patient, _ in table.rows] + [(patient, exam) for patient, _, exam in table.exams]
    hashed = LabelTable(
        rows={(identify("patient", patient), side): facts for (patient, side), facts in table.rows.items()},
        exams=by_exam(table.exams),
        excluded_patients={identify("patient", patient): why for patient, why in table.excluded_patients.items()},
        images={
            identify("instance", instance): replace(
                facts, patient=identify("patient", facts.patient) if facts.patient else "", exam=policy.exam(facts.exam)
            )
            for instance, facts in table.images.items()
        },
        findings={identify("instance", instance): found for instance, found in table.findings.items()},
        regions={(identify("patient", p), side, view, n): what for (p, side, view, n), what in table.regions.items()},
        implied=by_exam(table.implied),
        added=by_exam(table.added),
        combine=table.combine,
        decided={(identify("patient", p), side, policy.exam(exam)) for p, side, exam in table.decided},
        unused=table.unused,
        notes=table.notes,
    )
    return BreastLabels(
        hashed,
        default=BreastFacts(0, pathology="normal") if source.labels.unlabelled == "normal" else BreastFacts(),
        statements=statements,
        written={identify("patient", p): p for p, _ in breasts}
        | {digest("accession", exam.accession): exam.accession for _, exam in breasts if exam.accession}
        | {digest("study", exam.study): exam.study for _, exam in breasts if exam.study},
        listed=frozenset(
            (identify("patient", image.patient), image.laterality)
            for image in (table.listed.values() if source.labels.unlabelled == "normal" else ())
            if image.patient and image.laterality and image.facts
        ),
        policy=policy,
    )
