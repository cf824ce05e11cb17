"""Identifiers of a label table that no image has: their other spellings, to say how a header seems to spell them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from fvpipe.io.tables import CUT_NUMBER

MAX_ADDED_ZEROS = 16  # to an identifier, to see whether leading zeros are all that it lacks
MAX_NUMBERS = 3  # of those in an identifier, the first, before which zeros are added: a digest has many


def hint_of(what: str, written: str, imaged: set[str], digest: Callable[[str], str]) -> str:
    """Say how an identifier that no image has differs from one that an image has; never the identifier."""
    if re.fullmatch(CUT_NUMBER, written):
        return f"; its {what} is a number like 1.2E+10, whose last digits a spreadsheet has cut off: enter it again as text"
    whole, *cases, plain = spellings(written)
    ends = "" if whole == written else f"; its {what} ends in .0, as a spreadsheet writes numbers: make the column text"
    if any(digest(each) in imaged for each in with_zeros(whole)) and not (ends and digest(whole) in imaged):
        return f"{ends}; its {what} differs from an imaged one only by leading zeros"
    if any(digest(each) in imaged for each in cases):
        return f"; its {what} differs from an imaged one only by upper and lower case"
    if digest(plain) in imaged:
        return f"; its {what} differs from an imaged one only by quotes, spaces or characters that are not shown"
    return ends


def spellings(written: str) -> list[str]:
    """An identifier without the ``.0`` of a number, in upper case, in lower case, and without what is not shown."""
    whole = re.sub(r"(?<=[0-9])\.0+$", "", written)
    plain = re.sub(r"[^\w.-]", "", unicodedata.normalize("NFKC", written))
    return [whole, written.upper(), written.lower(), plain]


def with_zeros(whole: str) -> list[str]:
    """Return an identifier with no leading zeros, and with each number of them, before it and before each number in it.

    Examples
    --------
    >>> found = with_zeros("P1-0020")
    >>> [each in found for each in ("P1-20", "P001-0020", "P1-00020", "0P1-0020", "P1-002")]
    [True, True, True, True, False]
    """
    zeros = ["0" * count for count in range(MAX_ADDED_ZEROS + 1)]
    numbers = list(_NUMBER.finditer(whole))[:MAX_NUMBERS]
    inside = (f"{whole[: number.start()]}{more}{whole[number.start(1) :]}" for number in numbers for more in zeros)
    return [*(more + whole.lstrip("0") for more in zeros), *inside]


_NUMBER = re.compile(r"(?<=[^0-9.])0*([0-9]+)")
"""One within a name, whose zeros are not part of a fraction."""
