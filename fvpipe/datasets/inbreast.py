"""INbreast, beside its declaration: outlines of lesions in ``AllXML``, which are property lists."""

from __future__ import annotations

import plistlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

from fvpipe.datasets.declared.values import parse_number
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
        A file is not a property list, not of this form, or has a point that cannot be read.
    """
    files = sorted(file for folder in root.glob("**/AllXML") for file in folder.glob("*.xml") if not file.name.startswith("."))
    return {file.stem: _outlines(file) for file in files}


def _outlines(file: Path) -> list[Finding]:
    if not file.is_file() or file.stat().st_size > MAX_BYTES:
        raise LabelTableError(f"{file}: is not a file of at most {MAX_BYTES} bytes; expected the outlines of one image")
    try:
        images = plistlib.loads(file.read_bytes(), fmt=plistlib.FMT_XML)["Images"]
        regions = [region for image in images for region in image["ROIs"]]
        return [finding for n, region in enumerate(regions, start=1) if (finding := _finding(region, f"{file}: region {n}"))]
    except LabelTableError:
        raise
    except (plistlib.InvalidFileException, ExpatError, LookupError, TypeError, ValueError, AttributeError) as error:
        name = type(error).__name__
        raise LabelTableError(f"{file}: is not a property list with outlines ({name}); download it again") from None


def _finding(region: Mapping[str, Any], where: str) -> Finding | None:
    """Box and outline of one lesion; a single point, as a calcification may be, has a box of one pixel; None without any."""
    texts = region["Point_px"]
    expected = region.get("NumberOfPoints", len(texts))
    if expected != len(texts):
        raise LabelTableError(f"{where} has {len(texts)} of {expected} points; download the file again")
    points = [_point(text, f"{where}, point {n}") for n, text in enumerate(texts, start=1)]
    if not points:
        return None
    rows, columns = zip(*points, strict=True)
    top, bottom, left, right = min(rows), max(rows), min(columns), max(columns)
    name = str(region.get("Name", ""))
    return Finding(name, None, top, max(bottom, top + 1), left, max(right, left + 1), tuple(points))


def _point(text: str, where: str) -> tuple[float, float]:
    """Row and column."""
    match = re.fullmatch(_POINT, text)
    column, row = map(parse_number, match.groups()) if match else (None, None)
    if row is None or column is None:
        raise LabelTableError(
            f"{where} is not (column, row) in pixels; expected one as in '(100.5, 20)'; download the file again"
        )
    return row, column
