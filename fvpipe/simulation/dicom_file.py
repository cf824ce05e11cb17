"""Simulated images as DICOM files, in several transfer syntaxes."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pydicom.config
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders.base import get_encoder
from pydicom.uid import (
    UID,
    DigitalMammographyXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    RLELossless,
)

from fvpipe.dicom.elements import silenced
from fvpipe.errors import ParameterError
from fvpipe.simulation.drawing import Drawing
from fvpipe.types import CropBox

SYNTAXES = (ExplicitVRLittleEndian, RLELossless, JPEGLosslessSV1, JPEG2000Lossless)
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
    media_class: str = DigitalMammographyXRayImageStorageForPresentation


@dataclass(frozen=True, slots=True)
class PhantomSet:
    """A data set to write: images one by one, and tables once all lesions are known (by image path)."""

    images: Iterator[Image]
    tables: Callable[[Mapping[str, CropBox | None]], dict[str, bytes]]


def hex_digest(seed: int, *what: object) -> str:
    """A hexadecimal identifier that depends on its arguments alone."""
    return hashlib.md5(f"fvpipe phantom {seed} {what}".encode(), usedforsecurity=False).hexdigest()


def make_uid(seed: int, *what: object) -> str:
    """A UID that depends on its arguments alone."""
    number = int.from_bytes(hashlib.blake2b(f"{seed} {what}".encode(), digest_size=12).digest(), "big")
    return f"2.25.{number}"


def sequence_item(**elements: str) -> Dataset:
    """A sequence item of these elements."""
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
    if image.syntax == ExplicitVRLittleEndian:
        data = image.pixels.astype(image.pixels.dtype.newbyteorder("<")).tobytes()
        dataset.PixelData = data + b"\0" * (len(data) % 2)
        dataset["PixelData"].VR = "OW" if image.pixels.dtype.itemsize > 1 else "OB"
        return
    dataset.PixelData = encapsulate([_encode(image)])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True


def _encode(image: Image) -> bytes:
    import imagecodecs

    if image.syntax == RLELossless:
        rows, columns = image.pixels.shape
        allocated = 8 * image.pixels.dtype.itemsize
        return get_encoder(RLELossless).encode(
            image.pixels, encoding_plugin="pydicom", rows=rows, columns=columns, samples_per_pixel=1, number_of_frames=1,
            bits_allocated=allocated, bits_stored=image.bits, pixel_representation=0,
            photometric_interpretation=image.photometric,
        )  # fmt: skip
    if image.syntax in (JPEGLossless, JPEGLosslessSV1):
        return bytes(imagecodecs.jpeg8_encode(image.pixels, lossless=True, predictor=1, bitspersample=image.bits))
    if image.syntax == JPEG2000Lossless:
        return bytes(
            imagecodecs.jpeg2k_encode(image.pixels, level=0, codecformat="j2k", reversible=True, bitspersample=image.bits)
        )
    raise ParameterError(f"no encoder for transfer syntax {image.syntax}")
