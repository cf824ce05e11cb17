"""Simulated data sets in the published form of VinDr-Mammo and CMMD: files, tags, folders, label tables, and their traps.

No patient is behind any of it. Each set holds, once, what trips a reader of the real one: a breast with two CC and no
MLO, views in two series or of two sizes, several windows, MONOCHROME1, a 16-bit pair among 8-bit images, file numbers
that say nothing of the view, breasts without a label, a patient with one benign and one malignant breast, and the same
pixels under two patients. ``truth.csv`` and ``truth/`` hold each file's true outline and lesion.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from fvpipe.errors import ParameterError
from fvpipe.io.atomic import write_atomic
from fvpipe.io.tables import format_csv
from fvpipe.simulation.cmmd import cmmd_set
from fvpipe.simulation.dicom_file import dicom_bytes
from fvpipe.simulation.vindr import vindr_set
from fvpipe.types import CropBox


def make(form: Literal["vindr", "cmmd"], out: Path, patients: int, seed: int) -> int:
    """Write a simulated data set.

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
        raise ParameterError(f"{patients} patients; a simulated data set needs at least 8 to hold each trap once")
    phantoms = {"vindr": vindr_set, "cmmd": cmmd_set}[form](patients, seed)
    truth: list[list[Any]] = []
    lesions: dict[str, CropBox | None] = {}
    for image in phantoms.images:
        write_atomic(out / image.path, dicom_bytes(image), durable=False)
        encoded = cv2.imencode(".png", image.drawing.mask.astype(np.uint8) * 255)[1].tobytes()
        write_atomic(out / "truth" / f"{image.path}.png", encoded, durable=False)
        lesions[image.path] = image.drawing.lesion
        lesion = image.drawing.lesion.as_tuple() if image.drawing.lesion else ("",) * 4
        truth.append([image.path, *image.drawing.box.as_tuple(), *lesion])
    for name, data in phantoms.tables(lesions).items():
        write_atomic(out / name, data)
    sides = ["top", "bottom", "left", "right"]
    write_atomic(out / "truth.csv", format_csv(["path", *sides, *[f"lesion_{s}" for s in sides]], sorted(truth)))
    return len(truth)
