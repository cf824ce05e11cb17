"""Simulated data set in the published form of CMMD."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import openpyxl
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import DigitalMammographyXRayImageStorageForPresentation, ExplicitVRLittleEndian

from fvpipe.simulation.dicom_file import SIZE_REDUCTION, SimulatedDataset, SimulatedImage, make_uid
from fvpipe.simulation.drawing import anatomy, draw, stored_pixels
from fvpipe.types import Laterality, View


@dataclass(frozen=True, slots=True)
class _CmmdBreast:
    patient: str
    laterality: Laterality
    classification: str  # Benign, Malignant, or empty if the table has no row
    number: int  # seeds the random numbers; breasts of the same number have the same pixels
    first: int  # instance number of the first image
    bits: int = 8
    order: tuple[View, View] = (View.CC, View.MLO)


def cmmd_dataset(patients: int, seed: int) -> SimulatedDataset:
    """One study and one series per patient, the view only as a code, and labels for some of the breasts."""
    breasts = _cmmd_plan(patients)
    images = (_cmmd_image(breast, v, seed) for breast in breasts for v in (0, 1))
    return SimulatedDataset(images, lambda lesions: {"CMMD_clinicaldata_revision.xlsx": _cmmd_table(breasts)})


def _cmmd_plan(patients: int) -> list[_CmmdBreast]:
    left, right = Laterality.LEFT, Laterality.RIGHT
    a, b, c, d = "D1-0202", "D2-0284", "D1-0808", "D1-1292"
    plan = [
        # The same four images under two patients.
        *[_CmmdBreast(p, side, "Malignant", 10 + i, 1 + 2 * i) for p in (a, b) for i, side in enumerate((left, right))],
        # The same two images, labelled benign and malignant (in the real set it is one image).
        _CmmdBreast(c, left, "Benign", 20, 1),
        _CmmdBreast(d, left, "Malignant", 20, 1),
        _CmmdBreast("D1-1343", left, "Benign", 30, 1, bits=16),
        _CmmdBreast("D1-1506", right, "Malignant", 31, 1, order=(View.MLO, View.CC)),  # 1-1.dcm is the MLO
    ]
    for i in range(patients - 6):
        first, second = ("Benign", "Malignant") if i % 2 else ("Malignant", "Benign")
        patient = f"D2-{i + 1:04d}" if i % 3 == 2 else f"D1-{i + 1:04d}"
        plan.append(_CmmdBreast(patient, right if i % 4 == 1 else left, first, 100 + 2 * i, 1))
        if i % 3 != 1:  # the other breast: unlabelled in D2, the other class in D1
            other = left if i % 4 == 1 else right
            plan.append(_CmmdBreast(patient, other, "" if patient.startswith("D2") else second, 101 + 2 * i, 3))
    return plan


_VIEW_CODES = {View.CC: ("399162004", "cranio-caudal"), View.MLO: ("399368009", "medio-lateral oblique")}
_ORIENTATIONS = {
    (Laterality.LEFT, View.CC): ["A", "R"],
    (Laterality.LEFT, View.MLO): ["A", "FR"],
    (Laterality.RIGHT, View.CC): ["P", "L"],
    (Laterality.RIGHT, View.MLO): ["P", "FL"],
}


def _cmmd_image(plan: _CmmdBreast, v: int, seed: int) -> SimulatedImage:
    view = plan.order[v]
    breast = anatomy(np.random.default_rng([seed, 3, plan.number]), plan.classification == "Malignant" or plan.number == 20)
    rng = np.random.default_rng([seed, 4, plan.number, v])
    drawing = draw(rng, (2294 // SIZE_REDUCTION, 1914 // SIZE_REDUCTION), view, plan.laterality, breast)
    plate = f"{plan.laterality} {view}" if plan.number % 2 else ""
    # The only 16-bit pair of CMMD does not use its full range.
    pixels = stored_pixels(rng, drawing, plan.bits, plate=plate, used=0.4 if plan.bits == 16 else 0.95)
    study = make_uid(seed, "study", plan.patient)
    series = make_uid(seed, "series", plan.patient)
    view_code = Dataset()
    view_code.CodeValue, view_code.CodeMeaning = _VIEW_CODES[view]
    view_code.CodingSchemeDesignator = "SCT"
    view_code.ViewModifierCodeSequence = DicomSequence()
    half = 1 << (plan.bits - 1)
    tags = {
        "SOPClassUID": DigitalMammographyXRayImageStorageForPresentation,
        "SOPInstanceUID": make_uid(seed, "image", plan.patient, plan.first + v),
        "StudyInstanceUID": study,
        "SeriesInstanceUID": series,
        "ImageType": ["DERIVED", "PRIMARY"],
        "StudyDate": "20100718",
        "Modality": "MG",
        "Manufacturer": "",
        "PresentationIntentType": "FOR PRESENTATION",
        "PatientID": plan.patient,
        "PatientName": plan.patient,
        "PatientSex": "F",
        "PatientAge": f"{35 + plan.number % 40:03d}Y",
        "ImagerPixelSpacing": [0.0941 * SIZE_REDUCTION, 0.0941 * SIZE_REDUCTION],
        "InstanceNumber": plan.first + v,
        "PatientOrientation": _ORIENTATIONS[plan.laterality, view],
        "ImageLaterality": plan.laterality.value,
        "ViewCodeSequence": DicomSequence([view_code]),
        "WindowCenter": half,
        "WindowWidth": 2 * half,
        "VOILUTFunction": "SIGMOID",
    }
    folder = f"manifest-phantom/CMMD/{plan.patient}/07-18-2010-NA-NA-{study[-5:]}/1.000000-NA-{series[-5:]}"
    return SimulatedImage(
        f"{folder}/1-{plan.first + v}.dcm", drawing, pixels, plan.bits, "MONOCHROME2", ExplicitVRLittleEndian, tags
    )


def _cmmd_table(breasts: Sequence[_CmmdBreast]) -> bytes:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(["ID1", "LeftRight", "Age", "number", "abnormality", "classification", "subtype"])
    for b in sorted(breasts, key=lambda b: (b.patient, b.laterality)):
        if b.classification:
            subtype = "Luminal A" if b.classification == "Malignant" and b.patient.startswith("D2") else None
            sheet.append([b.patient, b.laterality.value, 35 + b.number % 40, 2, "mass", b.classification, subtype])
    return _without_times(book)


def _without_times(book: openpyxl.Workbook) -> bytes:
    """Save a workbook with a constant time in its zip entries and properties, so that its bytes do not change."""
    written, out = io.BytesIO(), io.BytesIO()
    book.save(written)
    with zipfile.ZipFile(written) as source, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            data = source.read(name)
            if name == "docProps/core.xml":
                data = re.sub(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", b"2020-01-01T00:00:00Z", data)
            target.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), data)
    return out.getvalue()
