"""Bytes of a whole image file that is not DICOM -> its pixels, by imagecodecs from memory, or as they lie in the file."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fvpipe.config.formats import PNG
from fvpipe.dicom.decoding.codestream import jpeg_codestream
from fvpipe.dicom.decoding.jpeg import decode_jpeg
from fvpipe.dicom.decoding.layout import PixelLayout
from fvpipe.dicom.elements import RejectedFile, silenced
from fvpipe.dicom.raster.headers import RasterHeader, png_chunks, read_raster
from fvpipe.dicom.reader import stream
from fvpipe.reasons import Reason


def decode_raster(data: bytes, layout: PixelLayout) -> NDArray[Any]:
    """Decode an image file.

    Parameters
    ----------
    data : bytes
        The whole file.
    layout : PixelLayout
        Of its header; the transfer syntax is the name of the format.

    Returns
    -------
    pixels : integer array, shape (rows, columns)
        Stored values: no polarity, orientation or gamma of the file is applied.

    Raises
    ------
    RejectedFile
        Channels that differ, a cut or damaged file, or another image after the first.
    """
    import imagecodecs

    match layout.transfer_syntax_uid:
        case "png":
            pixels = imagecodecs.png_decode(_bare_png(data))
        case "jpeg":
            codestream, size = jpeg_codestream(data, layout, components=(1, 3))
            pixels = decode_jpeg(codestream, size.bits)
        case "tiff":
            pixels = imagecodecs.tiff_decode(data)
        case "pgm":
            pixels = _values(data, read_raster(stream(data), "pgm"))
        case _:
            pixels = _values(data, read_raster(stream(data), "nrrd"))
    return _grey(np.asarray(pixels))


def _bare_png(data: bytes) -> bytes:
    """Return a PNG file with the chunks of its pixels alone: all others are looked at here, and none by the decoder."""
    with silenced():  # Pillow warns of damaged EXIF data
        chunks = list(png_chunks(stream(data)))
    if PNG in data[chunks[-1][2] :]:
        raise RejectedFile(Reason.MULTI_FRAME, "another PNG image follows the first; expected 1")
    return PNG + b"".join(data[start:end] for name, start, end in chunks if name in (b"IHDR", b"IDAT", b"IEND"))


def _values(data: bytes, header: RasterHeader) -> NDArray[Any]:
    """Values of a PGM or NRRD file."""
    kind = np.dtype(header.values)
    count, offset = header.rows * header.columns * header.channels, header.offset
    if header.compressed:
        inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
        data, offset = inflater.decompress(data[offset:], count * kind.itemsize + 1), 0  # one more: it must not be there
        if len(data) != count * kind.itemsize:
            found = "more" if len(data) > count * kind.itemsize else "fewer"
            raise RejectedFile(Reason.PIXELS_MISMATCH, f"the values inflate to {found} bytes than {count} x {kind.itemsize}")
        if not inflater.eof:  # its checksum was not compared
            raise RejectedFile(Reason.PIXELS_TRUNCATED, "the compressed values end too early")
    shape = (header.rows, header.columns, header.channels)
    values = np.frombuffer(data, kind, count, offset).astype(kind.newbyteorder("=")).reshape(shape)
    if kind.kind == "u" and int(values.max()) > header.most:
        detail = f"the file has values up to {values.max()}; its header says {header.most}"
        raise RejectedFile(Reason.PIXELS_MISMATCH, detail)
    return values


def _grey(pixels: NDArray[Any]) -> NDArray[Any]:
    """Take one of three equal channels, or of one, beside which there may be an opaque alpha channel.

    Raises
    ------
    RejectedFile
        They differ, or the image is partly transparent.
    """
    if pixels.ndim != 3:
        return pixels
    if pixels.shape[2] in (2, 4):
        opaque, found = int(np.iinfo(pixels.dtype).max), int(pixels[..., -1].min())
        if found < opaque:
            detail = f"it is partly transparent, with alpha from {found} on; expected {opaque} all over, or no alpha channel"
            raise RejectedFile(Reason.COLOUR, detail)
        pixels = pixels[..., :-1]
    first = pixels[..., 0]
    for channel in range(1, pixels.shape[2]):
        other = pixels[..., channel]
        if not np.array_equal(first, other):
            apart = int(np.abs(first.astype(np.int32) - other).max())
            detail = f"its channels differ by up to {apart}; expected grey, or grey stored as three equal channels"
            raise RejectedFile(Reason.COLOUR, detail)
    return np.ascontiguousarray(first)
