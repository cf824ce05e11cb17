"""Writer of simulated data sets: in the published form of VinDr-Mammo and CMMD, and a cohort with small lesions.

No patient is behind any of it. A published form has its files, tags, folders and label tables, and contains once what makes
the real one difficult to read: a breast with two CC and no MLO, views in two series or of two sizes, several windows,
MONOCHROME1, a 16-bit pair among 8-bit images, file numbers unrelated to the view, breasts without a label, a patient with one
benign and one malignant breast, and the same pixels under two patients. ``truth.csv`` and ``truth/`` hold the true outline
and lesion of each file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from fvpipe.errors import ParameterError
from fvpipe.io.atomic import write_atomic
from fvpipe.io.csv_lines import format_csv
from fvpipe.simulation.cmmd import cmmd_dataset
from fvpipe.simulation.dicom_file import dicom_bytes
from fvpipe.simulation.lesions import lesions_dataset
from fvpipe.simulation.vindr import vindr_dataset
from fvpipe.types import CropBox

Form = Literal["vindr", "cmmd", "lesions"]
_FORMS = {"vindr": vindr_dataset, "cmmd": cmmd_dataset, "lesions": lesions_dataset}


def write_dataset(form: Form, out: Path, patients: int, seed: int) -> int:
    """Write a simulated data set.

    Parameters
    ----------
    form : {"vindr", "cmmd", "lesions"}
        Published form, or a plain one with small lesions.
    out : Path
        Folder; files of the same names, as of an earlier run, are replaced.
    patients : int
        Number of patients, at least 8 so that each difficulty occurs once.
    seed : int
        Seed of all random numbers; the same seed gives the same bytes.

    Returns
    -------
    files : int
        Number of DICOM files.

    Raises
    ------
    ParameterError
        If there are too few patients, or the folder holds images of others.
    StorageError
        If a file cannot be written.
    """
    if patients < 8:
        raise ParameterError(
            f"{patients} patients; a simulated data set needs at least 8, so that each special case occurs once"
        )
    dataset = _FORMS[form](patients, seed)
    truth: list[list[Any]] = []
    lesions: dict[str, CropBox | None] = {}
    for image in dataset.images:
        write_atomic(out / image.path, dicom_bytes(image), durable=False)
        mask = cv2.imencode(".png", image.drawing.mask.astype(np.uint8) * 255)[1].tobytes()
        write_atomic(out / "truth" / f"{image.path}.png", mask, durable=False)
        lesions[image.path] = image.drawing.lesion
        lesion = image.drawing.lesion.as_tuple() if image.drawing.lesion else ("",) * 4
        truth.append([image.path, *image.drawing.box.as_tuple(), *lesion])
    written = {Path(path) for path in lesions}
    files = (file.relative_to(out) for file in sorted(out.rglob("*")) if file.suffix in (".dcm", ".dicom"))
    if other := next((file for file in files if file not in written), None):
        raise ParameterError(
            f"{out}: also holds {other}, not an image of this data set, as of a run with more patients or another seed; "
            "an index would take all for one data set. Empty the folder, or choose another"
        )
    for name, data in dataset.tables(lesions).items():
        write_atomic(out / name, data)
    sides = ["top", "bottom", "left", "right"]
    write_atomic(out / "truth.csv", format_csv(["path", *sides, *[f"lesion_{s}" for s in sides]], sorted(truth)))
    return len(truth)
