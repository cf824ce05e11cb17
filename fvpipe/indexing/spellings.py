"""Other spellings of an identifier of a label table, to say which one its header seems to have."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from fvpipe.io.tables import CUT_NUMBER

MAX_ADDED_ZEROS = 16  # to an identifier, to see whether leading zeros are all that it lacks


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
    """Return an identifier with no leading zeros, and with each number of them."""
    return [zeros * "0" + whole.lstrip("0") for zeros in range(MAX_ADDED_ZEROS + 1)]
