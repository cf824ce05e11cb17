"""One adapter a data set: how its headers depart from the standard, and what its label table says.

An :class:`Adapter` is data and one function; a further data set is one small module and one entry in `_MODULES`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fvpipe.dicom import HeaderPolicy
from fvpipe.errors import ParameterError
from fvpipe.params import Labels
from fvpipe.types import BreastFacts, Finding, ImageFacts, Laterality

_MODULES = ("vindr", "cmmd", "cbis", "table")


@dataclass(frozen=True, slots=True)
class LabelTable:
    """What a data set knows of its breasts.

    Attributes
    ----------
    rows : mapping of (patient, Laterality) to BreastFacts
    excluded_patients : mapping of patient to str
        Patients that a rule leaves out, and why, whether or not `rows` has them.
    images : mapping of SOP Instance UID to ImageFacts
        What the table says of single images.
    findings : mapping of SOP Instance UID to sequence of Finding
        Boxes that readers drew.
    """

    rows: Mapping[tuple[str, Laterality], BreastFacts] = field(default_factory=dict)
    excluded_patients: Mapping[str, str] = field(default_factory=dict)
    images: Mapping[str, ImageFacts] = field(default_factory=dict)
    findings: Mapping[str, Sequence[Finding]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Adapter:
    """One kind of data set.

    Attributes
    ----------
    name : str
    license : str
        What the data's publisher allows, with the citation that it asks for.
    policy : HeaderPolicy
    hashed : bool
        Whether identifiers are replaced by keyed digests unless the user says otherwise.
    publishable : bool
        Whether rows about this data may be committed to a repository.
    read_labels : callable
        (input folder, label file or None, label rules) -> LabelTable; raises LabelTableError.
    """

    name: str
    license: str
    policy: HeaderPolicy
    hashed: bool
    publishable: bool
    read_labels: Callable[[Path, Path | None, Labels], LabelTable]


def adapter(name: str) -> Adapter:
    """The adapter called `name`.

    Raises
    ------
    ParameterError
        There is none.
    """
    if name not in _MODULES:
        raise ParameterError(f"no adapter {name!r}; expected one of {', '.join(_MODULES)}")
    found: Adapter = importlib.import_module(f"fvpipe.datasets.{name}").ADAPTER
    return found


def side(text: str) -> Laterality | None:
    """L or R as label tables write them."""
    return {"l": Laterality.LEFT, "left": Laterality.LEFT, "r": Laterality.RIGHT, "right": Laterality.RIGHT}.get(text.lower())
