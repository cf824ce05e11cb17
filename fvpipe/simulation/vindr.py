"""Simulated data set in the published form of VinDr-Mammo."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from fvpipe.io.csv_lines import format_csv
from fvpipe.simulation.dicom_file import SIZE_REDUCTION, SYNTAXES, SimulatedDataset, SimulatedImage, hex_digest
from fvpipe.simulation.drawing import anatomy, draw, stored_pixels
from fvpipe.types import CropBox, Laterality, View


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
_BI_RADS = (5, 2, 3, 5, 4, 1, 2, 5, 3, 2, 1, 5)  # of each breast in turn; malignant often enough for training


def vindr_dataset(patients: int, seed: int) -> SimulatedDataset:
    """Studies of four views, with a BI-RADS assessment per breast and no patient id but the study."""
    plans = list(_vindr_plan(patients, seed))
    return SimulatedDataset((_vindr_image(plan, seed) for plan in plans), partial(_vindr_tables, plans))


@dataclass(frozen=True, slots=True)
class _VindrView:
    study: str
    series: str
    image: str
    number: int  # of the breast, seeds its random numbers
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
        study = hex_digest(seed, "study", patient)
        vendor = _VENDORS[patient % len(_VENDORS)]
        for s, laterality in enumerate(Laterality):
            breast = 2 * patient + s
            views = [View.CC, View.MLO]
            bi_rads = _BI_RADS[breast % len(_BI_RADS)]
            if patient == 1 and laterality is Laterality.LEFT:  # the one breast with two CC and no MLO
                views, bi_rads = [View.CC, View.CC], 2
            for v, view in enumerate(views):
                other_series = patient == 2 and laterality is Laterality.RIGHT and v
                rows, columns = (n // SIZE_REDUCTION for n in vendor.shape)
                if patient == 3 and laterality is Laterality.LEFT and v:  # views of two sizes
                    columns -= 24
                yield _VindrView(
                    study=study,
                    series=hex_digest(seed, "series", patient, "b" if other_series else "a"),
                    image=hex_digest(seed, "image", breast, v),
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


def _vindr_image(plan: _VindrView, seed: int) -> SimulatedImage:
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
        "ImagerPixelSpacing": [0.085 * SIZE_REDUCTION, 0.085 * SIZE_REDUCTION],
        "PixelPaddingValue": (1 << plan.vendor.bits) - 1 if inverted else 0,
        "WindowCenter": centers,
        "WindowWidth": widths,
        "RescaleIntercept": 0,
        "RescaleSlope": 1,
    }
    return SimulatedImage(
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
        "breast-level_annotations.csv": format_csv(columns, rows),
        "finding_annotations.csv": format_csv(finding_columns, findings),
        "metadata.csv": format_csv(headings, metadata),
    }
