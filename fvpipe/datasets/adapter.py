"""Adapter of a data set: where its headers depart from the standard, and how its label table is read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from fvpipe.config.facts import IDENTITY
from fvpipe.config.project import Labels
from fvpipe.datasets.combine import DescribedBreast
from fvpipe.datasets.declared.declaration import Declaration, Identity
from fvpipe.dicom.policy import HeaderPolicy
from fvpipe.errors import ParameterError
from fvpipe.io.tables import PERSONAL
from fvpipe.reasons import Reason
from fvpipe.types import BreastFacts, CropBox, Exam, Finding, Laterality, View


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """Rows of a label table about one image, to be compared with its header.

    Attributes
    ----------
    line : int
        Line number in the table, for messages.
    laterality, view, rows, columns
        Values of the row; None if the table has no such column.
    patient : str
        Whom the row describes; empty if it does not say: then it is of the breast that the image shows.
    exam : Exam
        The exam that it describes.
    facts : tuple of BreastFacts
        What the rows say of one breast.
    """

    line: int
    laterality: Laterality | None = None
    view: View | None = None
    rows: int | None = None
    columns: int | None = None
    patient: str = ""
    exam: Exam = field(default_factory=Exam)
    facts: tuple[BreastFacts, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Region:
    """Lesion outlined by a mask file, on the film of the same patient, side and view.

    Attributes
    ----------
    patient_id : str
        As in the header of the mask.
    laterality, view : Laterality, View
        Of the film.
    number : int
        Number of the lesion on its film.
    rows, columns : int
        Size of the mask in pixels; must equal that of the film.
    box : CropBox or None
        Bounding box of the mask; None for an image with many values, which is a cut-out unless it is as large as its film.
    category : str
        Begin of the lesion's category, in any case; it tells lesions of one number apart. Empty: the file does not say.
    """

    patient_id: str
    laterality: Laterality
    view: View
    number: int
    rows: int
    columns: int
    box: CropBox | None
    category: str = ""


@dataclass(frozen=True, slots=True)
class ListedImage:
    """Facts of one image from a row of a table that lists images, or from its path. Empty and None: nothing is said.

    Attributes
    ----------
    place : str
        Table and line, or ``the path``.
    patient, exam : str
        As published.
    exam_names : Exam
        Names of the exam that the header must have, too.
    exam_date : str
        What orders the exams of the patient, ``YYYYMMDD``, ``YYYYMM`` or ``YYYY``; it counts before the day of the header.
    laterality : Laterality or None
        Side.
    view : str
        ``CC``, ``MLO``, or the name of another view.
    kind : str
        ``synthetic``, ``low_energy``, or nothing.
    implant : bool
        Whether the breast has an implant.
    facts : BreastFacts or None
        What it says of the breast.
    findings : tuple of Finding
        Boxes on the image.
    rejected : (Reason, str) or None
        Why a rule of the adapter leaves the image out.
    more_facts : tuple of BreastFacts
        What further rows about the image say of the breast.
    rows, columns : int or None
        Size of the image.
    """

    place: str
    patient: str = ""
    exam: str = ""
    exam_names: Exam = field(default_factory=Exam)
    exam_date: str = ""
    laterality: Laterality | None = None
    view: str = ""
    kind: str = ""
    implant: bool = False
    facts: BreastFacts | None = None
    findings: tuple[Finding, ...] = ()
    rejected: tuple[Reason, str] | None = None
    more_facts: tuple[BreastFacts, ...] = ()
    rows: int | None = None
    columns: int | None = None


Statement = tuple[str, ListedImage]
"""Source of what is said of an image, ``path`` or ``table``, and what it says."""


@dataclass(frozen=True, slots=True)
class LabelTable:
    """The contents of the label tables of a data set.

    Attributes
    ----------
    rows : mapping of (patient, Laterality) to BreastFacts
        One entry a breast, where the table does not tell exams apart. The patient is the identifier that `Adapter.policy`
        reads from a header. Where two exams of the breast are imaged, such an entry is ambiguous, and both are left out.
    exams : mapping of (patient, Laterality, Exam) to BreastFacts
        One entry a breast and exam, where the table names the exam.
    excluded_patients : mapping of patient to str
        Patients that a rule leaves out, and the reason, whether or not `rows` has them.
    images : mapping of SOP Instance UID to ImageFacts
        Compared with the headers: an image whose header disagrees is rejected.
    findings : mapping of SOP Instance UID to sequence of Finding
        Boxes that readers drew, edges in source pixels.
    regions : mapping of (patient, Laterality, View, number) to set of (str, int or None)
        Category and BI-RADS of the lesions that masks outline; the number tells the lesions of an image apart, but a mass may
        have that of a calcification.
    listed : mapping of str to ListedImage
        By the end of an image's path, without suffix, or by what :attr:`Adapter.state_images` finds it by.
    implied : mapping of (patient, Laterality, Exam) to BreastFacts
        As `exams`, of breasts that no row names; nothing is reported where such a breast has no image.
    added : mapping of (patient, Laterality, Exam) to BreastFacts
        What further rows add to breasts that `listed`, or the paths, describe.
    combine : {"same", "first", "worst"}
        What the rows that list a breast's images must have in common: everything; the label, and what they contradict otherwise
        is not known; nothing, and the worst counts.
    decided : set of (patient, Laterality, Exam)
        Breasts of `exams` whose rows decided over another exam: nothing is reported where such a breast has no image.
    unused : sequence of str
        Places of rows and files that only add facts to breasts of other rows, and whose breast no other row describes.
    notes : sequence of str
        What the user should see of the tables, as warnings; without anything of a patient.
    """

    rows: Mapping[tuple[str, Laterality], BreastFacts] = field(default_factory=dict)
    exams: Mapping[DescribedBreast, BreastFacts] = field(default_factory=dict, kw_only=True)
    excluded_patients: Mapping[str, str] = field(default_factory=dict)
    images: Mapping[str, ImageFacts] = field(default_factory=dict)
    findings: Mapping[str, Sequence[Finding]] = field(default_factory=dict)
    regions: Mapping[tuple[str, Laterality, View, int], Set[tuple[str, int | None]]] = field(default_factory=dict)
    listed: Mapping[str, ListedImage] = field(default_factory=dict)
    implied: Mapping[DescribedBreast, BreastFacts] = field(default_factory=dict)
    added: Mapping[DescribedBreast, BreastFacts] = field(default_factory=dict, kw_only=True)
    combine: Literal["same", "first", "worst"] = "same"
    decided: Set[DescribedBreast] = field(default=frozenset(), kw_only=True)
    unused: Sequence[str] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Adapter:
    """One kind of data set.

    Attributes
    ----------
    name : str
        Lower case letters, digits, ``-`` and ``_``.
    license : str
        What the data's publisher allows, with the citation that it asks for.
    policy : HeaderPolicy
        Where headers depart from the standard. With `identity`, its `from_header` and `header_first` follow from that.
    hashed : bool
        Whether identifiers are replaced by keyed digests unless the user says otherwise.
    publishable : bool
        Whether rows about this data may be committed to a repository.
    read_labels : callable
        (input folder, label file or None, label rules) -> LabelTable; raises LabelTableError.
    read_region : callable or None
        Bytes of a file whose patient identifier matches `policy.region_pattern` -> the region that it outlines, or None
        where it outlines none. Raises :class:`fvpipe.dicom.elements.RejectedFile` for a mask that cannot be used.
    state_images : callable or None
        (paths, LabelTable, label rules) -> by path, what rows and path say of each image: a list of (``path`` or ``table``,
        ListedImage). None where headers alone identify images.
    identity : Identity or None
        Sources of patient, exam, laterality and view, in their order; what another source states does not count. None where
        headers alone identify images.
    redistribute_shards, release_models : bool
        Whether the license allows to give away shards, and models that were trained on them.
    declaration : Declaration or None
        Where the adapter is declared.
    version : int
        The :data:`fvpipe.versions.ADAPTER_VERSION` that it was written for.

    Raises
    ------
    ParameterError
        `state_images` is given, and `identity` is not.
    """

    name: str
    license: str
    policy: HeaderPolicy
    hashed: bool
    publishable: bool
    read_labels: Callable[[Path, Path | None, Labels], LabelTable]
    read_region: Callable[[bytes], Region | None] | None = None
    state_images: Callable[[Sequence[str], LabelTable, Labels], Mapping[str, Sequence[Statement]]] | None = None
    redistribute_shards: bool = False
    release_models: bool = True
    declaration: Declaration | None = None
    identity: Identity | None = None
    version: int = 1

    def __post_init__(self) -> None:
        """Take `from_header` and `header_first` of the policy from `identity`."""
        sources = {fact: getattr(self.identity, fact) for fact in IDENTITY} if self.identity else {}
        if self.state_images is not None and not sources:
            raise ParameterError(
                f"adapter {self.name!r}: `state_images` needs `identity`, which says for which facts its statements count; "
                "expected Identity(patient=('table', 'header'), ...)"
            )
        if sources:
            from_header = tuple(fact for fact, where in sources.items() if "header" in where)
            header_first = tuple(fact for fact, where in sources.items() if where[0] == "header")
            object.__setattr__(self, "policy", replace(self.policy, from_header=from_header, header_first=header_first))


def check_values(table: LabelTable, stated: Iterable[BreastFacts] = ()) -> None:
    """Check what an adapter of another package gives: a label of 2 would go into shards, and a word would fit no image.

    Parameters
    ----------
    table : LabelTable
        Its tables.
    stated : iterable of BreastFacts
        What it says of breasts beside them.

    Raises
    ------
    ParameterError
        A value is none of those that are documented.
    """
    keys = [*((*key, Exam()) for key in table.rows), *table.exams, *table.implied, *table.added]
    facts = [*table.rows.values(), *table.exams.values(), *table.implied.values(), *table.added.values(), *stated]
    boxes = [box for found in table.findings.values() for box in found]
    values: list[tuple[str, Iterable[object], Callable[[Any], object], str]] = [
        (
            "patient",
            (patient for patient, *_ in keys),
            lambda value: isinstance(value, str) and value,
            "text that is not empty",
        ),
        ("laterality", (side for _, side, _ in keys), lambda value: value in tuple(Laterality), "Laterality.LEFT or RIGHT"),
        ("Exam.date", (exam.date for *_, exam in keys), re.compile(r"([0-9]{4}([0-9]{4})?)?").fullmatch, "YYYYMMDD or YYYY"),
        ("facts", facts, lambda value: isinstance(value, BreastFacts), "BreastFacts"),
        ("label", (f.label for f in facts), lambda value: value in (1, 0, -1), "1 malignant, 0 benign, -1 unlabelled"),
        ("bi_rads", (f.bi_rads for f in facts), lambda value: value in (None, *range(7)), "0 to 6, or None"),
        ("density", (f.density for f in facts), lambda value: value in ("", *"ABCD"), "A to D, or empty text"),
        ("age", (f.age for f in facts), re.compile(r"([0-9]{3}Y|90\+)?").fullmatch, "text such as 045Y, 90+, or empty text"),
        ("regions", table.regions.values(), lambda value: isinstance(value, Set), "a set of (category, BI-RADS)"),
        (
            "a box",
            boxes,
            lambda b: b.top < b.bottom and b.left < b.right,
            "a top above its bottom, a left edge left of its right",
        ),
    ]
    for what, found, is_right, expected in values:
        for value in found:
            try:
                right = is_right(value)
            except (AttributeError, TypeError):  # no text, no box
                right = False
            if not right:
                hidden = f"text of {len(value)} characters" if isinstance(value, str) else f"a {type(value).__name__}"
                is_personal = what in ("patient", "Exam.date", "facts", "regions") or (
                    isinstance(value, str) and PERSONAL.search(value)
                )
                shown = hidden if is_personal else repr(value)[:80]
                raise ParameterError(f"`read_labels` gives {what} as {shown}; expected {expected}")


def parse_laterality(text: str) -> Laterality | None:
    """Parse ``L``, ``R``, ``left`` or ``right`` in any case; None for anything else.

    Examples
    --------
    >>> parse_laterality("Left"), parse_laterality("R"), parse_laterality("both")
    (<Laterality.LEFT: 'L'>, <Laterality.RIGHT: 'R'>, None)
    """
    return {"l": Laterality.LEFT, "left": Laterality.LEFT, "r": Laterality.RIGHT, "right": Laterality.RIGHT}.get(text.lower())
