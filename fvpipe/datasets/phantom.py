"""Made data sets in the published form of VinDr-Mammo and CMMD: files, tags, folders, label tables, and their traps.

No patient is behind any of it. Each set holds, once, what trips a reader of the real one: a breast with two CC and no
MLO, views in two series or of two sizes, several windows, MONOCHROME1, a 16-bit pair among 8-bit images, file numbers
that say nothing of the view, breasts without a label, a patient with one benign and one malignant breast, and the same
pixels under two patients. ``truth.csv`` and ``truth/`` hold each file's true outline and lesion.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import openpyxl
import pydicom.config
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders.base import get_encoder
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID

from fvpipe.datasets.cmmd import DUPLICATES
from fvpipe.datasets.drawing import Drawing, anatomy, draw, stored_pixels
from fvpipe.dicom.elements import silenced
from fvpipe.dicom.transfer_syntaxes import (
    EXPLICIT_LE,
    FOR_PRESENTATION,
    JPEG_2000_LOSSLESS,
    JPEG_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    RLE,
)
from fvpipe.errors import ParameterError
from fvpipe.io.atomic import write_whole
from fvpipe.io.tables import write_csv
from fvpipe.types import CropBox, Laterality, View

SYNTAXES = (EXPLICIT_LE, RLE, JPEG_LOSSLESS_SV1, JPEG_2000_LOSSLESS)
REDUCTION = 4  # the published sizes by this


@dataclass(frozen=True, slots=True)
class Image:
    """One file to write."""

    path: str
    drawing: Drawing
    pixels: NDArray[np.uint8] | NDArray[np.uint16]
    bits: int
    photometric: str
    syntax: str
    tags: dict[str, Any] = field(default_factory=dict)
    media_class: str = FOR_PRESENTATION


@dataclass(frozen=True, slots=True)
class PhantomSet:
    """A data set to write: images one by one, and tables once all lesions are known (by image path)."""

    images: Iterator[Image]
    tables: Callable[[Mapping[str, CropBox | None]], dict[str, bytes]]


def make(form: Literal["vindr", "cmmd"], out: Path, patients: int, seed: int) -> int:
    """Write a made data set.

    Parameters
    ----------
    form : {"vindr", "cmmd"}
    out : Path
        An empty or new folder, or one that an earlier run made.
    patients : int
        At least 8: the traps need as many.
    seed : int

    Returns
    -------
    int
        Number of DICOM files.

    Raises
    ------
    ParameterError, StorageError
    """
    if patients < 8:
        raise ParameterError(f"{patients} patients; a made data set needs at least 8 to hold each trap once")
    phantoms = {"vindr": vindr_set, "cmmd": cmmd_set}[form](patients, seed)
    truth: list[list[Any]] = []
    lesions: dict[str, CropBox | None] = {}
    for image in phantoms.images:
        write_whole(out / image.path, dicom_bytes(image), durable=False)
        encoded = cv2.imencode(".png", image.drawing.mask.astype(np.uint8) * 255)[1].tobytes()
        write_whole(out / "truth" / f"{image.path}.png", encoded, durable=False)
        lesions[image.path] = image.drawing.lesion
        lesion = image.drawing.lesion.as_tuple() if image.drawing.lesion else ("",) * 4
        truth.append([image.path, *image.drawing.box.as_tuple(), *lesion])
    for name, data in phantoms.tables(lesions).items():
        write_whole(out / name, data)
    sides = ["top", "bottom", "left", "right"]
    write_whole(out / "truth.csv", write_csv(["path", *sides, *[f"lesion_{s}" for s in sides]], sorted(truth)))
    return len(truth)


# --- VinDr-Mammo's form -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Vendor:
    manufacturer: str
    shape: tuple[int, int]
    bits: int
    photometric: str
    windows: tuple[list[float], list[float]]


_VENDORS = (
    _Vendor("SIEMENS", (3518, 2800), 12, "MONOCHROME2", ([2047.0], [4095.0])),
    _Vendor("SIEMENS", (3518, 2800), 12, "MONOCHROME2", ([1800.0], [3200.0])),
    _Vendor("Planmed", (2812, 2012), 16, "MONOCHROME1", ([32767.0], [65535.0])),
    _Vendor("IMS GIOTTO S.p.A.", (3580, 2638), 14, "MONOCHROME2", ([8000.0, 7000.0, 9000.0], [12000.0, 9000.0, 14000.0])),
)
_BI_RADS = (5, 2, 3, 5, 4, 1, 2, 5, 3, 2, 1, 5)  # each phantom breast's, in turn; malignant often enough to be learnt


def vindr_set(patients: int, seed: int) -> PhantomSet:
    """Studies of four views; BI-RADS a breast; the patient is the study."""
    plans = list(_vindr_plan(patients, seed))
    return PhantomSet((_vindr_image(plan, seed) for plan in plans), partial(_vindr_tables, plans))


@dataclass(frozen=True, slots=True)
class _VindrView:
    study: str
    series: str
    image: str
    number: int  # breast, for the random stream
    view_number: int
    laterality: Laterality
    view: View
    vendor: _Vendor
    shape: tuple[int, int]
    bi_rads: int
    density: str
    subset: str
    syntax: str

    @property
    def path(self) -> str:
        return f"images/{self.study}/{self.image}.dicom"


def _vindr_plan(patients: int, seed: int) -> Iterator[_VindrView]:
    for patient in range(patients):
        study = _hex(seed, "study", patient)
        vendor = _VENDORS[patient % len(_VENDORS)]
        for s, laterality in enumerate(Laterality):
            breast = 2 * patient + s
            views = [View.CC, View.MLO]
            bi_rads = _BI_RADS[breast % len(_BI_RADS)]
            if patient == 1 and laterality is Laterality.LEFT:  # the one breast with two CC and no MLO
                views, bi_rads = [View.CC, View.CC], 2
            for v, view in enumerate(views):
                apart = patient == 2 and laterality is Laterality.RIGHT and v  # views in two series
                rows, columns = (n // REDUCTION for n in vendor.shape)
                if patient == 3 and laterality is Laterality.LEFT and v:  # views of two sizes
                    columns -= 24
                yield _VindrView(
                    study=study,
                    series=_hex(seed, "series", patient, "b" if apart else "a"),
                    image=_hex(seed, "image", breast, v),
                    number=breast,
                    view_number=v,
                    laterality=laterality,
                    view=view,
                    vendor=vendor,
                    shape=(rows, columns),
                    bi_rads=bi_rads,
                    density="ABCD"[breast % 4],
                    subset="test" if patient % 5 == 4 else "training",
                    syntax=SYNTAXES[(breast + v) % len(SYNTAXES)],
                )


def _vindr_image(plan: _VindrView, seed: int) -> Image:
    breast = anatomy(np.random.default_rng([seed, 1, plan.number]), plan.bi_rads == 5)
    rng = np.random.default_rng([seed, 2, plan.number, plan.view_number])
    drawing = draw(rng, plan.shape, plan.view, plan.laterality, breast)
    inverted = plan.vendor.photometric == "MONOCHROME1"
    plate = f"{plan.laterality} {plan.view}" if plan.number % 3 == 0 else ""
    pixels = stored_pixels(rng, drawing, plan.vendor.bits, plate=plate, monochrome1=inverted, used=0.7 if inverted else 0.9)
    centers, widths = plan.vendor.windows
    tags = {
        "SOPInstanceUID": plan.image,
        "StudyInstanceUID": plan.study,
        "SeriesInstanceUID": plan.series,
        "Modality": "MG",
        "Manufacturer": plan.vendor.manufacturer,
        "PresentationIntentType": "FOR PRESENTATION",
        "PatientSex": "F",
        "PatientAge": f"{38 + plan.number % 35:03d}Y",
        "Laterality": plan.laterality.value,
        "ImageLaterality": plan.laterality.value,
        "ViewPosition": plan.view.value,
        "ImagerPixelSpacing": [0.085 * REDUCTION, 0.085 * REDUCTION],
        "PixelPaddingValue": (1 << plan.vendor.bits) - 1 if inverted else 0,
        "WindowCenter": centers,
        "WindowWidth": widths,
        "RescaleIntercept": 0,
        "RescaleSlope": 1,
    }
    return Image(
        plan.path, drawing, pixels, plan.vendor.bits, plan.vendor.photometric, plan.syntax,
        tags, "1.2.3.4",
    )  # fmt: skip


def _vindr_tables(plans: Sequence[_VindrView], lesions: Mapping[str, CropBox | None]) -> dict[str, bytes]:
    columns = (
        "study_id", "series_id", "image_id", "laterality", "view_position", "height", "width", "breast_birads",
        "breast_density", "split",
    )  # fmt: skip
    rows = [
        [p.study, p.series, p.image, p.laterality, p.view, *p.shape, f"BI-RADS {p.bi_rads}", f"DENSITY {p.density}", p.subset]
        for p in plans
    ]
    findings = []
    for plan, row in zip(plans, rows, strict=True):
        lesion = lesions[plan.path]
        boxed = [lesion.left, lesion.top, lesion.right, lesion.bottom] if lesion else [""] * 4
        category, bi_rads = ("['Mass']", "BI-RADS 5") if lesion else ("['No Finding']", "")
        findings.append([*row[:-1], category, bi_rads, *boxed, row[-1]])
    finding_columns = [*columns[:-1], "finding_categories", "finding_birads", "xmin", "ymin", "xmax", "ymax", columns[-1]]
    metadata = [[p.image, p.series, p.vendor.photometric, p.vendor.manufacturer, *p.shape] for p in plans]
    headings = ["SOP Instance UID", "Series Instance UID", "Photometric Interpretation", "Manufacturer", "Rows", "Columns"]
    return {
        "breast-level_annotations.csv": write_csv(columns, rows),
        "finding_annotations.csv": write_csv(finding_columns, findings),
        "metadata.csv": write_csv(headings, metadata),
    }


def _hex(seed: int, *what: object) -> str:
    return hashlib.md5(f"fvpipe phantom {seed} {what}".encode(), usedforsecurity=False).hexdigest()


# --- CMMD's form ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _CmmdBreast:
    patient: str
    laterality: Laterality
    classification: str  # Benign, Malignant, or empty: no row in the table
    number: int  # of the random stream; two breasts with one number have the same pixels
    first: int  # instance number of its first image
    bits: int = 8
    order: tuple[View, View] = (View.CC, View.MLO)


def cmmd_set(patients: int, seed: int) -> PhantomSet:
    """One study and one series a patient; the view only in a code; a label a breast, for some of them."""
    breasts = _cmmd_plan(patients)
    images = (_cmmd_image(breast, v, seed) for breast in breasts for v in (0, 1))
    return PhantomSet(images, lambda lesions: {"CMMD_clinicaldata_revision.xlsx": _cmmd_table(breasts)})


def _cmmd_plan(patients: int) -> list[_CmmdBreast]:
    left, right = Laterality.LEFT, Laterality.RIGHT
    a, b, c, d = DUPLICATES
    plan = [
        # The same four pictures under two patients.
        *[_CmmdBreast(p, side, "Malignant", 10 + i, 1 + 2 * i) for p in (a, b) for i, side in enumerate((left, right))],
        # The same two pictures, labelled benign and malignant (in the real set it is one picture).
        _CmmdBreast(c, left, "Benign", 20, 1),
        _CmmdBreast(d, left, "Malignant", 20, 1),
        _CmmdBreast("D1-1343", left, "Benign", 30, 1, bits=16),
        _CmmdBreast("D1-1506", right, "Malignant", 31, 1, order=(View.MLO, View.CC)),  # 1-1.dcm is the MLO
    ]
    for i in range(patients - 6):
        first, second = ("Benign", "Malignant") if i % 2 else ("Malignant", "Benign")
        patient = f"D2-{i + 1:04d}" if i % 3 == 2 else f"D1-{i + 1:04d}"
        plan.append(_CmmdBreast(patient, right if i % 4 == 1 else left, first, 100 + 2 * i, 1))
        if i % 3 != 1:  # the other breast: unlabelled in D2, benign beside malignant in D1
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


def _cmmd_image(plan: _CmmdBreast, v: int, seed: int) -> Image:
    view = plan.order[v]
    breast = anatomy(np.random.default_rng([seed, 3, plan.number]), plan.classification == "Malignant" or plan.number == 20)
    rng = np.random.default_rng([seed, 4, plan.number, v])
    drawing = draw(rng, (2294 // REDUCTION, 1914 // REDUCTION), view, plan.laterality, breast)
    plate = f"{plan.laterality} {view}" if plan.number % 2 else ""
    # CMMD's one 16-bit pair does not use its range.
    pixels = stored_pixels(rng, drawing, plan.bits, plate=plate, used=0.4 if plan.bits == 16 else 0.95)
    study = _uid(seed, "study", plan.patient)
    series = _uid(seed, "series", plan.patient)
    code, meaning = _VIEW_CODES[view]
    sequence = _item(CodeValue=code, CodingSchemeDesignator="SCT", CodeMeaning=meaning)
    sequence.ViewModifierCodeSequence = DicomSequence()
    half = 1 << (plan.bits - 1)
    tags = {
        "SOPClassUID": FOR_PRESENTATION,
        "SOPInstanceUID": _uid(seed, "image", plan.patient, plan.first + v),
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
        "ImagerPixelSpacing": [0.0941 * REDUCTION, 0.0941 * REDUCTION],
        "InstanceNumber": plan.first + v,
        "PatientOrientation": _ORIENTATIONS[plan.laterality, view],
        "ImageLaterality": plan.laterality.value,
        "ViewCodeSequence": DicomSequence([sequence]),
        "WindowCenter": half,
        "WindowWidth": 2 * half,
        "VOILUTFunction": "SIGMOID",
    }
    folder = f"manifest-phantom/CMMD/{plan.patient}/07-18-2010-NA-NA-{study[-5:]}/1.000000-NA-{series[-5:]}"
    return Image(f"{folder}/1-{plan.first + v}.dcm", drawing, pixels, plan.bits, "MONOCHROME2", EXPLICIT_LE, tags)


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
    """An XLSX file is a zip archive that holds the time of day in several places: put one time in all of them."""
    written, out = io.BytesIO(), io.BytesIO()
    book.save(written)
    with zipfile.ZipFile(written) as source, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            data = source.read(name)
            if name == "docProps/core.xml":
                data = re.sub(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", b"2020-01-01T00:00:00Z", data)
            target.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), data)
    return out.getvalue()


def _uid(seed: int, *what: object) -> str:
    number = int.from_bytes(hashlib.blake2b(f"{seed} {what}".encode(), digest_size=12).digest(), "big")
    return f"2.25.{number}"


def _item(**elements: str) -> Dataset:
    item = Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return item


# --- one DICOM file ---------------------------------------------------------------------------------------------------


def dicom_bytes(image: Image) -> bytes:
    """The file's bytes, in its transfer syntax."""
    meta = FileMetaDataset()
    with silenced(), written_as_is():
        meta.FileMetaInformationVersion = b"\0\1"
        meta.MediaStorageSOPClassUID = UID(image.media_class)
        meta.MediaStorageSOPInstanceUID = UID(image.tags["SOPInstanceUID"])
        meta.TransferSyntaxUID = UID(image.syntax)
        meta.ImplementationClassUID = UID("2.25.276312104911186532")
        dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        for keyword, value in image.tags.items():
            setattr(dataset, keyword, value)
        rows, columns = image.pixels.shape
        dataset.SamplesPerPixel = 1
        dataset.PhotometricInterpretation = image.photometric
        dataset.Rows, dataset.Columns = rows, columns
        dataset.BitsAllocated = 8 * image.pixels.dtype.itemsize
        dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = image.bits, image.bits - 1, 0
        _set_pixels(dataset, image)
        out = io.BytesIO()
        pydicom.dcmwrite(out, dataset, implicit_vr=False, little_endian=True)
        return out.getvalue()


@contextmanager
def written_as_is() -> Iterator[None]:
    """Let pydicom write what VinDr-Mammo holds and the standard does not allow: UIDs that are none."""
    before = pydicom.config.settings.writing_validation_mode
    pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
    try:
        yield
    finally:
        pydicom.config.settings.writing_validation_mode = before


def _set_pixels(dataset: FileDataset, image: Image) -> None:
    if image.syntax == EXPLICIT_LE:
        data = image.pixels.astype(image.pixels.dtype.newbyteorder("<")).tobytes()
        dataset.PixelData = data + b"\0" * (len(data) % 2)
        dataset["PixelData"].VR = "OW" if image.pixels.dtype.itemsize > 1 else "OB"
        return
    dataset.PixelData = encapsulate([_encode(image)])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True


def _encode(image: Image) -> bytes:
    import imagecodecs

    if image.syntax == RLE:
        rows, columns = image.pixels.shape
        allocated = 8 * image.pixels.dtype.itemsize
        return get_encoder(RLE).encode(
            image.pixels, encoding_plugin="pydicom", rows=rows, columns=columns, samples_per_pixel=1, number_of_frames=1,
            bits_allocated=allocated, bits_stored=image.bits, pixel_representation=0,
            photometric_interpretation=image.photometric,
        )  # fmt: skip
    if image.syntax in (JPEG_LOSSLESS, JPEG_LOSSLESS_SV1):
        return bytes(imagecodecs.jpeg8_encode(image.pixels, lossless=True, predictor=1, bitspersample=image.bits))
    if image.syntax == JPEG_2000_LOSSLESS:
        return bytes(
            imagecodecs.jpeg2k_encode(image.pixels, level=0, codecformat="j2k", reversible=True, bitspersample=image.bits)
        )
    raise ParameterError(f"no encoder for transfer syntax {image.syntax}")
