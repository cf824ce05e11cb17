"""Reading of an image's values by other libraries, to compare with our own: SimpleITK (GDCM), then pydicom.

SimpleITK has a parser, decoders, rescale and inversion of MONOCHROME1 of its own. pydicom decodes stored values, and what the
standard does to them is written here a second time, without the value table of :mod:`fvpipe.dicom.value_table`.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import apply_modality_lut, pixel_array
from pydicom.uid import DigitalMammographyXRayImageStorageForPresentation

from fvpipe.config.formats import HEAD_BYTES, RASTER, Format, recognize
from fvpipe.dicom.elements import raise_transient, silenced


class UnreadableError(Exception):
    """A library cannot read an image, or is known not to apply one of its elements; says nothing of its values."""


def read_values(library: str, path: Path, *, inverted: bool = False) -> NDArray[Any]:
    """Read an image by another library.

    Parameters
    ----------
    library : str
        Key of :data:`LIBRARIES`.
    inverted : bool
        Low values are white, of a file that is not DICOM.

    Returns
    -------
    values : array, shape (rows, columns)
        Values after Modality LUT or rescale, MONOCHROME1 inverted over its declared range.

    Raises
    ------
    UnreadableError
        The library cannot read it.
    """
    try:
        with silenced():
            with open(path, "rb") as file:
                form = recognize(file.read(HEAD_BYTES))
            if form in RASTER:
                values = _raster(library, path, form, inverted)
            else:
                dataset = pydicom.dcmread(path, stop_before_pixels=True, force=True)
                values = LIBRARIES[library](path, dataset)
    except UnreadableError:
        raise
    except Exception as error:
        raise_transient(error)
        raise UnreadableError(type(error).__name__) from None  # its message may hold values of the header
    if values.ndim != 2 or values.dtype.kind not in "iuf":
        raise UnreadableError(f"{values.ndim} dimensions of {values.dtype}")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise UnreadableError("values that are not finite")
    return values


def library_version(library: str) -> str:
    """Name and version of a library."""
    return f"{library} {version(library)}"


def _simpleitk(path: Path, dataset: Dataset) -> NDArray[Any]:
    import SimpleITK as sitk

    if dataset.get("ModalityLUTSequence"):
        raise UnreadableError("SimpleITK applies no Modality LUT")
    if dataset.HighBit != dataset.BitsStored - 1:
        raise UnreadableError("SimpleITK expects High Bit to be Bits Stored - 1")
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        return _execute(path)
    except RuntimeError:  # GDCM rejects a header for elements that say nothing of the pixels: VinDr-Mammo has no SOP class
        with tempfile.TemporaryDirectory() as folder:
            return _execute(_pixels_alone(path, Path(folder) / "image.dcm"))


def _raster(library: str, path: Path, form: Format, inverted: bool) -> NDArray[Any]:
    """Read an image file that is not DICOM by SimpleITK, which inverts none."""
    if library != "SimpleITK" or form not in _IMAGE_IO:
        raise UnreadableError(f"{library} reads no {form.upper()} file")
    values = _execute(path, _IMAGE_IO[form])
    values = values[..., 0] if values.ndim == 3 and values.shape[2] == 3 else values
    ends = np.iinfo(values.dtype)
    return ends.max + ends.min - values.astype(np.int32) if inverted else values


_IMAGE_IO: dict[Format, str] = {
    "png": "PNGImageIO",
    "jpeg": "JPEGImageIO",
    "tiff": "TIFFImageIO",
    "nrrd": "NrrdImageIO",
}


def _execute(path: Path, image_io: str = "GDCMImageIO") -> NDArray[Any]:
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetImageIO(image_io)
    reader.SetFileName(str(path))
    with _silent_stderr():
        values: NDArray[Any] = sitk.GetArrayFromImage(reader.Execute())
    return values[0] if values.ndim == 3 and len(values) == 1 else values


def _pixels_alone(path: Path, out: Path) -> Path:
    """Copy Pixel Data, as they are, and the elements that describe them into another file; nothing of the patient."""
    whole = pydicom.dcmread(path, force=True)
    copy = whole.group_dataset(0x0028)
    copy["PixelData"] = whole["PixelData"]
    copy.SOPClassUID, copy.SOPInstanceUID = DigitalMammographyXRayImageStorageForPresentation, "2.25.1"
    copy.file_meta = FileMetaDataset()
    copy.file_meta.TransferSyntaxUID = whole.file_meta.TransferSyntaxUID
    pydicom.dcmwrite(out, copy, enforce_file_format=True)
    return out


def _pydicom(path: Path, header: Dataset) -> NDArray[Any]:
    dataset = pydicom.dcmread(path, force=True)
    raw = pixel_array(dataset, raw=True, correct_unused_bits=False)
    bits, signed = int(header.BitsStored), header.PixelRepresentation == 1
    unused = 8 * raw.itemsize - bits
    low = max(8 * raw.itemsize - 1 - int(header.HighBit), 0)
    # Shifted up until the highest stored bit is that of the type, and down again: arithmetically, if signed.
    wide = np.left_shift(raw.view(f"u{raw.itemsize}"), low)
    stored = np.right_shift(wide.view(f"{'i' if signed else 'u'}{raw.itemsize}"), unused)
    values: NDArray[Any] = apply_modality_lut(stored, dataset)
    if header.PhotometricInterpretation != "MONOCHROME1":
        return values
    if tables := header.get("ModalityLUTSequence"):
        return (1 << int(tables[0].LUTDescriptor[2])) - 1 - values.astype(np.float64)
    first = -(1 << (bits - 1)) if signed else 0
    slope, intercept = float(header.get("RescaleSlope", 1)), float(header.get("RescaleIntercept", 0))
    both_ends = slope * (2 * first + (1 << bits) - 1) + 2 * intercept
    return both_ends - values.astype(np.float64)


LIBRARIES: dict[str, Callable[[Path, Dataset], NDArray[Any]]] = {"SimpleITK": _simpleitk, "pydicom": _pydicom}
"""Readers by library, in the order in which they are asked."""


_stderr = threading.Lock()


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Suppress what compiled code prints on standard error, which may be a part of a header."""
    with _stderr, open(os.devnull, "w") as null:
        sys.stderr.flush()
        kept = os.dup(2)
        os.dup2(null.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
