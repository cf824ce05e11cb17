"""Values of header elements: typed, quiet, and safe to show."""

from __future__ import annotations

import logging
import math
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import pydicom.config
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import BaseTag, Tag

from fvpipe.reasons import Reason


class RejectedFile(Exception):
    """A rule was broken. Never leaves the reader: it becomes a :class:`Rejection`."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


def raise_transient(error: Exception) -> None:
    """Raise again what says nothing of the file, and so must not be remembered as a rejection of it."""
    if isinstance(error, MemoryError | ImportError) or (isinstance(error, OSError) and error.errno):
        raise error


# --- element values, without surprises --------------------------------------------------------------------------------


_silence = threading.Lock()
_silent: list[tuple[warnings.catch_warnings[None], int, int]] = []  # what the outermost caller found, for each that is inside


@contextmanager
def silenced() -> Iterator[None]:
    """Keep pydicom quiet: it warns of a wrong value by printing it, and a value may be a name.

    The settings are the process's own: threads may be inside together, and only the last one out puts them back.
    """
    logger, settings = logging.getLogger("pydicom"), pydicom.config.settings
    with _silence:
        if not _silent:
            caught = warnings.catch_warnings()
            caught.__enter__()
            warnings.simplefilter("ignore")
            _silent.append((caught, logger.level, settings.reading_validation_mode))
            logger.setLevel(logging.CRITICAL + 1)
            settings.reading_validation_mode = pydicom.config.IGNORE
        else:
            _silent.append(_silent[0])
    try:
        yield
    finally:
        with _silence:
            caught, level, mode = _silent.pop()
            if not _silent:
                caught.__exit__(None, None, None)
                logger.setLevel(level)
                settings.reading_validation_mode = mode


def texts(header: Dataset, keyword: str) -> list[str]:
    """All values of an element as text; empty where it is absent.

    Raises
    ------
    Rejected
        Its bytes cannot be read as its value representation.
    """
    tag = _tag(keyword)
    if tag not in header:  # most are not, in most files: pydicom's own look-up by keyword is ten times dearer
        return []
    try:
        value = header[tag].value
        if value is None:
            return []
        several = not isinstance(value, str | bytes) and hasattr(value, "__iter__")
        return [str(part).strip(" \0") for part in (value if several else [value])]
    except Exception as error:
        raise RejectedFile(Reason.HEADER_UNREADABLE, f"{keyword} cannot be read ({type(error).__name__})") from None


@cache
def _tag(keyword: str) -> BaseTag:
    return Tag(keyword)


def text(header: Dataset, keyword: str) -> str:
    """The value of an element that has one, or nothing; several are shown as they are, and none of them is preferred."""
    return "\\".join(texts(header, keyword))


def items(header: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence; none where it is absent.

    Raises
    ------
    Rejected
        It is no sequence.
    """
    try:
        value = header.get(keyword)
    except Exception as error:
        raise RejectedFile(Reason.HEADER_UNREADABLE, f"{keyword} cannot be read ({type(error).__name__})") from None
    if value and not isinstance(value, DicomSequence):
        raise RejectedFile(Reason.HEADER_UNREADABLE, f"{keyword} is no sequence")
    return list(value or ())


def number(header: Dataset, keyword: str, default: float) -> float:
    """The value as a float; NaN where it is none."""
    value = text(header, keyword)
    try:
        return float(value) if value else default
    except ValueError:
        return math.nan


def integer(header: Dataset, keyword: str, default: int | None = None) -> int:
    """The value as an integer.

    Raises
    ------
    Rejected
        It is no integer, or absent without a `default`.
    """
    value = text(header, keyword)
    if not value and default is not None:
        return default
    try:
        return int(value)
    except ValueError:
        found = "no whole number" if value else "absent or empty"
        raise RejectedFile(Reason.HEADER_INCOMPLETE, f"{keyword} is {found}") from None


def printable(value: str) -> str:
    """Text without control characters."""
    return "".join(c for c in value if c.isprintable())


_TERMS = frozenset({
    "MG", "CR", "CT", "DOC", "DX", "KO", "MR", "NM", "OT", "PR", "PT", "RF", "SEG", "SR", "US", "XA",
    "CC", "MLO", "AT", "CV", "FB", "ISO", "LM", "LMO", "ML", "RL", "RM", "SIO", "TAN", "XCCL", "XCCM", "L", "R", "B", "U",
    "MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT",
})  # fmt: skip


def shown_term(value: str) -> str:
    """A defined term as it may be shown; any other word could be a name, however short."""
    return value if value in _TERMS else _hidden(value)


def shown_code(value: str) -> str:
    """A code of SNOMED CT or SRT as it may be shown; anything else could be a name."""
    return value if re.fullmatch(r"[0-9]{6,18}|[A-Z][0-9]?-[0-9A-F]{4,5}", value) else _hidden(value)


def shown_uid(value: str) -> str:
    """A well-known UID as it may be shown; a private one could be an identifier."""
    return value if re.fullmatch(r"1\.2\.840\.10008[0-9.]{0,40}", value) else _hidden(value)


def _hidden(value: str) -> str:
    return f"<{len(value)} characters>" if value else "empty"
