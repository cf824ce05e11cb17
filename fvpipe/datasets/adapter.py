"""One adapter a data set: how its headers depart from the standard, and what its label table says.

An :class:`Adapter` is data and one function; a further data set is one small module and one entry in `_MODULES`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path

from fvpipe.config.project import Labels
from fvpipe.dicom.header import HeaderPolicy
from fvpipe.errors import ParameterError
from fvpipe.types import BreastFacts, Finding, ImageFacts, Laterality, Region, View

ENTRY_POINTS = "fvpipe.datasets"
"""The group of entry points by which another package adds adapters: name -> an :class:`Adapter`."""

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
    regions : mapping of (patient, Laterality, View, number) to (str, int or None)
        Category and BI-RADS of the lesions that masks outline.
    """

    rows: Mapping[tuple[str, Laterality], BreastFacts] = field(default_factory=dict)
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
    license : str
        What the data's publisher allows, with the citation that it asks for.
    policy : HeaderPolicy
    hashed : bool
        Whether identifiers are replaced by keyed digests unless the user says otherwise.
    publishable : bool
        Whether rows about this data may be committed to a repository.
    read_labels : callable
        (input folder, label file or None, label rules) -> LabelTable; raises LabelTableError.
    read_region : callable or None
        Bytes of a file that `policy.region_pattern` matches -> the region that it outlines, or None where it outlines none.
    """

    name: str
    license: str
    policy: HeaderPolicy
    hashed: bool
    publishable: bool
    read_labels: Callable[[Path, Path | None, Labels], LabelTable]
    read_region: Callable[[bytes], Region | None] | None = None


def adapter(name: str) -> Adapter:
    """The adapter called `name`.

    Raises
    ------
    ParameterError
        There is none.
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
        raise ParameterError(f"adapter {name!r} is a {type(found).__name__}; expected an fvpipe.datasets.adapter.Adapter")
    return found


def is_shipped(found: Adapter) -> bool:
    """Whether an adapter is fvpipe's own, and not one that another package may change at any time."""
    return found.name in _MODULES and found is adapter(found.name)


def side(text: str) -> Laterality | None:
    """L or R as label tables write them."""
    return {"l": Laterality.LEFT, "left": Laterality.LEFT, "r": Laterality.RIGHT, "right": Laterality.RIGHT}.get(text.lower())
