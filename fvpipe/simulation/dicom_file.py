"""Encoding of simulated images as DICOM files in several transfer syntaxes."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pydicom.config
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders.base import get_encoder
from pydicom.uid import (
    UID,
    DigitalMammographyXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    RLELossless,
)

from fvpipe.dicom.elements import silenced
from fvpipe.errors import ParameterError
from fvpipe.simulation.drawing import Drawing
from fvpipe.types import CropBox

SYNTAXES = (ExplicitVRLittleEndian, RLELossless, JPEGLosslessSV1, JPEG2000Lossless)
SIZE_REDUCTION = 4  # the published sizes by this


@dataclass(frozen=True, slots=True)
class SimulatedImage:
    """One DICOM file to write."""

    path: str  # within the data set
    drawing: Drawing  # tissue, outline and lesion
    pixels: NDArray[np.uint8] | NDArray[np.uint16]  # (rows, columns): stored values
    bits: int  # stored
    photometric: str
    syntax: str  # transfer syntax UID
    tags: dict[str, Any] = field(default_factory=dict)  # further elements by keyword
    media_class: str = DigitalMammographyXRayImageStorageForPresentation  # SOP class UID of the file meta information


@dataclass(frozen=True, slots=True)
class SimulatedDataset:
    """A data set to write."""

    images: Iterator[SimulatedImage]  # drawn one at a time
    # Makes the label tables (contents by file name) from the lesion of each image by path
    tables: Callable[[Mapping[str, CropBox | None]], dict[str, bytes]]


def hex_digest(seed: int, *what: object) -> str:
    """Hexadecimal identifier that depends only on the arguments."""
    return hashlib.md5(f"fvpipe phantom {seed} {what}".encode(), usedforsecurity=False).hexdigest()


def make_uid(seed: int, *what: object) -> str:
    """UID that depends only on the arguments."""
    number = int.from_bytes(hashlib.blake2b(f"{seed} {what}".encode(), digest_size=12).digest(), "big")
    return f"2.25.{number}"


def dicom_bytes(image: SimulatedImage) -> bytes:
    """Contents of the DICOM file."""
    meta = FileMetaDataset()
    with silenced(), pydicom.config.disable_value_validation():  # VinDr-Mammo has identifiers that are not valid UIDs
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


def _set_pixels(dataset: FileDataset, image: SimulatedImage) -> None:
    data = image.pixels.astype(image.pixels.dtype.newbyteorder("<")).tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OW" if image.pixels.dtype.itemsize > 1 else "OB"
    if image.syntax != ExplicitVRLittleEndian:
        dataset.PixelData = encapsulate([_encoded(dataset, image)])
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True


def _encoded(dataset: FileDataset, image: SimulatedImage) -> bytes:
    import imagecodecs

    if image.syntax == RLELossless:
        return get_encoder(RLELossless).encode(dataset, encoding_plugin="pydicom")
    if image.syntax == JPEGLosslessSV1:
        return bytes(imagecodecs.jpeg8_encode(image.pixels, lossless=True, predictor=1, bitspersample=image.bits))
    if image.syntax == JPEG2000Lossless:
        return bytes(
            imagecodecs.jpeg2k_encode(image.pixels, level=0, codecformat="j2k", reversible=True, bitspersample=image.bits)
        )
    raise ParameterError(f"no encoder for transfer syntax {image.syntax}")
