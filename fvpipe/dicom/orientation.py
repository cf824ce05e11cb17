r"""How the pixels of a mammogram lie by its Patient Orientation (0020,0020), and how they are put upright.

The element gives the directions towards which the rows and the columns run. Displayed as the standard prescribes, the rows
of a left breast run to anterior, those of a right one to posterior; the columns of a CC run to medial, so that lateral is on
top, and those of an MLO to the feet and to medial: ``A\R`` and ``A\FR`` on the left, ``P\L`` and ``P\FL`` on the right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from fvpipe.dicom.elements import RejectedFile
from fvpipe.reasons import Reason
from fvpipe.types import Laterality, Orientation, View

AXES = ("AP", "HF", "RL")
ArrayT = TypeVar("ArrayT", bound=NDArray[Any])

UNDO = {
    Orientation.UPRIGHT: (False, False, False),
    Orientation.MIRRORED: (False, False, True),
    Orientation.UPSIDE_DOWN: (False, True, False),
    Orientation.TURNED_180: (False, True, True),
    Orientation.TRANSPOSED: (True, False, False),
    Orientation.TURNED_270: (True, False, True),
    Orientation.TURNED_90: (True, True, False),
    Orientation.TRANSVERSE: (True, True, True),
}
"""What puts the pixels upright: whether to transpose, then to reverse the order of the rows, then that of the columns."""
_BY_UNDO = {undo: orientation for orientation, undo in UNDO.items()}
UPRIGHT = frozenset({Orientation.UPRIGHT, Orientation.NOT_GIVEN, Orientation.UNKNOWN})
"""Orientations of pixels that are left as they are."""


def find_orientation(terms: Sequence[str], laterality: Laterality, view: View) -> Orientation:
    """Tell how an image lies.

    Parameters
    ----------
    terms : sequence of str
        Values of Patient Orientation; unless there are two, the orientation is not given.

    Raises
    ------
    RejectedFile
        The values contradict themselves, the view or the side.
    """
    terms = ["".join(term.upper().split()) for term in terms]
    if len(terms) < 2 or not all(terms):
        return Orientation.NOT_GIVEN
    shown = shown_orientation(terms)
    if len(terms) > 2 or not all(_is_direction(term) for term in terms):
        raise RejectedFile(Reason.ORIENTATION_INVALID, f"{shown} is not a pair of directions; expected such as A\\R or P\\FL")
    rows, columns = terms
    transposed = rows[0] not in "AP"
    nipple, down = (columns, rows) if transposed else (rows, columns)
    if nipple[0] not in "AP" or down[0] in "AP":
        raise RejectedFile(Reason.ORIENTATION_INVALID, f"{shown}; expected one axis to A or P, the other to H, F, R or L")
    standard, medial = {Laterality.LEFT: ("A", "R"), Laterality.RIGHT: ("P", "L")}[laterality]
    mirrored = nipple[0] != standard
    feet, middle = _sign(down, "F", "H"), _sign(down, medial, "L" if medial == "R" else "R")
    if view is View.CC and down[0] in "RL":
        feet = 0  # a tilt
    if mirrored and not transposed and (feet, middle) in _OTHER_BREAST:
        detail = f"laterality {laterality}, {shown} is that of the other breast{_OTHER_BREAST[feet, middle]}"
        raise RejectedFile(Reason.LATERALITY_CONFLICT, detail)
    if feet * middle < 0 and view is View.MLO:
        raise RejectedFile(Reason.LATERALITY_CONFLICT, f"laterality {laterality}, {shown}; {down} is of the other breast")
    if view is View.CC and (feet * middle < 0 or (feet, middle) == (-1, 0)):
        raise RejectedFile(Reason.ORIENTATION_INVALID, f"{shown}; expected a CC to run to R or L")
    return _BY_UNDO[transposed, (middle or feet) < 0, mirrored]


_OTHER_BREAST = {(1, -1): "", (0, -1): ", or of this one turned by 180 degrees", (1, 0): ", or of this one mirrored"}
"""Signs of the columns (to the feet, to this breast's middle) where the other one is upright, and what else it may be."""


def put_upright(stored: ArrayT, orientation: Orientation) -> ArrayT:
    """Undo the turning and mirroring of stored pixels; returns a contiguous array."""
    transpose, flip_rows, flip_columns = UNDO.get(orientation, UNDO[Orientation.UPRIGHT])
    turned = stored.T if transpose else stored
    upright: Any = np.ascontiguousarray(turned[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1])
    return cast(ArrayT, upright)


def upright_box(
    box: tuple[float, float, float, float], orientation: Orientation, shape: tuple[int, int]
) -> tuple[float, float, float, float]:
    """Map a box (top, bottom, left, right) on stored pixels, of `shape` rows and columns, into the upright image."""
    transpose, flip_rows, flip_columns = UNDO.get(orientation, UNDO[Orientation.UPRIGHT])
    top, bottom, left, right = (*box[2:], *box[:2]) if transpose else box
    rows, columns = reversed(shape) if transpose else shape
    top, bottom = (rows - bottom, rows - top) if flip_rows else (top, bottom)
    left, right = (columns - right, columns - left) if flip_columns else (left, right)
    return top, bottom, left, right


def shown_orientation(terms: Sequence[str]) -> str:
    """Describe the values of Patient Orientation; anything but directions is hidden, since it could be a name."""
    value = "\\".join(terms)
    shown = value if set(value) <= set("AHFPLR\\") and len(value) <= 9 else f"<{len(value)} characters>"
    return f"PatientOrientation {shown}"


def _is_direction(term: str) -> bool:
    """Whether the letters are of different anatomical axes."""
    axes = [next((axis for axis in AXES if letter in axis), "") for letter in term]
    return "" not in axes and len(set(axes)) == len(axes)


def _sign(term: str, towards: str, away: str) -> int:
    return (towards in term) - (away in term)
