"""Formats of image files that a data set may state."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

Format = Literal["dicom", "png", "jpeg", "tiff", "pgm", "nrrd"]
Formats = Annotated[tuple[Format, ...], Field(strict=False)]
DICOM: tuple[Format, ...] = ("dicom",)
"""Formats of a data set that states none: a stray PNG in a folder of DICOM files is no image of it."""

SUFFIXES: dict[Format, frozenset[str]] = {
    "dicom": frozenset({".dcm", ".dicom", ".dic", ".ima", ""}),
    "png": frozenset({".png"}),
    "jpeg": frozenset({".jpg", ".jpeg", ".jpe"}),
    "tiff": frozenset({".tif", ".tiff"}),
    "pgm": frozenset({".pgm"}),
    "nrrd": frozenset({".nrrd", ".nhdr"}),
}
"""Suffixes of files that are read or rejected by name; a file under another name is told by its first bytes."""

IMAGE_SUFFIXES = frozenset[str]().union(*SUFFIXES.values()) - {""}
"""Suffixes of all formats, which a table that lists images may leave out or write otherwise."""

RASTER = frozenset(SUFFIXES) - {"dicom"}
"""Formats that are not DICOM. Their names stand in the place of a transfer syntax."""


def formats_of(transfer_syntax_uid: str) -> tuple[Format, ...]:
    """Return the one format of an image that was read, by what stands in the place of its transfer syntax."""
    return next(((name,) for name in SUFFIXES if name in RASTER and name == transfer_syntax_uid), DICOM)
