"""Simulated cohort for questions about pipelines: plain files, small lesions, one label table, and nothing difficult to read.

Each patient has four films and one malignant breast, with a lesion of 2.7 to 4.2 mm in both views: at 256 x 256 pixels it has
a few dozen pixels, so that it matters how large a pipeline leaves it. A shortcut is planted, too, which no pixel shows: four of
five malignant breasts are of one manufacturer's machine, and four of five benign ones of another's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
from pydicom.uid import JPEGLosslessSV1

from fvpipe.io.csv_lines import format_csv
from fvpipe.simulation.dicom_file import SimulatedDataset, SimulatedImage, make_uid
from fvpipe.simulation.drawing import Anatomy, anatomy, draw, stored_pixels
from fvpipe.types import CropBox, Laterality, View

SHAPE = (640, 512)
MM_PER_PIXEL = 240 / SHAPE[0]  # of a film 240 mm high
RADII_MM = (1.35, 2.1)
BITS = 12
MACHINES = ("Simulated A", "Simulated B")
EXCHANGED = 5  # every fifth patient has each breast on the other machine


def lesions_dataset(patients: int, seed: int) -> SimulatedDataset:
    """Patients with one malignant breast each."""
    images = (image for patient in range(patients) for image in draw_patient(patient, seed))
    return SimulatedDataset(images, partial(_tables, patients))


def _malignant(patient: int, side: Laterality) -> bool:
    return (patient % 2 == 0) == (side is Laterality.LEFT)


def _path(patient: int, side: Laterality, view: View) -> str:
    return f"P{patient:04d}/{side.value}-{view.value}.dcm"


def draw_patient(patient: int, seed: int) -> Iterator[SimulatedImage]:
    """CC and MLO of the left, then of the right breast of one patient, whatever the number of patients."""
    for s, side in enumerate(Laterality):
        rng = np.random.default_rng([seed, 1, patient, s])
        breast = anatomy(rng, lesion=True)
        depth, height, _ = breast.lesion or (0.0, 0.0, 0.0)
        radius = (RADII_MM[0] + (RADII_MM[1] - RADII_MM[0]) * float(rng.random())) / (MM_PER_PIXEL * SHAPE[0])
        lesion = (depth, height, radius) if _malignant(patient, side) else None
        for v, view in enumerate(View):
            drawn = replace(breast, lesion=lesion)
            yield _image(np.random.default_rng([seed, 2, patient, s, v]), patient, side, view, drawn, seed)


def _image(rng: np.random.Generator, patient: int, side: Laterality, view: View, breast: Anatomy, seed: int) -> SimulatedImage:
    drawing = draw(rng, SHAPE, view, side, breast)
    machine = _malignant(patient, side) != (patient % EXCHANGED == 0)
    tags = {
        "SOPInstanceUID": make_uid(seed, "image", patient, side.value, view.value),
        "StudyInstanceUID": make_uid(seed, "study", patient),
        "SeriesInstanceUID": make_uid(seed, "series", patient, side.value, view.value),
        "Modality": "MG",
        "Manufacturer": MACHINES[machine],
        "PresentationIntentType": "FOR PRESENTATION",
        "PatientID": f"P{patient:04d}",
        "PatientSex": "F",
        "PatientAge": f"{40 + patient % 31:03d}Y",
        "ImageLaterality": side.value,
        "ViewPosition": view.value,
        "ImagerPixelSpacing": [MM_PER_PIXEL, MM_PER_PIXEL],
    }
    pixels = stored_pixels(rng, drawing, BITS)
    return SimulatedImage(_path(patient, side, view), drawing, pixels, BITS, "MONOCHROME2", JPEGLosslessSV1, tags)


def _tables(patients: int, lesions: Mapping[str, CropBox | None]) -> dict[str, bytes]:
    """One row an image: label, and the box of its lesion."""
    rows = []
    for patient in range(patients):
        for side in Laterality:
            for view in View:
                path = _path(patient, side, view)
                box = lesions[path]
                edges = box.as_tuple() if box else ("",) * 4
                rows.append([path, int(_malignant(patient, side)), "Mass" if box else "", *edges])
    return {"labels.csv": format_csv(["path", "label", "category", "top", "bottom", "left", "right"], rows)}
