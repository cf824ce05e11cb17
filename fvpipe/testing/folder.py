"""Small image files and tables for tests of adapters, and the index of a folder of them."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import DigitalMammographyXRayImageStorageForPresentation, ExplicitVRLittleEndian

from fvpipe import flow
from fvpipe.cache.file_cache import FileCache
from fvpipe.config.formats import Format
from fvpipe.config.project import DataSet
from fvpipe.execution.workers import Workers, WorkerSettings
from fvpipe.indexing.index import Index
from fvpipe.project.project import make_source
from fvpipe.simulation.dicom_file import SimulatedImage, dicom_bytes
from fvpipe.simulation.drawing import Drawing, anatomy, draw, stored_pixels
from fvpipe.types import Laterality, View

SIZE = (320, 256)  # rows, columns
BITS = 12


def write_image(
    path: Path,
    number: int,
    laterality: Laterality = Laterality.LEFT,
    view: View = View.CC,
    form: Format = "dicom",
    **elements: Any,
) -> None:
    """Write one simulated mammogram.

    Parameters
    ----------
    path : Path
        File to write; folders are made.
    number : int
        From 1. No two numbers have the same pixels or UIDs; four after another are one study.
    laterality, view : Laterality, View
        Of the drawn breast. The header names them only where `elements` does.
    form : Format
        ``dicom``, or another of the formats that a declaration may state: of 16 bits, or 8 in JPEG.
    **elements
        Elements by keyword: what replaces or adds to a header that names no patient, side or view. None leaves one out.
        Of DICOM alone.
    """
    drawing, pixels = _drawn(laterality, view)
    pixels = pixels.copy()
    path.parent.mkdir(parents=True, exist_ok=True)
    if form == "jpeg":
        pixels[-8:, -16:-8], pixels[-8:, -8:] = 16 * (number % 256), 16 * (number // 256)  # blocks keep their value
    else:
        pixels[-1, -2:] = number % 4096, number // 4096
    if form != "dicom":
        path.write_bytes(raster_bytes(pixels.astype(np.uint16), form))
        return
    header: dict[str, Any] = {
        "SOPClassUID": DigitalMammographyXRayImageStorageForPresentation,
        "SOPInstanceUID": f"2.25.{number}",
        "StudyInstanceUID": f"2.25.{(number - 1) // 4 + 1}1",
        "SeriesInstanceUID": "2.25.2",
        "Modality": "MG",
    } | elements
    tags = {keyword: value for keyword, value in header.items() if value is not None}
    image = SimulatedImage(str(path), drawing, pixels, BITS, "MONOCHROME2", ExplicitVRLittleEndian, tags, tags["SOPClassUID"])
    path.write_bytes(dicom_bytes(image))


def raster_bytes(pixels: NDArray[np.uint16], form: Format) -> bytes:
    """Format pixels of 12 bits, shape (rows, columns), as an image file that is not DICOM."""
    import imagecodecs

    rows, columns = pixels.shape
    match form:
        case "png":
            return bytes(imagecodecs.png_encode(pixels))
        case "jpeg":
            return bytes(imagecodecs.jpeg8_encode((pixels >> (BITS - 8)).astype(np.uint8), level=95))
        case "tiff":
            return bytes(imagecodecs.tiff_encode(pixels))
        case "pgm":
            return b"P5\n%d %d\n%d\n" % (columns, rows, (1 << BITS) - 1) + pixels.astype(">u2").tobytes()
        case _:
            head = f"NRRD0004\ntype: uint16\ndimension: 2\nsizes: {columns} {rows}\nendian: little\nencoding: raw\n\n"
            return head.encode() + pixels.astype("<u2").tobytes()


@cache
def _drawn(laterality: Laterality, view: View) -> tuple[Drawing, NDArray[np.uint8] | NDArray[np.uint16]]:
    rng = np.random.default_rng(1)
    drawing = draw(rng, SIZE, view, laterality, anatomy(rng, lesion=False))
    return drawing, stored_pixels(rng, drawing, BITS)


def write_table(file: Path, rows: Sequence[Mapping[str, Any]], delimiter: str = ",") -> None:
    """Write rows as CSV, or as a spreadsheet where the name ends in ``.xlsx``; the columns are those of the first row."""
    columns = list(rows[0])
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix.lower() == ".xlsx":
        import openpyxl

        book = openpyxl.Workbook()
        sheet = book.worksheets[0]
        for cells in (columns, *([row.get(column, "") for column in columns] for row in rows)):
            sheet.append(cells)
        book.save(file)
        return
    with open(file, "w", encoding="utf-8", newline="") as text:
        writer = csv.DictWriter(text, columns, delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def index_folder(folder: Path, adapter: str, **settings: Any) -> Index:
    """Index a folder in this process, with identifiers kept.

    Parameters
    ----------
    folder : Path
        The folder; its headers are cached in a file beside it.
    adapter : str
        Name of an adapter, or the path of a declaration.
    **settings
        Keys of a data set in ``params.yaml``, such as `label_file` and `labels`.
    """
    source = make_source("simulated", folder, DataSet(adapter=adapter, identifiers="own", **settings), None, Path())
    with (
        FileCache(folder.parent / f".{folder.name}.sqlite", folder, source.policy) as file_cache,
        Workers(WorkerSettings(count=0)) as pool,
    ):
        return flow.index(source, pool, file_cache)
