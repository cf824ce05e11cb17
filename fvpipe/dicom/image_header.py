"""The typed header of one image, and its JSON form for the file cache."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

from pydantic import TypeAdapter

from fvpipe.dicom.layout import PixelLayout, PixelLocation
from fvpipe.dicom.value_mapping import ValueMapping
from fvpipe.types import Edge, ImageRecord, Orientation


@dataclass(frozen=True, slots=True)
class PixelHeader:
    """Everything that decoding needs beside the file's bytes."""

    layout: PixelLayout  # size and bits of the stored values
    location: PixelLocation  # position of the pixels in the file
    mapping: ValueMapping  # rescale, LUTs, windows, polarity and padding
    chest_wall: Edge  # edge on which the chest wall of the upright image is expected
    orientation: Orientation  # how the stored pixels lie
    overlay_in_pixels: bool  # unused bits of the stored pixels hold an overlay


@dataclass(frozen=True, slots=True)
class ImageHeader(PixelHeader):
    """An accepted header: everything that indexing, decoding and pairing read from it."""

    record: ImageRecord  # for pairing and labels
    # Day of the exposure, hashed where the data set hashes identifiers; empty where it is absent. Only to be compared.
    acquisition_date: str


@cache
def _adapter() -> TypeAdapter[ImageHeader]:
    return TypeAdapter(ImageHeader)


def header_to_json(header: ImageHeader) -> str:
    """Encode a header, without the path of its file; tables are base64 of little-endian words."""
    return _adapter().dump_json(replace(header, record=replace(header.record, path=""))).decode()


def header_from_json(path: str, text: str) -> ImageHeader:
    """Decode a header.

    Parameters
    ----------
    path : str
        Path of the file, relative to the input folder.
    text : str
        By :func:`header_to_json`.

    Raises
    ------
    ValueError
        The text is not of this form.
    """
    header = _adapter().validate_json(text)
    return replace(header, record=replace(header.record, path=path))
