"""The label table of a data set with its rules applied and its identifiers hashed, joined to the exams that are imaged."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from fvpipe.datasets.adapter import ImageFacts, LabelTable
from fvpipe.datasets.combine import DescribedBreast, combined, differing_facts, with_more
from fvpipe.dicom.policy import HeaderPolicy
from fvpipe.indexing.exams import of_several_exams
from fvpipe.indexing.labels.imaged_exams import (
    Imaged,
    ImagedBreast,
    fits,
    imaged_breast,
    imaged_exams,
    may_be,
    may_be_of,
)
from fvpipe.indexing.labels.spellings import MAX_ADDED_ZEROS, hint_of, spellings, with_zeros
from fvpipe.indexing.labels.statements import BreastStatements
from fvpipe.printable import first_names
from fvpipe.reasons import LABEL_TABLE, Reason, Rejection
from fvpipe.types import BreastFacts, Exam, Finding, ImageRecord, Laterality

COLUMNS = "a column study_uid, accession or study_date (or exam, where no header names it; other names by `labels`)"


@dataclass(frozen=True, slots=True)
class Match:
    """The label table joined to the exams that are imaged.

    Attributes
    ----------
    facts : mapping of ImagedBreast to BreastFacts
        Of each breast that exactly one description of the table fits.
    ambiguous : mapping of ImagedBreast to str
        Breasts for which the table does not say which exam a row describes, and why.
    described : set of (str, Laterality)
        Patient and side of each breast that some row describes, at whichever exam; empty where the others are unlabelled, too.
    unused : sequence of str
        Places of rows that only add facts, of breasts without other rows.
    """

    facts: Mapping[ImagedBreast, BreastFacts]
    ambiguous: Mapping[ImagedBreast, str]
    described: frozenset[tuple[str, Laterality]] = frozenset()
    unused: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class BreastLabels:
    """Facts of breasts, images and lesions from outside the DICOM files, by identifiers as the headers' records have them.

    Attributes
    ----------
    table : LabelTable
        The label tables, with such identifiers, and without `listed`: `statements` has what those rows say.
    default : BreastFacts
        Facts of an imaged breast that the label table does not name at any exam.
    statements : BreastStatements
        What rows that list images, and the paths, say of the breasts.
    mask_findings : mapping of str to sequence of Finding
        Boxes of masks, by path of the image.
    written : mapping of str to str
        The table's patients, accession numbers and exams as it writes them, by digest. Never to be shown or stored.
    listed : set of (str, Laterality)
        Patient and side of the rows that list images, whether or not the images are there.
    policy : HeaderPolicy
        How identifiers are hashed.
    match : Match or None
        The table joined to the images; None before :meth:`matched`.
    """

    table: LabelTable = field(default_factory=LabelTable)
    default: BreastFacts = field(default_factory=BreastFacts)
    statements: BreastStatements = field(default_factory=BreastStatements)
    mask_findings: Mapping[str, Sequence[Finding]] = field(default_factory=dict)
    written: Mapping[str, str] = field(default_factory=dict, repr=False)
    listed: frozenset[tuple[str, Laterality]] = frozenset()
    policy: HeaderPolicy = field(default_factory=HeaderPolicy)
    match: Match | None = None

    def matched(
        self,
        records: Iterable[ImageRecord],
        disputed: Collection[str] = (),
        of_rejected: Sequence[tuple[ImagedBreast, Sequence[BreastFacts]]] = (),
        rejected_exams: Collection[ImagedBreast] = (),
    ) -> BreastLabels:
        """Join the table to the exams of all images whose header is accepted; once: later calls change nothing.

        A description of a breast belongs to one exam. Where two that are imaged fit it, or two descriptions of one exam
        disagree, the breast is ambiguous in each of these exams. So is each one that the row of an image may describe where
        it names another breast than the image.

        Parameters
        ----------
        records : iterable of ImageRecord
            The images.
        disputed : collection of str
            Paths of images that are rejected since their header names another side or patient than their row.
        of_rejected : sequence of (ImagedBreast, sequence of BreastFacts)
            What rows about rejected images say of breasts, as :mod:`fvpipe.indexing.labels.rejected_images` finds it.
        rejected_exams : collection of ImagedBreast
            Exams of rejected mammograms, of which a row that names no exam may be one.
        """
        if self.match is not None:
            return self
        records = list(records)
        claims = self._claims_of_images(records, imaged := imaged_exams(records), of_rejected)
        ambiguous: dict[ImagedBreast, str] = {}
        rejected = defaultdict[tuple[str, Laterality], set[str]](set)
        for patient, study, side in rejected_exams:
            rejected[patient, side].add(study)
        for patient, side, exam, facts, studies in self._fitting(imaged):
            exams = {*studies, *(rejected.get((patient, side), ()) if exam == Exam() else ())}
            for study in studies:
                claims[patient, study, side].append(facts)
                if len(exams) > 1 and facts != BreastFacts():  # one that says nothing says nothing wrong of any exam
                    unusable = f", {more} of them with rejected images alone" if (more := len(exams) - len(studies)) else ""
                    why = f"{_place(facts)}: fits {len(exams)} imaged exams of this breast{unusable}; expected one"
                    ambiguous[patient, study, side] = f"{why}. Give the table {COLUMNS} that tells them apart"
        two = self._of_two_breasts(records, imaged, disputed)
        near = self._of_near_rows(records, claims)
        merged = () if self.policy.exams_apart else self._of_some_images(records, imaged)
        for breast, why in (*merged, *two, *near, *self._zeros_lost(imaged), *self._spelled_otherwise(imaged)):
            ambiguous.setdefault(breast, why)
        named = {(patient, side) for patient, _, side in claims}
        for breast, (first, *others) in claims.items():
            if differing := next((other for other in others if other != first), None):
                places = " and ".join(_place(facts) for facts in (first, *others))
                what = differing_facts(first, differing)
                ambiguous.setdefault(breast, f"{places}: disagree about this exam of the breast ({what}); expected one value")
        known = {breast: facts[0] for breast, facts in claims.items() if breast not in ambiguous}
        for patient, side, _, facts, studies in self._fitting(imaged, self.table.implied):
            for study in studies:
                known.setdefault((patient, study, side), facts)
        unused, described = list[str](), frozenset[tuple[str, Laterality]]()
        for patient, side, _, facts, studies in self._fitting(imaged, self.table.added):
            if len(studies) == 1 and (breast := (patient, studies[0], side)) in known:
                known[breast] = with_more(known[breast], facts)
            else:
                unused.append(facts.place + (f" (fits {len(studies)} imaged exams)" if len(studies) > 1 else ""))
        if self.default != BreastFacts():
            of_exams = {breast[:2] for breast in (*self.table.exams, *self.table.implied)}
            of_rejected_images = {(patient, side) for (patient, _, side), _ in of_rejected}  # also at other exams
            described = frozenset(named | self.table.rows.keys() | of_exams | self.listed | of_rejected_images)
        return replace(self, match=Match(known, ambiguous, described, unused))

    def _claims_of_images(
        self,
        records: Sequence[ImageRecord],
        imaged: Imaged,
        of_rejected: Sequence[tuple[ImagedBreast, Sequence[BreastFacts]]],
    ) -> dict[ImagedBreast, list[BreastFacts]]:
        """What rows that list images, and the paths, say of each breast."""
        claims: dict[ImagedBreast, list[BreastFacts]] = defaultdict(list)
        by_path, combine = self.statements.facts_by_path, self.table.combine
        for record in sorted(records, key=lambda record: record.path) if by_path or self.table.images else ():
            row = self.row_of(record)
            said_of_it = (*by_path.get(record.path, ()), *(() if row.patient else row.facts))
            claims[imaged_breast(record)] += said_of_it
        differing = (
            ((patient, *studies, side), facts)
            for patient, side, studies, _, facts in self._differing_rows(records, imaged)
            if len(studies) == 1
        )
        for breast, facts in (*differing, *of_rejected):
            if breast in claims:
                more, said = [*facts], {(f.label, f.excluded) for f in claims[breast]}
                if combine != "worst":  # of a missing image only a label that contradicts the others counts
                    more = [f for f in more if (f.label, f.excluded) not in said | {(-1, "")}]
                claims[breast] += more
        for breast, facts in claims.items():
            if combine == "worst" or (combine == "first" and len({(f.label, f.excluded) for f in facts}) == 1):
                claims[breast] = [combined(facts, combine)] if facts else []
        return defaultdict(list, {breast: facts for breast, facts in claims.items() if facts})

    @property
    def unmatched(self) -> bool:
        """Whether the table describes breasts, and none of them is imaged; after :meth:`matched`."""
        of_instances = any(not row.patient for row in self.table.images.values())
        of_images = self.statements.facts_by_path or self.statements.no_row_has_file
        describes = bool(self.table.rows or self.table.exams or of_images or of_instances)
        return describes and self.match is not None and not self.match.facts and not self.match.ambiguous

    def facts(self, patient: str, study: str, laterality: Laterality) -> BreastFacts:
        """Facts of one imaged breast, with the reason if a label rule leaves it out; nothing of an ambiguous one."""
        match, breast = self.match or Match({}, {}), (patient, study, laterality)
        # Of a breast that a row describes at another exam, as of one with cancer later, nothing is known at this one.
        default = BreastFacts() if (patient, laterality) in match.described else self.default
        facts = BreastFacts() if breast in match.ambiguous else match.facts.get(breast, default)
        excluded = self.table.excluded_patients.get(patient)
        return replace(facts, excluded=excluded) if excluded else facts

    def row_of(self, image: ImageRecord) -> ImageFacts:
        """Return what the row about an image says of it, by its SOP Instance UID, else by its path."""
        return self.table.images.get(image.sop_instance_uid) or self.statements.sizes_by_path.get(image.path) or ImageFacts(0)

    def _of_two_breasts(
        self, records: Sequence[ImageRecord], imaged: Imaged, disputed: Collection[str]
    ) -> Iterator[tuple[ImagedBreast, str]]:
        """Breasts that the row of an image may describe where it names another side, patient or exam than the image.

        Nobody knows which of both is wrong: the label would be that of the image's breast, or of the one that the row names.
        """
        why = "the row of an image describes this breast or another one: row and image name two; expected one"
        others, said = self.of_another_breast(records), defaultdict[ImagedBreast, set[tuple[int, str]]](set)
        of_two = list[tuple[str, set[ImagedBreast], set[tuple[int, str]]]]()
        for image in records if self.table.images or self.statements.facts_by_path else ():
            row, own = self.row_of(image), imaged_breast(image)
            facts = (*row.facts, *self.statements.facts_by_path.get(image.path, ()))
            outcomes = {(each.label, each.excluded) for each in facts} - {(-1, "")}
            if row.laterality in (None, image.laterality) and image.path not in others and not self.names_another_exam(image):
                said[own] |= outcomes
            elif outcomes:
                patient, side = row.patient or image.patient_id, row.laterality or image.laterality
                exams = {row.exam, *self.statements.exams_by_path.get(image.path, ())} - {Exam()}
                exams = exams or {Exam(image.study if patient == image.patient_id else "")}
                named = imaged.get((patient, side), ())
                fitting = {(patient, study, side) for study, *names in named if any(fits(e, study, *names) for e in exams)}
                of_two.append((image.path, {own} | fitting, outcomes))
        for path, breasts, outcomes in of_two:  # what other rows say, too, is known of either
            yield from ((breast, f"{path}: {why}") for breast in sorted(breasts) if said[breast] != outcomes)
        for patient, _, studies, paths, _ in self._differing_rows(records, imaged):
            for path in sorted(set(disputed).intersection(paths)):
                yield from (((patient, study, side), f"{path}: {why}") for study in studies for side in Laterality)

    def _of_some_images(self, records: Sequence[ImageRecord], imaged: Imaged) -> Iterator[tuple[ImagedBreast, str]]:
        """Breasts of a set that does not tell exams apart whose images are of others, too, than a row names, or of several.

        The images that are paired may be those of another exam: a cancer would be that of an earlier one.
        """
        rows, several = defaultdict[ImagedBreast, list[tuple[Exam, BreastFacts]]](list), of_several_exams(records, self.policy)
        for patient, side, exam, facts, studies in self._fitting(imaged):
            for study in studies if facts != BreastFacts() else ():
                rows[patient, study, side].append((exam, facts))
        of_images = defaultdict[ImagedBreast, dict[tuple[int, str], BreastFacts]](dict)
        for image in records if several else ():
            for facts in (*self.statements.facts_by_path.get(image.path, ()), *self.row_of(image).facts):
                of_images[imaged_breast(image)].setdefault((facts.label, facts.excluded), facts)
        places = {
            breast: next(iter(said.values())) for breast, said in of_images.items() if breast in several and len(said) > 1
        }
        for breast, found in rows.items():
            names = (Exam(*each) for each in imaged[breast[0], breast[2]])
            is_of_all = all(any(may_be(exam, each) for exam, _ in found) for each in names)
            if not is_of_all or (breast in several and any(exam == Exam() for exam, _ in found)):
                places.setdefault(breast, found[0][1])
        why = "names one exam or none, and the images of this breast are of several, which `studies_apart: false` takes for one"
        for breast, facts in places.items():
            yield breast, f"{_place(facts)}: {why}; tell exams apart, or take other images out"

    def _of_near_rows(
        self, records: Sequence[ImageRecord], claims: Mapping[ImagedBreast, Sequence[BreastFacts]]
    ) -> Iterator[tuple[ImagedBreast, str]]:
        """Breasts with another label than a row that lists no file, and may list an image of theirs in another spelling."""
        of_default = {(self.default.label, "")} if self.default.label >= 0 else set()
        for image in records if self.statements.near_rows else ():
            rows, breast = self.statements.near_rows.get(image.path, ()), imaged_breast(image)
            said = {(facts.label, facts.excluded) for facts in claims.get(breast, ())} or of_default
            if {(facts.label, facts.excluded) for facts in rows} - {(-1, "")} - said and said:
                what = "its path fits no file, and but for spelling or folders is that of an image of this breast without a row"
                yield breast, f"{_place(rows[0])}: {what}; write it as the input has it"

    def _differing_rows(
        self, records: Sequence[ImageRecord], imaged: Imaged
    ) -> Iterator[tuple[str, Laterality, set[str], Sequence[str], Sequence[BreastFacts]]]:
        """Patient, side, imaged exams, paths and facts of each breast about whose images rows differ."""
        study_of = {record.path: record.study for record in records} if self.statements.contradicting_rows else {}
        for (patient, side, exam), paths, facts in self.statements.contradicting_rows:
            # The header's exam has another name than that of rows: it is that of their images.
            studies = {study_of[path] for path in paths if path in study_of}
            if not studies and exam != Exam():
                studies = {study for study, *names in imaged.get((patient, side), ()) if fits(exam, study, *names)}
            yield patient, side, studies, paths, facts

    def names_another_exam(self, image: ImageRecord) -> bool:
        """Whether the row of an image, or its path, names another exam than its header, as far as both name one."""
        row = self.row_of(image)  # one that names its patient, too, may be of a patient who is not imaged
        exams = (*self.statements.exams_by_path.get(image.path, ()), *([] if row.patient else [row.exam]))
        return not all(may_be_of(exam, image) for exam in exams)

    def of_another_breast(self, records: Iterable[ImageRecord]) -> frozenset[str]:
        """Paths of the images whose row, by their SOP Instance UID, describes another patient or exam that is imaged."""
        records = list(records)
        rows = ((image, self.table.images.get(image.sop_instance_uid)) for image in records if self.table.images)
        others = {
            image.path: (row.patient, row.exam)
            for image, row in rows
            if row and row.patient and not (row.patient == image.patient_id and may_be_of(row.exam, image))
        }
        imaged = defaultdict[tuple[str, str], set[tuple[str, str, str]]](set)  # exams by patient and each name of an exam
        for image in records if others else ():
            for name in {"", image.study, image.accession, *image.study_date.split()}:
                imaged[image.patient_id, name].add((image.study, image.accession, image.study_date))
        return frozenset(
            path
            for path, (patient, exam) in others.items()
            if any(fits(exam, *each) for each in imaged.get((patient, exam.study or exam.accession or exam.date), ()))
        )

    def findings_of(self, image: ImageRecord) -> tuple[Finding, ...]:
        """Boxes of one image."""
        by_instance = self.table.findings.get(image.sop_instance_uid, ()) if image.sop_instance_uid else ()
        by_path = self.statements.findings_by_path.get(image.path, ())
        return (*by_instance, *by_path, *self.mask_findings.get(image.path, ()))

    @property
    def has_findings(self) -> bool:
        """Whether there are boxes, on these images or on others."""
        return bool(self.table.findings or self.statements.findings_by_path or self.mask_findings)

    def unmatched_rows(self, records: Iterable[ImageRecord]) -> Iterator[tuple[Rejection, bool]]:
        """Reject rows of the label table without any image; a breast whose images were all rejected is named by them.

        Yields
        ------
        rejection : Rejection
            One for each row.
        shown : bool
            Whether the detail is for the user to see, such as how the row's identifier seems to be misspelled.
        """
        records = list(records)
        imaged = imaged_exams(records)
        patients, hints = {patient for patient, _ in imaged}, dict[str, str]()
        for patient, side, exam, facts, studies in self._fitting(imaged):
            if studies or (patient, side, exam) in self.table.decided:
                continue
            exams = imaged.get((patient, side), ())
            others, accessions = len({study for study, *_ in exams}), {accession for _, accession, _ in exams}
            detail, hint = f"{_place(facts)}: the table has a row, the input no usable image", ""
            detail += f" of this exam, but of {others} other exam(s) of the breast" if others else ""
            if patient not in patients:
                if patient not in hints:  # both breasts have rows, at several exams
                    hints[patient] = hint_of("patient", self.written.get(patient, ""), patients, self._patient)
                hint = hints[patient]
            elif exams and exam.accession and not any(accessions):
                hint = "; its images have no Accession Number"
            elif exams and exam.date and not any(date for *_, date in exams):
                hint = "; its images have no Study Date"
            elif exam.accession and exam.accession not in accessions:
                hint = hint_of("accession", self.written.get(exam.accession, ""), accessions, self._accession)
            elif exam.study and exam.study not in (of_breast := {study for study, *_ in exams}):
                hint = hint_of("exam", self.written.get(exam.study, ""), of_breast, self._study)
            name = "_".join(part for part in (patient, exam.study, side) if part)
            yield Rejection(name, Reason.LABEL_WITHOUT_IMAGE, detail + hint), bool(hint)
        details = [*self.table.notes]
        if unused := [*self.table.unused, *(self.match.unused if self.match else ())]:
            what = "row(s) or file(s) add facts to breasts that no row of the label table describes"
            details.insert(0, f"{len(unused)} {what}: {first_names(unused)}")
        usable = {record.sop_instance_uid for record in records}
        alone = {instance for instance, row in self.table.images.items() if not row.patient}
        if lost := alone - usable:
            details.append(f"{len(lost)} of {len(alone)} image(s) with rows, by SOP Instance UID: the input has no usable one")
        with_boxes = {instance for instance, found in self.table.findings.items() if found}
        if lost := with_boxes - usable:
            of = f"{len(lost)} of {len(with_boxes)} image(s)"
            details.append(f"the boxes of {of} are left out: the input has no usable image of them")
        yield from ((Rejection(LABEL_TABLE, Reason.LABEL_WITHOUT_IMAGE, detail), True) for detail in details)

    def _fitting(
        self, imaged: Imaged, rows: Mapping[DescribedBreast, BreastFacts] | None = None
    ) -> Iterator[tuple[str, Laterality, Exam, BreastFacts, list[str]]]:
        """Each description of a breast, and the imaged exams that it fits."""
        of_patients = (((patient, side, Exam()), facts) for (patient, side), facts in self.table.rows.items())
        for (patient, side, exam), facts in chain(of_patients, self.table.exams.items()) if rows is None else rows.items():
            studies = {study for study, *names in imaged.get((patient, side), ()) if fits(exam, study, *names)}
            yield patient, side, exam, facts, sorted(studies)

    def _zeros_lost(self, imaged: Imaged) -> Iterator[tuple[ImagedBreast, str]]:
        """Breasts that a row may describe whose patient has lost leading zeros, and so has become that of another patient.

        Where the patient of the row is not imaged, its label is missed; that the other breast has no row then means nothing.
        """
        described = {patient for patient, _ in self.table.rows} | {patient for patient, *_ in self.table.exams}
        numbers = {patient: self.written.get(patient, "") for patient in described}
        numbers = {patient: text for patient, text in numbers.items() if re.fullmatch("[0-9]+", text)}
        others = {patient for patient, _ in imaged} - described
        if not others or any(text.startswith("0") for text in numbers.values()):  # the table has its zeros
            return
        zeros = range(1, MAX_ADDED_ZEROS + 1)
        twins = {
            patient: found
            for patient, text in numbers.items()
            if (found := others.intersection(self._patient("0" * count + text) for count in zeros))
        }
        for patient, side, _, facts, studies in self._fitting(imaged) if twins else ():
            detail = "its patient differs from another imaged one only by leading zeros, and no row of the table has any"
            breasts = {(twin, study, side) for twin in twins.get(patient, ()) for study, *_ in imaged.get((twin, side), ())}
            if breasts and (studies or self.default.label >= 0):
                breasts |= {(patient, study, side) for study in studies}
                yield from ((breast, f"{_place(facts)}: {detail}") for breast in sorted(breasts))

    def _spelled_otherwise(self, imaged: Imaged) -> Iterator[tuple[ImagedBreast, str]]:
        """Breasts that would be normal for want of a row, although one names their patient in another spelling."""
        if self.default.label < 0:
            return
        described = self.table.rows.keys() | {breast[:2] for breast in self.table.exams}
        nameless = {patient for patient, side in imaged.keys() - described}
        for patient, side, _, facts, studies in self._fitting(imaged) if nameless else ():
            if studies:
                continue
            whole, *_ = others = spellings(self.written.get(patient, ""))
            twins = nameless.intersection(self._patient(each) for each in (*others, *with_zeros(whole)))
            but_for = "zeros before a number, `.0`, case, quotes or spaces"
            detail = f"{_place(facts)}: its patient is this one but for {but_for}; write it as the header does"
            for twin in sorted(twin for twin in twins if (twin, side) not in described):
                yield from (((twin, study, side), detail) for study, *_ in imaged.get((twin, side), ()))

    def _patient(self, written: str) -> str:
        return self.policy.identifier("patient", written)

    def _study(self, written: str) -> str:
        return self.policy.exam_digest("study", written)

    def _accession(self, written: str) -> str:
        return self.policy.exam_digest("accession", written)


def _place(facts: BreastFacts) -> str:
    return facts.place or "the label table"
