"""Statements of label tables and paths about each image, before its header is read."""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter

from fvpipe.config.formats import DICOM
from fvpipe.config.loading import digest_of
from fvpipe.datasets.adapter import ImageFacts, LabelTable, ListedImage
from fvpipe.datasets.declaration import Identity
from fvpipe.datasets.listed_images import differing_groups, path_key
from fvpipe.datasets.source import Source
from fvpipe.datasets.values import parse_exam_date
from fvpipe.dicom.elements import shown_term
from fvpipe.dicom.policy import HeaderPolicy
from fvpipe.io.spelling import folded_name
from fvpipe.reasons import Reason, Rejection
from fvpipe.types import NOTHING_STATED, VIEWS, BreastFacts, Exam, Finding, ImageRecord, Laterality, StatedImage, View

_CONFLICTS = {
    "patient": Reason.IDENTIFIER_CONFLICT,
    "exam": Reason.IDENTIFIER_CONFLICT,
    "laterality": Reason.LATERALITY_CONFLICT,
    "view": Reason.VIEW_CONFLICT,
}
RowsOfBreast = tuple[tuple[str, Laterality, Exam], Sequence[str], Sequence[BreastFacts]]
NO_ROW = "no row of the label table lists this image; expected one"


@dataclass(frozen=True, slots=True)
class Statements:
    """Facts that label tables and paths give of images, by path.

    Attributes
    ----------
    stated : mapping of str to StatedImage
        Images that are read.
    facts : mapping of str to sequence of BreastFacts
        What rows and path say of the breast.
    findings : mapping of str to sequence of Finding
        Boxes.
    exams : mapping of str to sequence of Exam
        Names of the exam by row and path, which must be the header's; identifiers as the records have them.
    sizes : mapping of str to ImageFacts
        Rows and columns that the row of an image gives, and the side that it is about.
    of_breasts : sequence of ((str, Laterality, Exam), sequence of str, sequence of BreastFacts)
        Breasts whose rows differ: the paths of their images, and all rows, also those of missing and rejected images.
    rejections : sequence of Rejection
        Images that are left out without reading them, and a line for the rows without a file.
    not_listed : mapping of str to Rejection
        Of files without a row, where the table must list every image.
    no_row_has_file : bool
        Whether there are rows that list images, and none of them a file that is there.
    """

    stated: Mapping[str, StatedImage] = field(default_factory=dict)
    facts: Mapping[str, Sequence[BreastFacts]] = field(default_factory=dict)
    findings: Mapping[str, Sequence[Finding]] = field(default_factory=dict)
    exams: Mapping[str, Sequence[Exam]] = field(default_factory=dict)
    sizes: Mapping[str, ImageFacts] = field(default_factory=dict)
    of_breasts: Sequence[RowsOfBreast] = ()
    rejections: Sequence[Rejection] = ()
    not_listed: Mapping[str, Rejection] = field(default_factory=dict)
    no_row_has_file: bool = False

    def without_not_listed(self, headers: Mapping[str, ImageRecord | Rejection]) -> dict[str, ImageRecord | Rejection]:
        """Reject images that the table must list and does not; what is rejected for its own sake keeps its reason."""
        missing = {Reason.VIEW_MISSING, Reason.LATERALITY_MISSING, Reason.IDENTIFIER_MISSING}
        found = dict(headers)
        for path, rejection in self.not_listed.items():
            header = headers.get(path)
            if isinstance(header, ImageRecord) or (header is not None and header.reason in missing):
                found[path] = rejection
        return found


def collect_statements(source: Source, table: LabelTable, paths: Sequence[str]) -> Statements:
    """Join the rows that list images, and the paths, to the files.

    Parameters
    ----------
    source : Source
        The data set.
    table : LabelTable
        Its tables.
    paths : sequence of str
        Files that could be images.

    Raises
    ------
    LabelTableError
        A row fits two files.
    """
    adapter, policy = source.adapter, source.policy
    if adapter.state_images is None:
        return Statements()
    stated: dict[str, StatedImage] = {}
    facts: dict[str, list[BreastFacts]] = {}
    findings: dict[str, list[Finding]] = {}
    exams: dict[str, list[Exam]] = {}
    sizes: dict[str, ImageFacts] = {}
    describing: list[tuple[str, Sequence[tuple[str, ListedImage]]]] = []
    rejections, unlisted, patient_from = list[Rejection](), set[str](), getattr(adapter.identity, "patient", ())
    if policy.formats == DICOM and patient_from[:1] == ("header",):
        patient_from = ()  # headers tell the patients apart
    only_listed = bool(table.listed) and any(getattr(adapter.identity, fact)[0] == "table" for fact in _CONFLICTS)
    places = {image.place: key for key, image in table.listed.items()}
    said_of = adapter.state_images(paths, table, source.labels)
    patients = dict[str, str]()
    for path, said in said_of.items():
        for where, image in said:
            if image.patient and where in patient_from:
                patients.setdefault(image.patient, path if where == "path" else image.place)
    alike = _written_otherwise(patients)
    for path, said in said_of.items():
        for _, image in said:
            places.pop(image.place, None)
        answer = _stated(policy, adapter.identity, path, said)
        if why := next((alike[image.patient] for _, image in said if image.patient in alike), ""):
            answer = answer if isinstance(answer, Rejection) else Rejection(path, Reason.IDENTIFIER_CONFLICT, why)
        if only_listed and not any(where == "table" for where, _ in said):
            unlisted.add(path)
        # Also of a view or kind that is not read: a cancer is one of the breast, whichever image shows it.
        if not isinstance(answer, Rejection) or answer.reason in (Reason.VIEW_NOT_PAIRABLE, Reason.IMAGE_KIND_REFUSED):
            describing.append((path, said))
        if isinstance(answer, Rejection):
            rejections.append(answer)
            continue
        stated[path] = answer
        if of_breast := [each for _, image in said for each in (image.facts, *image.more_facts) if each is not None]:
            facts[path] = of_breast
        if boxes := [finding for _, image in said for finding in image.findings]:
            findings[path] = boxes
        if names := [policy.exam(image.exam_names) for _, image in said if image.exam_names != Exam()]:
            exams[path] = names
        size = next((image for _, image in said if image.rows or image.columns), ListedImage(""))
        # A row that names a side is about this breast, also where its side does not decide which one the image shows.
        silent = (image for where, image in said if where not in getattr(adapter.identity, "laterality", ()))
        side = next((image.laterality for image in silent if image.laterality and image.facts is not None), None)
        if (found := ImageFacts(0, side, rows=size.rows, columns=size.columns)) != ImageFacts(0):
            sizes[path] = found
    describing += (("", said) for said in _said_of_missing(source, table, places.values()))
    if places:
        detail = _without_file(places, table, paths)
        if len(places) == len(table.listed) and (differing := differing_groups(adapter.declaration, paths, places.values())):
            detail += f"; {differing}"
        rejections.append(Rejection("label table", Reason.LABEL_WITHOUT_IMAGE, detail))
    return Statements(
        stated,
        facts,
        findings,
        exams,
        sizes,
        _of_breasts(source, describing, table.combine),
        rejections,
        {path: Rejection(path, Reason.IMAGE_NOT_LISTED, NO_ROW) for path in unlisted},
        no_row_has_file=bool(places) and len(places) == len(table.listed),
    )


def _said_of_missing(source: Source, table: LabelTable, keys: Iterable[str]) -> Iterator[Sequence[tuple[str, ListedImage]]]:
    """What rows without a file say of their breasts, and their paths, which may name exam and side alone."""
    missing = {key: row for key in keys if (row := table.listed[key]).facts is not None}
    by_path: Mapping[str, Sequence[tuple[str, ListedImage]]] = {}
    adapter = source.adapter
    if adapter.state_images is not None and adapter.declaration is not None and adapter.declaration.path:
        by_path = adapter.state_images(
            [key for key in missing if "\0" not in key], replace(table, listed=missing), source.labels
        )
    for key, row in missing.items():
        said = by_path.get(key, ())
        agree = bool(said) and not isinstance(_stated(source.policy, adapter.identity, key, said), Rejection)
        yield said if agree else [("table", row)]


def _of_breasts(
    source: Source, statements: Iterable[tuple[str, Sequence[tuple[str, ListedImage]]]], combine: str
) -> list[RowsOfBreast]:
    """What is said of each breast, where it differs.

    The row of an image that is missing, damaged or of another view describes the breast as those of the others do. Where exams
    are told apart and it names none, it may be of another one, so that it may contradict and does not decide.
    """
    policy, identity = source.policy, source.adapter.identity
    exams_apart = policy.keep_studies_apart and policy.patient_from != "study"
    found: defaultdict[tuple[str, str, str, Exam, str], tuple[list[str], list[BreastFacts]]] = defaultdict(lambda: ([], []))
    for path, said in statements:
        if facts := [
            each for _, image in said for each in (image.facts, *image.more_facts) if each not in (None, BreastFacts())
        ]:
            patient, name, side = (_first(identity, fact, said) for fact in ("patient", "exam", "laterality"))
            exam = next((image.exam_names for _, image in said if image.exam_names != Exam()), Exam())
            day = next((image.exam_date for _, image in said if image.exam_date), "")
            if patient and side and (name or exam != Exam() or not exams_apart or combine != "worst"):
                paths, of_breast = found[patient, name, side, exam, day]
                paths += [path] * bool(path)
                of_breast += facts
    result = list[RowsOfBreast]()
    for (patient, name, side, exam, _), (paths, facts) in found.items():
        if len(set(facts)) > 1:
            named = policy.exam(replace(exam, study=name or exam.study))
            result.append(((policy.identifier("patient", patient), Laterality(side), named), paths, facts))
    return result


def _first(identity: Identity | None, fact: str, said: Sequence[tuple[str, ListedImage]]) -> str:
    """What the first source of a fact that speaks says of it; empty where none does."""
    order = getattr(identity, fact)
    spoken = [
        (order.index(where), str(getattr(image, fact))) for where, image in said if where in order and getattr(image, fact)
    ]
    return min(spoken, default=(0, ""))[1]


def _written_otherwise(places: Mapping[str, str]) -> dict[str, str]:
    """Patients whose names differ from another's only as programs and hands change them, and why they are left out.

    Taken for two, one woman could be in training and in test; taken for one, two women would be.

    Parameters
    ----------
    places : mapping of str to str
        Patients as label tables and paths write them, and where.
    """
    alike: defaultdict[str, list[str]] = defaultdict(list)
    for patient in places:
        alike[folded_name(patient)].append(patient)
    how = "patients that differ only by leading zeros, `.0`, spaces or upper and lower case"
    todo = "write one patient in one way, and give two patients names that differ in more"
    return {
        patient: f"{places[same[0]]} and {places[same[1]]}: {how}; {todo}"
        for same in alike.values()
        if len(same) > 1
        for patient in same
    }


def _without_file(places: Mapping[str, str], table: LabelTable, paths: Sequence[str]) -> str:
    """Name rows that list no file of the input, and say whether files have the same names otherwise."""
    names = {path_key(path).rpartition("/")[2].casefold() for path in paths}
    near = sum(key.rpartition("/")[2].casefold() in names for key in places.values())
    detail = f"{len(places)} of {len(table.listed)} rows list an image that the input does not have: "
    detail += ", ".join(list(places)[:3]) + (", ..." if len(places) > 3 else "")
    return detail + (f"; {near} have the name of a file that is there, in other folders or another case" if near else "")


def statement_digest(stated: StatedImage | None) -> str:
    """Text that changes with what is said of an image; empty where nothing is."""
    if stated is None or stated == NOTHING_STATED:
        return ""
    return " " + digest_of(repr(stated))[:16]


def _stated(
    policy: HeaderPolicy, identity: Identity | None, path: str, said: Sequence[tuple[str, ListedImage]]
) -> StatedImage | Rejection:
    """Merge what rows and path say, which must not contradict each other."""
    found: dict[str, str] = {}
    sources: list[str] = []
    for _, image in said:
        if image.rejected:
            reason, why = image.rejected
            return Rejection(path, reason, f"{image.place}: {why}")
    for fact, reason in _CONFLICTS.items():
        order = getattr(identity, fact)
        spoken = [
            (order.index(where), image.place, str(value))
            for where, image in said
            if where in order and (value := getattr(image, fact))
        ]
        if not spoken:
            continue
        spoken.sort(key=itemgetter(0))
        if len({_comparable(fact, value, spoken[0][2]) for *_, value in spoken}) > 1:
            places = " and ".join(place for _, place, _ in spoken)
            shown = ": " + " and ".join(shown_term(value) for *_, value in spoken) if fact in ("laterality", "view") else ""
            return Rejection(path, reason, f"{places} give two values of {fact}{shown}")
        first, _, found[fact] = spoken[0]
        sources.append(f"{fact} {order[first]}")
    if found.get("view") not in (None, *VIEWS):
        return Rejection(path, Reason.VIEW_NOT_PAIRABLE, f"the view is {shown_term(found['view'])}; expected CC or MLO")
    problem = _unusable(found.get("patient", ""))
    if problem:
        return Rejection(path, Reason.IDENTIFIER_INVALID, f"the patient of label table or path {problem}")
    kinds = {image.kind for _, image in said} - {""}
    if len(kinds) > 1:
        places = " and ".join(image.place for _, image in said if image.kind)
        return Rejection(path, Reason.IMAGE_KIND_REFUSED, f"{places} give two kinds: {' and '.join(sorted(kinds))}")
    implant = any(image.implant for _, image in said)
    more = [f"{name} table" for name, is_it in (("kind", kinds - {"full_field"}), ("implant", implant)) if is_it]
    patient = sys.intern(policy.identifier("patient", found.get("patient", "")))
    days = (day for _, image in said for day in (image.exam_date, image.exam_names.date) if day)
    day = next(days, "") if patient else ""
    return StatedImage(
        patient,
        sys.intern(policy.exam_digest("study", found.get("exam", ""))),
        Laterality(found["laterality"]) if "laterality" in found else None,
        View(found["view"]) if "view" in found else None,
        "synthetic" in kinds,
        "low_energy" in kinds,
        implant,
        sys.intern(", ".join([*sources, *more])),
        policy.shifted_day(patient, day),
    )


def _comparable(fact: str, value: str, first: str) -> str:
    """A value as it is compared with the `first` one: a year names the same exam as a day in it."""
    if fact != "exam" or value == first or not any(re.fullmatch(r"[0-9]{4}(\.0)?", each) for each in (value, first)):
        return value
    years = [parse_exam_date(each)[:4] for each in (value, first)]
    return first if years[0] == years[1] != "" else value


def _unusable(patient: str) -> str:
    if len(patient) > 64 or not patient.isprintable() or "\ufffd" in patient:
        return f"has {len(patient)} characters, or some that are no text; expected at most 64, all printable"
    return ""
