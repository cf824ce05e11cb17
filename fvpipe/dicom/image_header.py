"""The typed header of one image, and its JSON form for the file cache."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from pydantic import TypeAdapter

from fvpipe.dicom.decoding.layout import PixelLayout, PixelLocation
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
def _adapter() -> TypeAdapter[tuple[PixelLayout, PixelLocation, ValueMapping, Edge, Orientation, bool, str]]:
    return TypeAdapter(tuple[PixelLayout, PixelLocation, ValueMapping, Edge, Orientation, bool, str])


def header_to_json(header: ImageHeader) -> str:
    """Encode a header without its record; tables are base64 of little-endian words."""
    found = header.layout, header.location, header.mapping, header.chest_wall, header.orientation, header.overlay_in_pixels
    return _adapter().dump_json((*found, header.acquisition_date)).decode()


def header_from_json(record: ImageRecord, text: str) -> ImageHeader:
    """Decode a header.

    Parameters
    ----------
    record : ImageRecord
        Its record.
    text : str
        By :func:`header_to_json`.

    Raises
    ------
    ValueError
        The text is not of this form.
    """
    layout, location, mapping, chest_wall, orientation, overlay, date = _adapter().validate_json(text)
    return ImageHeader(layout, location, mapping, chest_wall, orientation, overlay, record, date)
