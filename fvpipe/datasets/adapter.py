"""Adapter of a data set: where its headers depart from the standard, and how its label table is read."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path

from fvpipe.config.project import Labels
from fvpipe.dicom.header import HeaderPolicy
from fvpipe.errors import ParameterError
from fvpipe.types import BreastFacts, Exam, Finding, ImageFacts, Laterality, Region, View

ENTRY_POINTS = "fvpipe.datasets"
"""Group of entry points by which another package adds adapters: name -> an :class:`Adapter`."""

_MODULES = ("vindr", "cmmd", "cbis", "table")


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
    regions : mapping of (patient, Laterality, View, number) to (str, int or None)
        Category and BI-RADS of the lesions that masks outline; the number tells the lesions of an image apart.
    """

    rows: Mapping[tuple[str, Laterality], BreastFacts] = field(default_factory=dict)
    exams: Mapping[tuple[str, Laterality, Exam], BreastFacts] = field(default_factory=dict, kw_only=True)
    excluded_patients: Mapping[str, str] = field(default_factory=dict)
    images: Mapping[str, ImageFacts] = field(default_factory=dict)
    findings: Mapping[str, Sequence[Finding]] = field(default_factory=dict)
    regions: Mapping[tuple[str, Laterality, View, int], tuple[str, int | None]] = field(default_factory=dict)


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
        Where headers depart from the standard.
    hashed : bool
        Whether identifiers are replaced by keyed digests unless the user says otherwise.
    publishable : bool
        Whether rows about this data may be committed to a repository.
    read_labels : callable
        (input folder, label file or None, label rules) -> LabelTable; raises LabelTableError.
    read_region : callable or None
        Bytes of a file whose patient identifier matches `policy.region_pattern` -> the region that it outlines, or None
        where it outlines none. Raises :class:`fvpipe.dicom.elements.RejectedFile` for a mask that cannot be used.
    """

    name: str
    license: str
    policy: HeaderPolicy
    hashed: bool
    publishable: bool
    read_labels: Callable[[Path, Path | None, Labels], LabelTable]
    read_region: Callable[[bytes], Region | None] | None = None


def get_adapter(name: str) -> Adapter:
    """Look up an adapter of fvpipe, or of another installed package.

    Raises
    ------
    ParameterError
        No adapter has this name, or it cannot be imported.
    """
    if name in _MODULES:
        found: object = importlib.import_module(f"fvpipe.datasets.{name}").ADAPTER
    else:
        outside = {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
        if name not in outside:
            raise ParameterError(f"no adapter {name!r}; expected one of {', '.join((*_MODULES, *sorted(outside)))}")
        try:
            found = outside[name].load()
        except Exception as error:
            raise ParameterError(f"adapter {name!r} ({outside[name].value}) cannot be imported: {error!r}") from error
    if not isinstance(found, Adapter):
        raise ParameterError(f"adapter {name!r} is a {type(found).__name__}; expected an fvpipe.datasets.Adapter")
    return found


def parse_laterality(text: str) -> Laterality | None:
    """Parse ``L``, ``R``, ``left`` or ``right`` in any case; None for anything else.

    Examples
    --------
    >>> parse_laterality("Left"), parse_laterality("R"), parse_laterality("both")
    (<Laterality.LEFT: 'L'>, <Laterality.RIGHT: 'R'>, None)
    """
    return {"l": Laterality.LEFT, "left": Laterality.LEFT, "r": Laterality.RIGHT, "right": Laterality.RIGHT}.get(text.lower())
