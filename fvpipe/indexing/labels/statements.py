"""Statements of label tables and paths about each image, before its header is read."""

from __future__ import annotations

import re
import sys
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, pairwise
from operator import itemgetter

from fvpipe.config.formats import DICOM, IMAGE_SUFFIXES
from fvpipe.config.loading import digest_of
from fvpipe.datasets.adapter import ImageFacts, LabelTable, ListedImage, Statement
from fvpipe.datasets.combine import DescribedBreast
from fvpipe.datasets.declared.declaration import Declaration, Identity
from fvpipe.datasets.declared.listed_images import path_key
from fvpipe.datasets.declared.stated_images import differing_groups, nearly_listed
from fvpipe.datasets.declared.values import first_day, parse_exam_date
from fvpipe.datasets.source import Source
from fvpipe.dicom.elements import shown_term
from fvpipe.dicom.policy import HeaderPolicy, unusable_patient
from fvpipe.errors import LabelTableError
from fvpipe.io.folding import folded_name
from fvpipe.printable import first_names
from fvpipe.reasons import LABEL_TABLE, Reason, Rejection
from fvpipe.types import NOTHING_STATED, VIEWS, BreastFacts, Exam, Finding, ImageRecord, Laterality, StatedImage, View

_CONFLICTS = {
    "patient": Reason.IDENTIFIER_CONFLICT,
    "exam": Reason.IDENTIFIER_CONFLICT,
    "laterality": Reason.LATERALITY_CONFLICT,
    "view": Reason.VIEW_CONFLICT,
}
ByPath = Mapping[str, Sequence[Statement]]
RowsOfBreast = tuple[DescribedBreast, Sequence[str], Sequence[BreastFacts]]
NO_ROW = "no row of the label table lists this image; expected one"
_NO_IMAGE = ListedImage("")


@dataclass(frozen=True, slots=True)
class BreastStatements:
    """Facts of breasts that rows about images, and paths, give.

    Attributes
    ----------
    facts_by_path : mapping of str to sequence of BreastFacts
        What rows and path of an image say of the breast.
    findings_by_path : mapping of str to sequence of Finding
        Boxes.
    exams_by_path : mapping of str to sequence of Exam
        Names of the exam by row and path, which must be the header's; identifiers as the records have them.
    sizes_by_path : mapping of str to ImageFacts
        Rows and columns that the row of an image gives, and the side that it is about.
    contradicting_rows : sequence of ((str, Laterality, Exam), sequence of str, sequence of BreastFacts)
        Breasts whose rows differ: the paths of their images, and all rows, also those of missing and rejected images.
    near_rows : mapping of str to sequence of BreastFacts
        What rows without a file say that differ from the path of an image without a row only in how it is spelled.
    no_row_has_file : bool
        Whether there are rows that list images, and none of them a file that is there.
    """

    facts_by_path: Mapping[str, Sequence[BreastFacts]] = field(default_factory=dict)
    findings_by_path: Mapping[str, Sequence[Finding]] = field(default_factory=dict)
    exams_by_path: Mapping[str, Sequence[Exam]] = field(default_factory=dict)
    sizes_by_path: Mapping[str, ImageFacts] = field(default_factory=dict)
    contradicting_rows: Sequence[RowsOfBreast] = ()
    near_rows: Mapping[str, Sequence[BreastFacts]] = field(default_factory=dict)
    no_row_has_file: bool = False


@dataclass(frozen=True, slots=True)
class Statements:
    """Statements of label tables and paths about images, before their headers are read.

    Attributes
    ----------
    stated : mapping of str to StatedImage
        Images that are read, by path.
    rejections : sequence of Rejection
        Images that are left out without reading them, and a line for the rows without a file.
    left_out : mapping of str to StatedImage
        Those among them of another view or kind, about whose breast something is said, by path.
    not_listed : mapping of str to Rejection
        Of files without a row, where the table must list every image.
    exam_dates : mapping of str to str
        Each `exam_date`, by path of the image.
    of_breasts : BreastStatements
        What they say of breasts.
    """

    stated: Mapping[str, StatedImage] = field(default_factory=dict)
    rejections: Sequence[Rejection] = ()
    left_out: Mapping[str, StatedImage] = field(default_factory=dict)
    not_listed: Mapping[str, Rejection] = field(default_factory=dict)
    exam_dates: Mapping[str, str] = field(default_factory=dict, repr=False)
    of_breasts: BreastStatements = field(default_factory=BreastStatements)

    def reject_unlisted(self, headers: Mapping[str, ImageRecord | Rejection]) -> dict[str, ImageRecord | Rejection]:
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
        A row fits two files, or dates of exams give no order.
    """
    adapter, policy = source.adapter, source.policy
    if adapter.state_images is None or adapter.identity is None:  # an adapter has both or none
        return Statements()
    statements = adapter.state_images(paths, table, source.labels)
    _check_exam_dates(adapter.identity, statements)
    stated, rejections = _stated_and_rejected(policy, adapter.identity, statements)
    # Also of a view or kind that is not read: a cancer is one of the breast, whichever image shows it.
    others = {each.what for each in rejections if each.reason in (Reason.VIEW_NOT_PAIRABLE, Reason.IMAGE_KIND_REFUSED)}
    without_file = _rows_without_file(table, statements)
    describing = chain(
        ((path, of_image) for path, of_image in statements.items() if path in stated or path in others),
        (("", of_image) for of_image in _of_missing_images(source, adapter.identity, table, without_file.values(), statements)),
    )
    left_out = _left_out(policy, adapter.identity, ((path, statements[path]) for path in sorted(others)))
    of_breasts = replace(
        _of_breasts(policy, adapter.identity, ((path, statements[path]) for path in chain(stated, left_out))),
        contradicting_rows=_contradicting_rows(policy, adapter.identity, describing, table.combine),
        near_rows=_near_rows(adapter.declaration, table, statements, without_file.values()),
        no_row_has_file=bool(without_file) and len(without_file) == len(table.listed),
    )
    if without_file:
        detail = _without_file(without_file, table, paths)
        if of_breasts.no_row_has_file and (differing := differing_groups(adapter.declaration, paths, without_file.values())):
            detail += f"; {differing}"
        rejections.append(Rejection(LABEL_TABLE, Reason.LABEL_WITHOUT_IMAGE, detail))
    return Statements(
        stated=stated,
        rejections=rejections,
        left_out=left_out,
        not_listed=_not_listed(adapter.identity, table, statements),
        exam_dates={path: image.exam_date for path, of in statements.items() for _, image in of[::-1] if image.exam_date},
        of_breasts=of_breasts,
    )


def _check_exam_dates(identity: Identity, statements: ByPath) -> None:
    """Reject a month, or a year, beside a date of the same patient in it: which exam was first is not known."""
    places: defaultdict[str, dict[str, str]] = defaultdict(dict)  # of each date, by patient
    for path, of_image in statements.items():
        if found := next(((where, image) for where, image in of_image if image.exam_date), None):
            place = path if found[0] == "path" else found[1].place
            places[_first(identity, "patient", of_image)].setdefault(found[1].exam_date, place)
    for patient, of_patient in places.items():
        for first, second in pairwise(sorted(of_patient)) if patient else ():
            if second.startswith(first):
                why = "dates of two exams of one patient, of which one is a month or a year in which the other is: their order"
                where = " and ".join(sorted([of_patient[first], of_patient[second]]))
                raise LabelTableError(f"{where}: {why} is not known; expected dates of one form")


def _stated_and_rejected(
    policy: HeaderPolicy, identity: Identity, statements: ByPath
) -> tuple[dict[str, StatedImage], list[Rejection]]:
    """What is said of each image that is read, by path, and the images that are left out."""
    stated, rejections = dict[str, StatedImage](), list[Rejection]()
    similar = similar_patients(_patients(policy, identity, statements))
    for path, of_image in statements.items():
        found = _stated(policy, identity, path, of_image)
        if why := next((similar[image.patient] for _, image in of_image if image.patient in similar), ""):
            found = found if isinstance(found, Rejection) else Rejection(path, Reason.IDENTIFIER_CONFLICT, why)
        if isinstance(found, Rejection):
            rejections.append(found)
        else:
            stated[path] = found
    return stated, rejections


def _left_out(
    policy: HeaderPolicy, identity: Identity, statements: Iterable[tuple[str, Sequence[Statement]]]
) -> dict[str, StatedImage]:
    """What is said of images of another view or kind, where it describes their breast."""
    found = dict[str, StatedImage]()
    for path, of_image in statements:
        if any(image.facts not in (None, BreastFacts()) for _, image in of_image):
            of_breast = [(where, replace(image, view="", kind="", rejected=None)) for where, image in of_image]
            if isinstance(said := _stated(policy, identity, path, of_breast), StatedImage):
                found[path] = said
    return found


def _patients(policy: HeaderPolicy, identity: Identity, statements: ByPath) -> dict[str, str]:
    """Patients whom tables and paths alone tell apart, as these write them, and the first place of each."""
    patients = dict[str, str]()
    if policy.formats == DICOM and identity.patient[:1] == ("header",):  # headers tell them apart
        return patients
    for path, of_image in statements.items():
        for where, image in of_image:
            if image.patient and where in identity.patient:
                patients.setdefault(image.patient, path if where == "path" else image.place)
    return patients


def _not_listed(identity: Identity, table: LabelTable, statements: ByPath) -> dict[str, Rejection]:
    """Rejections of the files without a row, where the table must list every image."""
    if not table.listed or not any(getattr(identity, fact)[0] == "table" for fact in _CONFLICTS):
        return {}
    return {
        path: Rejection(path, Reason.IMAGE_NOT_LISTED, NO_ROW)
        for path, of_image in statements.items()
        if not any(where == "table" for where, _ in of_image)
    }


def _rows_without_file(table: LabelTable, statements: ByPath) -> dict[str, str]:
    """Places of the rows that list an image which is not there, and by what they list it."""
    places = {image.place: key for key, image in table.listed.items()}
    for _, image in chain.from_iterable(statements.values()):
        places.pop(image.place, None)
    return places


def _near_rows(
    declaration: Declaration | None, table: LabelTable, statements: ByPath, keys: Collection[str]
) -> dict[str, list[BreastFacts]]:
    """What rows without a file say of images without a row that may be theirs."""
    unlisted = [path for path, of_image in statements.items() if not any(where == "table" for where, _ in of_image)]
    near = nearly_listed(declaration, statements, unlisted, keys) if keys and unlisted else {}
    rows = {path: [table.listed[key] for key in found] for path, found in near.items()}
    return {path: [each for row in found for each in (row.facts, *row.more_facts) if each] for path, found in rows.items()}


def _of_breasts(
    policy: HeaderPolicy, identity: Identity, statements: Iterable[tuple[str, Sequence[Statement]]]
) -> BreastStatements:
    """What is said of the breasts of images that are read."""
    facts: dict[str, list[BreastFacts]] = {}
    findings: dict[str, list[Finding]] = {}
    exams: dict[str, list[Exam]] = {}
    sizes: dict[str, ImageFacts] = {}
    for path, of_image in statements:
        if of_breast := [each for _, image in of_image for each in (image.facts, *image.more_facts) if each is not None]:
            facts[path] = of_breast
        if boxes := [finding for _, image in of_image for finding in image.findings]:
            findings[path] = boxes
        if names := [policy.exam(image.exam_names) for _, image in of_image if image.exam_names != Exam()]:
            exams[path] = names
        size = next((image for _, image in of_image if image.rows or image.columns), _NO_IMAGE)
        # A row that names a side is about this breast, also where its side does not decide which one the image shows.
        silent = (image for where, image in of_image if where not in identity.laterality)
        side = next((image.laterality for image in silent if image.laterality and image.facts is not None), None)
        if side or size.rows or size.columns:
            sizes[path] = ImageFacts(0, side, rows=size.rows, columns=size.columns)
    return BreastStatements(facts_by_path=facts, findings_by_path=findings, exams_by_path=exams, sizes_by_path=sizes)


def _of_missing_images(
    source: Source, identity: Identity, table: LabelTable, keys: Iterable[str], statements: ByPath
) -> Iterator[Sequence[Statement]]:
    """What rows without a file say of their breasts, and their paths, which may name exam and side alone."""
    missing = {key: row for key in keys if (row := table.listed[key]).facts is not None}
    order = identity.patient
    if order[:1] == ("table",) and "header" not in order:  # of a part of a data set, most rows are of women without an image
        imaged = {_first(identity, "patient", of_image) for of_image in statements.values()}
        missing = {key: row for key, row in missing.items() if not row.patient or row.patient in imaged}
    by_path: ByPath = {}
    adapter, policy, ending = source.adapter, source.policy, _ending(statements)
    if adapter.state_images is not None and adapter.declaration is not None and adapter.declaration.path:
        paths = [key + ending for key in missing if "\0" not in key]
        by_path = adapter.state_images(paths, replace(table, listed=missing), source.labels)
    for key, row in missing.items():
        of_image = by_path.get(key + ending, ())
        agree = bool(of_image) and not isinstance(_stated(policy, identity, key, of_image), Rejection)
        yield of_image if agree else [("table", row)]


def _ending(paths: Iterable[str]) -> str:
    """The suffix of most files: keys of rows lack it, and the pattern of paths may ask for it."""
    endings = ("." + path.rpartition(".")[2] for path in paths)
    counts = Counter(ending if ending.lower() in IMAGE_SUFFIXES else "" for ending in endings)
    return max(counts, key=lambda ending: (counts[ending], ending), default="")


def _contradicting_rows(
    policy: HeaderPolicy, identity: Identity, statements: Iterable[tuple[str, Sequence[Statement]]], combine: str
) -> list[RowsOfBreast]:
    """What is said of each breast, where it differs.

    The row of an image that is missing, damaged or of another view describes the breast as those of the others do. Where exams
    are told apart and it names none, it may be of another one, so that it may contradict and does not decide.
    """
    found: defaultdict[tuple[str, str, str, Exam, str], tuple[list[str], list[BreastFacts]]] = defaultdict(lambda: ([], []))
    for path, of_image in statements:
        if facts := [
            each for _, image in of_image for each in (image.facts, *image.more_facts) if each not in (None, BreastFacts())
        ]:
            patient, name, side = (_first(identity, fact, of_image) for fact in ("patient", "exam", "laterality"))
            exam = next((image.exam_names for _, image in of_image if image.exam_names != Exam()), Exam())
            day = next((image.exam_date for _, image in of_image if image.exam_date), "")
            if patient and side and (name or exam != Exam() or not policy.exams_apart or combine != "worst"):
                paths, of_breast = found[patient, name, side, exam, day]
                paths += [path] * bool(path)
                of_breast += facts
    result = list[RowsOfBreast]()
    for (patient, name, side, exam, _), (paths, facts) in found.items():
        if len(set(facts)) > 1:
            named = policy.exam(replace(exam, study=name or exam.study))
            result.append(((policy.identifier("patient", patient), Laterality(side), named), paths, facts))
    return result


def _first(identity: Identity, fact: str, of_image: Sequence[Statement]) -> str:
    """What the first source of a fact that speaks says of it; empty where none does."""
    order = getattr(identity, fact)
    spoken = [
        (order.index(where), str(getattr(image, fact))) for where, image in of_image if where in order and getattr(image, fact)
    ]
    return min(spoken, default=(0, ""))[1]


def similar_patients(places: Mapping[str, str]) -> dict[str, str]:
    """Patients whose names differ from another's only as programs and hands change them, and why they are left out.

    Taken for two, one woman could be in training and in test; taken for one, two women would be. Of headers, the same rule is
    a note alone: :func:`fvpipe.indexing.notes.similar_patients_note`.

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
    detail += first_names([*places])
    return detail + (f"; {near} have the name of a file that is there, in other folders or another case" if near else "")


def statement_digest(stated: StatedImage | None) -> str:
    """Text that changes with what is said of an image; empty where nothing is."""
    if stated is None or stated == NOTHING_STATED:
        return ""
    return " " + digest_of(repr(stated))[:16]


def _stated(policy: HeaderPolicy, identity: Identity, path: str, of_image: Sequence[Statement]) -> StatedImage | Rejection:
    """Merge what rows and path say of an image, which must not contradict each other."""
    for _, image in of_image:
        if image.rejected:
            reason, why = image.rejected
            return Rejection(path, reason, f"{image.place}: {why}")
    sources: list[str] = []
    found = _identity_facts(identity, path, of_image, sources)
    if isinstance(found, Rejection):
        return found
    if found.get("view") not in (None, *VIEWS):
        return Rejection(path, Reason.VIEW_NOT_PAIRABLE, f"the view is {shown_term(found['view'])}; expected CC or MLO")
    if problem := unusable_patient(found.get("patient", "")):
        return Rejection(path, Reason.IDENTIFIER_INVALID, f"the patient of label table or path {problem}")
    kinds = {image.kind for _, image in of_image} - {""}
    if len(kinds) > 1:
        places = " and ".join(image.place for _, image in of_image if image.kind)
        return Rejection(path, Reason.IMAGE_KIND_REFUSED, f"{places} give two kinds: {' and '.join(sorted(kinds))}")
    implant = any(image.implant for _, image in of_image)
    sources += [f"{name} table" for name, is_it in (("kind", kinds - {"full_field"}), ("implant", implant)) if is_it]
    patient = sys.intern(policy.identifier("patient", found.get("patient", "")))
    days = (first_day(date) for _, image in of_image for date in (image.exam_date, image.exam_names.date) if date)
    return StatedImage(
        patient=patient,
        study=sys.intern(policy.exam_digest("study", found.get("exam", ""))),
        laterality=Laterality(found["laterality"]) if "laterality" in found else None,
        view=View(found["view"]) if "view" in found else None,
        synthetic="synthetic" in kinds,
        low_energy="low_energy" in kinds,
        implant=implant,
        sources=sys.intern(", ".join(sources)),
        exam_day=policy.shifted_day(patient, next(days, "") if patient else ""),
    )


def declared_exclusions(declaration: Declaration | None) -> set[tuple[Reason, str]]:
    """Reasons and ends of the details of images that `exclude` of a declaration leaves out, as :func:`_stated` gives them.

    A manifest holds nothing else by which a build could tell them.
    """
    tables = declaration.tables if declaration else ()
    return {(each.code, f": {each.why}") for table in tables for each in table.exclude}


def _identity_facts(
    identity: Identity, path: str, of_image: Sequence[Statement], sources: list[str]
) -> dict[str, str] | Rejection:
    """Patient, exam, side and view of an image by the first source that names each; `sources` gets where each is from."""
    found: dict[str, str] = {}
    for fact, reason in _CONFLICTS.items():
        order = getattr(identity, fact)
        spoken = [
            (order.index(where), image.place, str(value))
            for where, image in of_image
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
    return found


def _comparable(fact: str, value: str, first: str) -> str:
    """A value as it is compared with the `first` one: a year names the same exam as a day in it."""
    if fact != "exam" or value == first or not any(re.fullmatch(r"[0-9]{4}(\.0)?", each) for each in (value, first)):
        return value
    years = [parse_exam_date(each)[:4] for each in (value, first)]
    return first if years[0] == years[1] != "" else value
