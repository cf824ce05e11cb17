"""Formats of image files that a data set may state, with their suffixes and first bytes."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field

Format = Literal["dicom", "png", "jpeg", "tiff", "pgm", "nrrd"]
Formats = Annotated[tuple[Format, ...], Field(strict=False)]
DICOM: tuple[Format, ...] = ("dicom",)
"""Formats of a data set that states none: a stray PNG in a folder of DICOM files is not one of its images."""

SUFFIXES: dict[Format, frozenset[str]] = {
    "dicom": frozenset({".dcm", ".dicom", ".dic", ".ima", ""}),
    "png": frozenset({".png"}),
    "jpeg": frozenset({".jpg", ".jpeg", ".jpe"}),
    "tiff": frozenset({".tif", ".tiff"}),
    "pgm": frozenset({".pgm"}),
    "nrrd": frozenset({".nrrd", ".nhdr"}),
}
"""Suffixes of files that are read or rejected by name; a file under another name is recognized by its first bytes."""

IMAGE_SUFFIXES = frozenset[str]().union(*SUFFIXES.values()) - {""}
"""Suffixes of all formats, which a table that lists images may leave out or write otherwise."""

RASTER = tuple(name for name in SUFFIXES if name not in DICOM)
"""Formats that are not DICOM. Their names take the place of a transfer syntax UID."""

HEAD_BYTES = 132  # that identify the format of a file
PNG = b"\x89PNG\r\n\x1a\n"  # the first bytes of a PNG file
_SIGNATURES: tuple[tuple[bytes, Format], ...] = (
    (rb"(?s).{128}DICM", "dicom"),  # first: its preamble may be that of a TIFF
    (re.escape(PNG), "png"),
    (rb"\xff\xd8\xff", "jpeg"),
    (rb"II[*+]\0|MM\0[*+]", "tiff"),
    (rb"P5\s", "pgm"),
    (rb"NRRD000[1-5]\r?\n", "nrrd"),
)


def recognize(head: bytes) -> Format | None:
    """Recognize the format of a file by its first :data:`HEAD_BYTES`, whatever its name."""
    return next((name for signature, name in _SIGNATURES if re.match(signature, head)), None)


def formats_of(transfer_syntax_uid: str) -> tuple[Format, ...]:
    """Return the one format of an image that was read, by its transfer syntax UID or the name that takes its place."""
    return next(((name,) for name in RASTER if name == transfer_syntax_uid), DICOM)
