"""INbreast, beside its declaration: outlines of lesions in ``AllXML``, which are property lists."""

from __future__ import annotations

import plistlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

from fvpipe.errors import LabelTableError
from fvpipe.types import Finding

MAX_BYTES = 32 * 1024 * 1024
_POINT = r"\(?\s*([-+.\deE]+)\s*,\s*([-+.\deE]+)\s*\)?"


def read_findings(root: Path) -> Mapping[str, Sequence[Finding]]:
    """Read the outlines of all images, by image.

    A point is (column, row). Some lie outside of their image; they are kept as drawn.

    Raises
    ------
    LabelTableError
        A file is no property list, or not of this form.
    """
    files = sorted(file for folder in root.glob("**/AllXML") for file in folder.glob("*.xml") if not file.name.startswith("."))
    return {file.stem: _outlines(file) for file in files}


def _outlines(file: Path) -> list[Finding]:
    if not file.is_file() or file.stat().st_size > MAX_BYTES:
        raise LabelTableError(f"{file}: is no file of at most {MAX_BYTES} bytes; expected the outlines of one image")
    try:
        images = plistlib.loads(file.read_bytes(), fmt=plistlib.FMT_XML)["Images"]
        regions = [region for image in images for region in image["ROIs"]]
        return [finding for region in regions if (finding := _finding(region)) is not None]
    except (plistlib.InvalidFileException, ExpatError, LookupError, TypeError, ValueError, AttributeError) as error:
        name = type(error).__name__
        raise LabelTableError(f"{file}: is no property list with outlines ({name}); download it again") from None


def _finding(region: Mapping[str, Any]) -> Finding | None:
    """Box and outline of one lesion; a single point, as a calcification may be, has a box of one pixel."""
    matches = [re.fullmatch(_POINT, text) for text in region["Point_px"]]
    points = [(float(match[1]), float(match[2])) for match in matches if match]
    if not points:
        return None
    columns, rows = zip(*points, strict=True)
    top, bottom, left, right = min(rows), max(rows), min(columns), max(columns)
    outline = tuple((row, column) for column, row in points)
    return Finding(str(region.get("Name", "")), None, top, max(bottom, top + 1), left, max(right, left + 1), outline)
