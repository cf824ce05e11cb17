"""Header values that decide nothing about acceptance: spacing, age, overlays, dates.

Each raises :class:`~fvpipe.dicom.elements.RejectedFile` only where the bytes of an element cannot be read as their value
representation.
"""

from __future__ import annotations

import math
import re

from pydicom.dataset import Dataset
from pydicom.uid import DigitalMammographyXRayImageStorageForProcessing

from fvpipe.dicom.elements import integer, number, text, texts, words

OVERLAY_GROUPS = frozenset(range(0x6000, 0x6020, 2))  # Overlay Data is (60xx,3000)
MIN_SPACING, MAX_EXTENT = 0.01, 600.0  # millimeters between pixels, and of a side of the image
MAX_AGE = 120  # years
AGE_UNITS = {"D": 365.25, "W": 365.25 / 7, "M": 12, "Y": 1}  # of each, in a year


def has_overlay(dataset: Dataset) -> bool:
    """Whether there is an overlay plane with data of its own."""
    tags = dataset.keys()  # of raw elements: none is parsed
    return any(tag >> 16 in OVERLAY_GROUPS and tag & 0xFFFF == 0x3000 for tag in tags)


def has_overlay_in_pixels(dataset: Dataset) -> bool:
    """Whether unused bits of the stored pixels hold an overlay (retired; PS3.3-2004 C.9.2)."""
    return bool(_planes_in_pixels(dataset))


def overlay_bits(dataset: Dataset) -> list[int]:
    """Bits of the stored pixels that the header says to hold overlays; bit 0 may be of a plane whose data were removed."""
    planes = _planes_in_pixels(dataset)
    named = [[number(dataset, f"{plane | element:08x}", 0) for element in (0x0100, 0x0102)] for plane in planes]
    return [int(position) for allocated, position in named if allocated > 1 and 0 < position < 16]


def _planes_in_pixels(dataset: Dataset) -> list[int]:
    """Overlay planes, as tags of their groups, that have no data of their own."""
    found = dataset.keys()  # of raw elements: none is parsed
    tags = {int(tag) for tag in found if tag >> 16 in OVERLAY_GROUPS}
    return sorted(tag & 0xFFFF0000 for tag in tags if tag & 0xFFFF == 0x0100 and tag ^ 0x0100 | 0x3000 not in tags)


def acquisition_date(dataset: Dataset) -> str:
    """Day of the exposure, to be compared and never to be written out; empty where it is absent."""
    return text(dataset, "AcquisitionDate") or text(dataset, "AcquisitionDateTime")[:8] or text(dataset, "ContentDate")


def study_date(dataset: Dataset) -> tuple[str, ...]:
    """Year and day of the exam (``YYYY``, ``YYYYMMDD``), to be compared only; empty where it is absent or no date."""
    date = text(dataset, "StudyDate").replace(".", "")  # 2011.01.31 is the form before DICOM 3.0
    return (date[:4], date) if re.fullmatch("[0-9]{8}", date) else ()


def person(dataset: Dataset) -> dict[str, str]:
    """Birth date, sex and issuer of the identifier, to be compared only: they tell apart patients who have one identifier."""
    found = {
        "birth": text(dataset, "PatientBirthDate").replace(".", ""),
        "sex": text(dataset, "PatientSex").upper(),
        "issuer": words(text(dataset, "IssuerOfPatientID")),
    }
    allowed = {"birth": "[0-9]{8}", "sex": "[FM]", "issuer": ".+"}
    return {name: value for name, value in found.items() if re.fullmatch(allowed[name], value)}


def is_for_processing(dataset: Dataset) -> bool:
    """Whether SOP class or Presentation Intent Type declares raw detector data."""
    return (
        text(dataset, "SOPClassUID") == DigitalMammographyXRayImageStorageForProcessing
        or text(dataset, "PresentationIntentType").upper() == "FOR PROCESSING"
    )


def pixel_spacing(dataset: Dataset) -> tuple[float | None, float | None]:
    """Row and column spacing in millimeters: Imager Pixel Spacing, else Pixel Spacing, else None.

    One that is not a detector's or scanner's is in another unit (70 micrometers) or a placeholder (1), and not given.
    """
    for keyword in ("ImagerPixelSpacing", "PixelSpacing"):
        try:
            row, column = (float(part) for part in texts(dataset, keyword))
        except ValueError:  # no numbers, or not two of them
            continue
        extent = max(row * integer(dataset, "Rows", 0), column * integer(dataset, "Columns", 0))
        if math.isfinite(row) and math.isfinite(column) and min(row, column) >= MIN_SPACING and extent <= MAX_EXTENT:
            return row, column
    return None, None


def patient_age(dataset: Dataset) -> str:
    """Age in whole years as ``045Y``, ``90+`` from 90 years on, or empty; days, weeks and months are converted.

    An age of 0 or 999, as anonymizers write it, is none.
    """
    match = re.fullmatch(r"(\d{1,3})\s*([DWMY])", text(dataset, "PatientAge").strip().upper())
    if not match:
        return ""
    years = int(int(match[1]) / AGE_UNITS[match[2]])
    if not int(match[1]) or years > MAX_AGE:
        return ""
    return "90+" if years >= 90 else f"{years:03}Y"
