"""Folding of cells and identifiers before they are compared: case, spaces, Unicode form, and the ``.0`` of spreadsheets."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache


def whole_text(cell: str) -> str:
    """A cell, without the ``.0`` that a spreadsheet adds to whole numbers.

    Examples
    --------
    >>> whole_text("1.0"), whole_text("007"), whole_text("1.5")
    ('1', '007', '1.5')
    """
    return re.sub(r"(?<=[0-9])\.0+$", "", cell)


@lru_cache(maxsize=4096)  # the cells that rules compare are a few words, in half a million rows
def folded(cell: str) -> str:
    r"""A cell, or an identifier, without what spreadsheets and hands change: the ``.0`` of whole numbers, case and spaces.

    Examples
    --------
    >>> folded("1.0"), folded("Invasive\ncarcinoma"), folded("BI-RADS\xa04"), folded("bo\u0308s") == "b\xf6s"
    ('1', 'invasive carcinoma', 'bi-rads 4', True)
    """
    return whole_text(" ".join(unicodedata.normalize("NFC", cell).split())).casefold()


def folded_name(patient: str) -> str:
    """A patient's identifier, :func:`folded`, without the leading zeros of each number in it.

    Examples
    --------
    >>> folded_name("007"), folded_name("7.0"), folded_name("P 07"), folded_name("1.05")
    ('7', '7', 'p 7', '1.05')
    """
    return re.sub(r"(?<![0-9.])0+(?=[0-9])", "", folded(patient))
