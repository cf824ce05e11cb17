"""Values of header elements as typed values, without warnings, and text that is safe to show."""

from __future__ import annotations

import logging
import math
import re
import threading
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, lru_cache

import pydicom.config
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import BaseTag, Tag
from pydicom.valuerep import PersonName

from fvpipe.reasons import Reason

MAX_TEXT_BYTES = 1 << 16  # of an element that is read as text; where its value representation is given, its length has 16 bits
MAX_KNOWN_TEXTS = 256  # whose words are kept: a data set has few descriptions, and one may have as many bytes as above
MAX_SEQUENCE_BYTES = 1 << 21  # of a sequence: a LUT has up to 128 kB
MAX_ITEMS = 1 << 12  # of a sequence
# Most of a header. Where these are printable ASCII, splitting them gives what pydicom gives; it saves 30 % of reading a header.
_SHORT_TEXTS = frozenset({"AS", "CS", "DA", "LO", "SH", "TM", "UI"})
_PRINTABLE = re.compile(rb"[ -~]+\0*")
_ITEMS = b"\xfe\xff\0\xe0", b"\xff\xfe\xe0\0"  # how one begins, little and big endian


class RejectedFile(Exception):
    """A file breaks a rule. Callers turn it into a :class:`fvpipe.reasons.Rejection`; it ends no build."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


def raise_transient(error: Exception) -> None:
    """Raise `error` again where it comes from the machine (memory, imports, disk), which is not a reason to reject the file."""
    if isinstance(error, MemoryError | ImportError) or (isinstance(error, OSError) and error.errno):
        raise error


# --- element values ---------------------------------------------------------------------------------------------------


_silence = threading.Lock()
_silent: list[
    tuple[warnings.catch_warnings[None], int, int]
] = []  # settings before the outermost call, once for each call that is active


@contextmanager
def silenced() -> Iterator[None]:
    """Suppress pydicom's warnings, which print the values that they are about: a value may be a name.

    The settings are global to the process: with several threads inside, the last one to leave restores them.
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


def _element(header: Dataset, keyword: str, most: int) -> DataElement | RawDataElement | None:
    """Look an element up, and check it before pydicom makes an object of each of its values or items."""
    tag = _tag(keyword)
    if tag not in header.keys():  # noqa: SIM118 - most are absent, and the look-up in the Dataset itself takes longer
        return None
    element: DataElement | RawDataElement = header.get_item(tag, keep_deferred=True)  # an empty one counts as deferred
    value = (element.value or b"") if isinstance(element, RawDataElement) else b""
    if len(value) <= MAX_ITEMS:
        return element
    if len(value) > most:
        raise RejectedFile(Reason.HEADER_UNREADABLE, f"{keyword} has {len(value)} bytes; expected at most {most}")
    if max(map(value.count, _ITEMS)) > MAX_ITEMS:
        raise RejectedFile(Reason.HEADER_UNREADABLE, f"{keyword} has more than {MAX_ITEMS} items")
    return element


def texts(header: Dataset, keyword: str) -> list[str]:
    """Return all values of an element as text; empty where it is absent.

    Raises
    ------
    RejectedFile
        The bytes cannot be read as their value representation.
    """
    element = _element(header, keyword, MAX_TEXT_BYTES)
    if element is None:
        return []
    if isinstance(element, RawDataElement) and element.value:
        if element.VR in _SHORT_TEXTS and _PRINTABLE.fullmatch(element.value):
            return [part.strip(" \0") for part in element.value.decode("ascii").split("\\")]
        if element.VR == "US" and len(element.value) == 2:
            return [str(int.from_bytes(element.value, "little" if element.is_little_endian else "big"))]
    try:
        value = (element if isinstance(element, DataElement) else header[_tag(keyword)]).value
        if value is None:
            return []
        several = not isinstance(value, str | bytes | PersonName) and hasattr(value, "__iter__")
        return [str(part).strip(" \0") for part in (value if several else [value])]
    except Exception as error:
        raise RejectedFile(Reason.HEADER_UNREADABLE, f"{keyword} cannot be read ({type(error).__name__})") from None


@cache
def _tag(keyword: str) -> BaseTag:
    return Tag(keyword)


def text(header: Dataset, keyword: str) -> str:
    """Return the value of an element, empty where it is absent; several values are joined by backslashes."""
    if _tag(keyword) not in header.keys():  # noqa: SIM118 - as in `_element`; most calls of a header end here
        return ""
    return "\\".join(texts(header, keyword))


def items(header: Dataset, keyword: str) -> list[Dataset]:
    """Return the items of a sequence; none where it is absent.

    Raises
    ------
    RejectedFile
        The element is not a sequence.
    """
    if _element(header, keyword, MAX_SEQUENCE_BYTES) is None:
        return []
    try:
        value = header[_tag(keyword)].value
    except Exception as error:
        raise RejectedFile(Reason.HEADER_UNREADABLE, f"{keyword} cannot be read ({type(error).__name__})") from None
    if value and not isinstance(value, DicomSequence):
        raise RejectedFile(Reason.HEADER_UNREADABLE, f"{keyword} is not a sequence")
    return list(value or ())


def code(item: Dataset) -> str:
    """Return the code of a coded item, in whichever element it is; where there is none, its meaning."""
    keywords = ("CodeValue", "LongCodeValue", "URNCodeValue", "CodeMeaning")
    return next((value for value in (text(item, keyword) for keyword in keywords) if value), "")


def number(header: Dataset, keyword: str, default: float) -> float:
    """Return the value as a float; `default` where it is absent, NaN where it is not a number."""
    value = text(header, keyword)
    try:
        return float(value) if value else default
    except ValueError:
        return math.nan


def integer(header: Dataset, keyword: str, default: int | None = None) -> int:
    """Return the value as an integer.

    Raises
    ------
    RejectedFile
        The value is not an integer, or is absent without a `default`.
    """
    value = text(header, keyword)
    if not value and default is not None:
        return default
    try:
        return int(value)
    except ValueError:
        found = "no whole number" if value else "absent or empty"
        raise RejectedFile(Reason.HEADER_INCOMPLETE, f"{keyword} is {found}") from None


@lru_cache(MAX_KNOWN_TEXTS)
def words(value: str) -> str:
    """Return the words of a text in capital letters without accents, separated by single spaces."""
    plain = unicodedata.normalize("NFKD", value.upper())
    return " ".join(re.findall("[A-Z0-9]+", "".join(c for c in plain if not unicodedata.combining(c))))


def printable(value: str) -> str:
    """Remove control characters."""
    return "".join(c for c in value if c.isprintable())


_TERMS = frozenset({
    "MG", "CR", "CT", "DOC", "DX", "KO", "MR", "NM", "OT", "PR", "PT", "RF", "SEG", "SR", "US", "XA",
    "CC", "MLO", "AT", "CV", "FB", "ISO", "LM", "LMO", "ML", "RL", "RM", "SIO", "TAN", "XCCL", "XCCM", "L", "R", "B", "U",
    "MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT",
})  # fmt: skip


def shown_term(value: str) -> str:
    """Return a defined term; hide any other word, which could be a name."""
    return value if value in _TERMS else _hidden(value)


def shown_code(value: str) -> str:
    """Return a code of SNOMED CT or SRT; hide anything else, which could be a name."""
    return value if re.fullmatch(r"[0-9]{6,18}|[A-Z][0-9]?-[0-9A-F]{4,5}", value) else _hidden(value)


def shown_uid(value: str) -> str:
    """Return a UID of the standard; hide a private one, which could be an identifier."""
    return value if re.fullmatch(r"1\.2\.840\.10008[0-9.]{0,40}", value) else _hidden(value)


def _hidden(value: str) -> str:
    return f"<{len(value)} characters>" if value else "empty"
