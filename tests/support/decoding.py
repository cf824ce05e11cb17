"""Decodes a file by its pixels alone, whether or not its header is that of an accepted mammogram."""

from __future__ import annotations

from fvpipe.config.pipeline import Voi
from fvpipe.dicom.decoding.pixels import decode_image
from fvpipe.dicom.header import pixel_header
from fvpipe.dicom.reader import open_dicom, stream
from fvpipe.imaging.decoded_image import DecodedImage
from fvpipe.types import Laterality


def decode(data: bytes, side: Laterality = Laterality.LEFT, voi: Voi = "none", level: int = 0) -> DecodedImage:
    """Parse what decoding needs, then decode."""
    return decode_image(data, pixel_header(open_dicom(stream(data)), side), voi, level=level)
