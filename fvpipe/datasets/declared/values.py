"""Texts of tables and declarations -> values of facts; None for a text that is not a value."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from datetime import date

from fvpipe.io.folding import whole_text
from fvpipe.io.tables import whole_number
from fvpipe.types import VIEWS, Laterality, View

SIDES = {  # by the words of tables
    "l": (Laterality.LEFT,),
    "left": (Laterality.LEFT,),
    "r": (Laterality.RIGHT,),
    "right": (Laterality.RIGHT,),
    **dict.fromkeys(("both", "b", "bilateral"), (Laterality.LEFT, Laterality.RIGHT)),
}
DENSITIES = {"1": "A", "2": "B", "3": "C", "4": "D"}
KINDS = ("full_field", "synthetic", "low_energy", "recombined", "other")
EDGES = ("top", "bottom", "left", "right")
SIZES = {"bottom": "height", "right": "width"}
"""Facts that may stand in place of an edge: the box's size, from the opposite edge on."""
MISSING = frozenset({"nan", "na", "n/a", "#n/a", "<na>", "nat", "null"})
"""What programs write into cells without a value, in lower case."""
NOT_KNOWN = frozenset({"none", "nil", "unknown", "missing", "n.a.", "#ref!", "#value!", "#name?", "#div/0!", "#num!", "#null!"})
"""What else stands where a patient or an exam has no name, in lower case. Of another fact it may be a value."""
_YEARS = r"y|yrs?\.?|years?|y\.? ?o\.?|years? old|j\.?|jahre?|a|ans?|años?|anni|anos?|лет|岁|歳"
_YES_NO = {"1": True, "yes": True, "true": True, "0": False, "no": False, "false": False}


def names_something(cell: str) -> bool:
    """Whether a cell names a patient or an exam: images of several without a name would be those of one.

    Examples
    --------
    >>> names_something("P-1"), names_something("-"), names_something("Unknown"), names_something("?")
    (True, False, False, False)
    """
    return cell.casefold() not in MISSING | NOT_KNOWN and any(character.isalnum() for character in cell)


def has_value(cell: str, words: Iterable[str] = ()) -> bool:
    """Whether a cell is not empty, and no `NaN`, `NA` or the like, unless that is one of the declared words."""
    word = cell.casefold()
    return bool(cell) and (word not in MISSING or word in {each.casefold() for each in words})


def declared_words(values: Mapping[str, str]) -> str:
    """The cells that a column may have: ``1 or malignant, 0 or benign``."""
    groups: dict[str, list[str]] = {}
    for known, value in values.items():
        if known not in ("", "*"):
            groups.setdefault(value, []).append(known)
    shown = [" or ".join(group) for group in groups.values()]
    text = " or ".join(shown) if len(shown) == 2 and len(values) == 2 else ", ".join(shown)
    return f"{text}, or any other but NA, NaN and the like" if text and "*" in values else text


def edges_of(facts: Container[str]) -> tuple[str, ...]:
    """The four facts that give a box: its edges, or in place of bottom and right the height and width.

    Examples
    --------
    >>> edges_of({"top", "left", "width", "height"}), edges_of({"top"})
    (('top', 'height', 'left', 'width'), ('top', 'bottom', 'left', 'right'))
    """
    return tuple(SIZES[edge] if edge in SIZES and edge not in facts and SIZES[edge] in facts else edge for edge in EDGES)


def parse_sides(text: str) -> tuple[Laterality, ...] | None:
    """Parse the name of a side, or of both."""
    return SIDES.get(text.lower())


def parse_side(text: str) -> tuple[Laterality, ...] | None:
    """Parse the name of one side."""
    found = parse_sides(text)
    return found if found and len(found) == 1 else None


def parse_bi_rads(text: str) -> int | None:
    """Parse a BI-RADS assessment: ``4``, ``4.0``, ``4a``, ``BI-RADS 4``; None for anything else.

    Examples
    --------
    >>> parse_bi_rads("BI-RADS 4"), parse_bi_rads("4b"), parse_bi_rads("5.0"), parse_bi_rads("7"), parse_bi_rads("")
    (4, 4, 5, None, None)
    """
    match = re.fullmatch(r"(?:bi-?rads?[ -]*)?([0-6])(?:\.0+|[abc])?", text.strip(), re.IGNORECASE)
    return int(match[1]) if match else None


def parse_day(text: str) -> str:
    """Parse ``YYYYMMDD``, ``YYYY-MM-DD`` or ``YYYY/MM/DD`` to ``YYYYMMDD``; nothing for anything else.

    There may be a time after it, or the ``.0`` of a number.

    Examples
    --------
    >>> parse_day("2014-01-31 00:00:00"), parse_day("2014/01/31"), parse_day("20140131.0"), parse_day("31.01.2014")
    ('20140131', '20140131', '20140131', '')
    """
    match = re.fullmatch(r"([0-9]{4})([-/]?)([0-9]{2})\2([0-9]{2})(?:[ T][0-9:.]+|\.0)?", text.strip())
    if match is None:
        return ""
    digits = match[1] + match[3] + match[4]
    try:
        date.fromisoformat(digits)
    except ValueError:  # no day of the calendar
        return ""
    return digits


def matched_text(match: re.Match[str]) -> str:
    r"""The first group of a column's pattern; of one with groups `year`, `month` and `day` that day, ``YYYYMMDD``.

    Examples
    --------
    >>> matched_text(re.fullmatch(r"(?P<day>\d+)/(?P<month>\d+)/(?P<year>\d{4})", "1/12/2019"))
    '20191201'
    """
    named = match.groupdict()
    if {"year", "month", "day"} <= named.keys():
        parts = [(named[name] or "").zfill(2) for name in ("year", "month", "day")]
        return ("" if len(parts[0]) == 4 else "-").join(parts)  # of a year of two digits no date
    return match[1] or ""


def parse_exam_date(text: str) -> str:
    """Parse the day of an exam as :func:`parse_day` does, or its month or year, ``YYYYMM`` or ``YYYY``: all order exams.

    Examples
    --------
    >>> parse_exam_date("2014-01-31"), parse_exam_date("2014-11"), parse_exam_date("201411"), parse_exam_date("2014.0")
    ('20140131', '201411', '201411', '2014')
    >>> parse_exam_date("2014-13"), parse_exam_date("14")
    ('', '')
    """
    match = re.fullmatch("((?:19|20)[0-9]{2})(?:[-/]?([0-9]{2}))?", whole_text(text.strip()))
    if match is None:
        return parse_day(text)
    digits = f"{match[1]}{match[2] or ''}"
    return digits if parse_day(first_day(digits)) else ""


def first_day(exam_date: str) -> str:
    """Return the first day of the day, month or year of an exam.

    Examples
    --------
    >>> first_day("20140131"), first_day("201411"), first_day("2014")
    ('20140131', '20141101', '20140101')
    """
    return f"{exam_date}0101"[:8]


def parse_density(text: str) -> str | None:
    """Parse a breast density: ``A`` to ``D`` or ``1`` to ``4``; nothing for 0, as CBIS-DDSM has it; a percentage is none.

    Examples
    --------
    >>> parse_density("b"), parse_density("2.0"), parse_density("0"), parse_density("5")
    ('B', 'B', '', None)
    """
    text = whole_text(text.upper().removeprefix("DENSITY").strip())
    if text.isdecimal():
        return DENSITIES.get(text, "" if text == "0" else None)
    return text if text in ("", *DENSITIES.values()) else None


def parse_age(text: str) -> str:
    """Parse years to the form of headers; nothing for what is not an age: some tables hold other words there, or 0.

    Examples
    --------
    >>> parse_age("54"), parse_age("54.5 years"), parse_age("054Y"), parse_age("54,5"), parse_age("93"), parse_age("650 months")
    ('054Y', '054Y', '054Y', '054Y', '90+', '')
    >>> parse_age("90+"), parse_age(">= 90"), parse_age("> 89"), parse_age("60+")  # as de-identified tables have it
    ('90+', '90+', '90+', '')
    >>> parse_age("54 Jahre"), parse_age("54 y.o."), parse_age("54 ans"), parse_age("0"), parse_age("50-54")
    ('054Y', '054Y', '054Y', '', '')
    """
    if re.fullmatch(r"90 ?\+|(>=?|≥) ?90|> ?89", text.strip()):
        return "90+"
    match = re.fullmatch(rf"(\d{{1,3}})([.,]\d+)? *(?:{_YEARS})?", text.strip(), re.IGNORECASE)
    years = int(match[1]) if match else 999
    return "" if not 0 < years <= 120 else "90+" if years >= 90 else f"{years:03d}Y"


def parse_yes_no(text: str) -> bool | None:
    """Parse ``1``, ``yes`` or ``true``, and ``0``, ``no`` or ``false``."""
    return _YES_NO.get(whole_text(text).lower())


def parse_kind(text: str) -> str | None:
    """Parse the kind of an image."""
    return text if text in KINDS else None


def parse_view(text: str) -> View | None:
    """Parse ``CC`` or ``MLO`` in any case."""
    return View(text.upper()) if text.upper() in VIEWS else None


def parse_count(text: str) -> int | None:
    """Parse a number of pixels, also as a spreadsheet writes it.

    Examples
    --------
    >>> parse_count("3518"), parse_count("3518.0"), parse_count("-1"), parse_count("3518.5")
    (3518, 3518, None, None)
    """
    number = whole_number(text)
    return number if number is not None and number >= 0 else None


def parse_number(text: str) -> float | None:
    """Parse a finite number, also with a decimal comma, but where the comma may set off thousands.

    Examples
    --------
    >>> parse_number("13.1"), parse_number("-13,1"), parse_number("0,125"), parse_number("1,234"), parse_number("1.234,5")
    (13.1, -13.1, 0.125, None, None)
    """
    if re.fullmatch(r"[+-]?([0-9]+,[0-9]{1,2}|[0-9]+,[0-9]{4,}|0,[0-9]{3})", text):
        text = text.replace(",", ".")
    try:
        value = float(text) if "_" not in text else math.nan  # Python alone takes 1_000 for a number
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def parse_boxes(text: str) -> list[tuple[float, float, float, float]] | None:
    """Parse a list of [top, left, bottom, right], or one of them, to tuples of top, bottom, left, right.

    Lists may be empty, or have lists of boxes in them, as some of EMBED's rows have.

    Examples
    --------
    >>> parse_boxes("[[1, 2, 3, 4], [5, 6, 7, 8]]"), parse_boxes("(1, 2, 3, 4)"), parse_boxes("()"), parse_boxes("[1, 2]")
    ([(1.0, 3.0, 2.0, 4.0), (5.0, 7.0, 6.0, 8.0)], [(1.0, 3.0, 2.0, 4.0)], [], None)
    >>> parse_boxes("((1, 2, 3, 4), ())"), parse_boxes("(([1, 2, 3, 4],),)"), parse_boxes("[[1, 2, 3, 4], 5]")
    ([(1.0, 3.0, 2.0, 4.0)], [(1.0, 3.0, 2.0, 4.0)], None)
    """
    try:
        found = [tuple(map(float, box)) for box in _lists_of_numbers(ast.literal_eval(text[:10_000]))]
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError, OverflowError):
        return None
    if any(len(box) != 4 or not all(map(math.isfinite, box)) for box in found):
        return None
    return [(top, bottom, left, right) for top, left, bottom, right in found]


def _lists_of_numbers(read: object) -> list[Sequence[float]]:
    if not isinstance(read, list | tuple):
        raise TypeError
    if read and all(isinstance(number, int | float) for number in read):
        return [read]
    return [box for each in read for box in _lists_of_numbers(each)]


EXPECTED: Mapping[str, tuple[Callable[[str], object], str]] = {
    **dict.fromkeys(("bi_rads", "finding_bi_rads"), (parse_bi_rads, "'BI-RADS 0' to 'BI-RADS 6'")),
    **dict.fromkeys((*EDGES, *SIZES.values()), (parse_number, "a number of pixels")),
    **dict.fromkeys(("rows", "columns"), (parse_count, "a whole number of pixels")),
    "laterality": (lambda text: SIDES.get(text.lower()), "L or R"),
    "lesion": (whole_number, "a whole number"),
    "study_date": (lambda text: parse_day(text) or None, "a date, YYYYMMDD or YYYY-MM-DD"),
    "exam_date": (lambda text: parse_exam_date(text) or None, "a date, YYYYMMDD or YYYY-MM-DD, a month, YYYY-MM, or a year"),
    "density": (lambda text: parse_density(text) or None, "A to D, or 1 to 4"),
    "age": (lambda text: parse_age(text) or None, "a number of years"),
    "implant": (parse_yes_no, "1 or yes, 0 or no"),
    "kind": (parse_kind, ", ".join(KINDS)),
    "boxes": (parse_boxes, "a list of [top, left, bottom, right]"),
}
"""Parser of each fact that is not free text, which returns None for what is not a value, and the texts that have one."""
