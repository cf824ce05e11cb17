"""Targets: facts of breasts beside the label that a shard holds, and how each is coded.

A target is a class (int16, the number of its name among ``classes``, -1 where it is not known) or a number (float32, NaN
where it is not known). Its form is an entry of the receipt, and stands in the attributes of each dataset ``targets/<name>``.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fvpipe.printable import CONTROL, escaped

GROUP = "targets"
COLUMN_PREFIX = "target_"
MAX_CLASSES = 1000
MAX_CLASS_BYTES = 1 << 14  # of all names of a target: quoted, they lie in one attribute of at most 64 KiB


@dataclass(frozen=True, slots=True)
class TargetForm:
    """Form of one target of a shard folder.

    Attributes
    ----------
    name : str
        Its name, as the pipeline has it.
    kind : {"class", "number"}
        What its values are.
    meaning : str
        What it says of a breast.
    unit : str
        Unit of a number; empty for a class.
    classes : tuple of str
        Names of the classes in the order of their codes; empty for a number.
    known : int
        Number of samples of which it is known.
    """

    name: str
    kind: Literal["class", "number"]
    meaning: str
    unit: str = ""
    classes: tuple[str, ...] = ()
    known: int = 0

    @property
    def path(self) -> str:
        """Name of its dataset."""
        return f"{GROUP}/{self.name}"

    @property
    def column(self) -> str:
        """Name of its column in ``breasts.csv``."""
        return self.name if self.name in BUILT_IN else f"{COLUMN_PREFIX}{self.name}"

    @property
    def dtype(self) -> str:
        """NumPy type of its dataset."""
        return "<i2" if self.kind == "class" else "<f4"

    @property
    def attributes(self) -> dict[str, str]:
        """Attributes of its dataset."""
        coded = {"classes": json.dumps(self.classes, ensure_ascii=False), "missing": "-1"}
        return {"kind": self.kind, "meaning": self.meaning} | (
            coded if self.kind == "class" else {"unit": self.unit, "missing": "NaN"}
        )

    def encode(self, cells: Iterable[str]) -> NDArray[Any]:
        """Encode texts as ``breasts.csv`` has them; empty is not known.

        Raises
        ------
        ValueError
            A text is none of the classes, or no finite number.
        """
        if self.kind == "class":
            codes = {"": -1} | {name: i for i, name in enumerate(self.classes)}
            names = [class_name(cell) for cell in cells]
            if wrong := [name for name in names if name not in codes]:
                raise ValueError(f"{wrong[0][:40]!r} is none of the {len(self.classes)} classes")
            return np.array([codes[name] for name in names], self.dtype)
        # Ages have the form 045Y, or are 90+.
        with np.errstate(over="ignore"):  # what is too large is named below
            numbers = np.array([float(cell.rstrip("Y+")) if cell else np.nan for cell in cells]).astype(self.dtype)
        if np.isinf(numbers).any():
            raise ValueError("a number is not finite, or too large for float32")
        return numbers

    def decode(self, value: Any) -> str | float | None:
        """Name of the class, or the number; None where it is not known."""
        if self.kind == "class":
            return self.classes[int(value)] if value >= 0 else None
        return None if np.isnan(value) else float(value)

    def is_known(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """Whether each value is known."""
        known: NDArray[np.bool_] = values >= 0 if self.kind == "class" else ~np.isnan(values)
        return known

    def wrong_value(self, values: NDArray[Any]) -> str:
        """Describe the first value that its form does not have; empty text where there is none."""
        wrong = (values < -1) | (values >= len(self.classes)) if self.kind == "class" else np.isinf(values)
        expected = f"-1 to {len(self.classes) - 1}" if self.kind == "class" else "finite numbers and NaN"
        return f"{self.path} is {values[wrong].tolist()[0]}, expected {expected}" if wrong.any() else ""


BUILT_IN: dict[str, TargetForm] = {
    form.name: form
    for form in (
        TargetForm("age", "number", "age at the exam, by the label table; 90 stands for 90 and more", "years"),
        TargetForm("bi_rads", "class", "BI-RADS assessment of the breast", classes=tuple("0123456")),
        TargetForm("density", "class", "density of the breast, ACR BI-RADS", classes=tuple("ABCD")),
        TargetForm("machine", "class", "device, as published"),
        TargetForm("pathology", "class", "result of pathology, as published"),
        TargetForm("subtype", "class", "molecular subtype, as published"),
    )
}
"""Targets that any data set may have, by name; classes that are not given are those that occur."""


def class_name(cell: str) -> str:
    r"""Name of the class that a text stands for: composed characters, and nothing that a terminal would obey.

    Examples
    --------
    >>> class_name("Luminal A") == "Luminal A", class_name("u\u0308") == "ü"
    (True, True)
    """
    return escaped(unicodedata.normalize("NFC", cell))


def class_names(cells: Iterable[str]) -> tuple[str, ...]:
    """Names of the classes that occur, sorted.

    Raises
    ------
    ValueError
        More than :data:`MAX_CLASSES`, or names that are too long.
    """
    found = tuple(sorted({class_name(cell) for cell in cells} - {""}))
    size = sum(len(name.encode()) for name in found)
    if len(found) > MAX_CLASSES or size > MAX_CLASS_BYTES:
        limits = f"at most {MAX_CLASSES} classes and {MAX_CLASS_BYTES} bytes of names"
        raise ValueError(f"it has {len(found)} different values of {size} bytes together; expected {limits}")
    return found


def parse_forms(data: Any) -> tuple[TargetForm, ...]:
    """Parse the targets of a receipt.

    Raises
    ------
    TypeError, ValueError, KeyError
        They are not as a build writes them.
    """
    forms = tuple(map(_parse_form, data))
    if [form.name for form in forms] != sorted({form.name for form in forms}):
        raise ValueError("targets are not in their order")
    return forms


def _parse_form(data: Mapping[str, Any]) -> TargetForm:
    form = TargetForm(**{**data, "classes": tuple(data["classes"])})
    texts = (form.name, form.kind, form.meaning, form.unit, *form.classes)
    plain = form.name.replace("-", "_").replace("_", "").isalnum() and form.name.isascii() and len(form.name) <= 64
    if not all(type(text) is str and not CONTROL.search(text) for text in texts) or not plain:
        raise TypeError("a text is none, or no name")
    if form.kind not in ("class", "number") or type(form.known) is not int or form.known < 0:
        raise TypeError("a kind or a count is none")
    if (form.kind == "number" and form.classes) or "" in form.classes or len(set(form.classes)) < len(form.classes):
        raise ValueError("classes are not as the kind has them")
    return form
