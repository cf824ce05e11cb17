"""Writers of image files that are not DICOM, down to the byte, and lossless copies by libraries."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Order = Literal["<", ">"]
ORIENTATION_6 = b"MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"
"""EXIF data with the one tag that says that an image is stored turned."""


def chunk(name: bytes, data: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(pixels: NDArray[Any], color: int | None = None, chunks: bytes = b"", after: bytes = b"", depth: int = 0) -> bytes:
    """A PNG file with more `chunks` before and `after` its pixels; `color` and `depth` are said, whatever the pixels are."""
    rows, columns = pixels.shape[:2]
    depth = depth or 8 * pixels.itemsize
    lines = b"".join(b"\0" + row.astype(row.dtype.newbyteorder(">")).tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", columns, rows, depth, (0 if pixels.ndim == 2 else 2) if color is None else color, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunks + chunk(b"IDAT", zlib.compress(lines, 1)) + after + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def jpeg(pixels: NDArray[Any], mode: str | None = None, **options: Any) -> bytes:
    """A JPEG file by Pillow."""
    out = io.BytesIO()
    image = Image.fromarray(pixels) if mode is None else Image.fromarray(pixels).convert(mode)
    image.save(out, "JPEG", quality=95, **options)
    return out.getvalue()


def tiff(
    pixels: NDArray[Any], photometric: int | None = None, order: Order = "<", data: bytes | None = None, **tags: int
) -> bytes:
    """An uncompressed TIFF file of one strip; `tags` (``t274=3``) replace or add to those of the pixels."""
    rows, columns = pixels.shape[:2]
    data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes() if data is None else data
    samples = 1 if pixels.ndim == 2 else pixels.shape[2]
    color = (2 if samples == 3 else 1) if photometric is None else photometric
    said = {
        256: columns, 257: rows, 258: 8 * pixels.itemsize, 259: 1, 262: color,
        273: 8, 277: samples, 278: rows, 279: len(data), 339: {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind],
    }  # fmt: skip
    said |= {int(name[1:]): value for name, value in tags.items()}
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in sorted(said.items()))
    start = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8 + len(data))
    return start + data + struct.pack(f"{order}H", len(said)) + entries + bytes(4)


def tiff_by_pillow(pixels: NDArray[Any], compression: str, **options: Any) -> bytes:
    """A TIFF file with a compression."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "TIFF", compression=compression, **options)
    return out.getvalue()


def pgm(pixels: NDArray[Any], most: int, comments: bytes = b"") -> bytes:
    """A binary PGM file."""
    kind = ">u2" if most > 255 else "u1"
    return b"P5\n%b%d %d\n%d\n" % (comments, pixels.shape[1], pixels.shape[0], most) + pixels.astype(kind).tobytes()


def nrrd(
    pixels: NDArray[Any],
    lines: Sequence[str] = (),
    encoding: str = "raw",
    endian: str = "little",
    sizes: str = "",
    kind: str = "",
    values: bytes | None = None,
) -> bytes:
    """An NRRD file."""
    rows, columns = pixels.shape[:2]
    sizes = sizes or f"{columns} {rows}"
    if values is None:
        values = pixels.astype(pixels.dtype.newbyteorder("<" if endian == "little" else ">")).tobytes()
    kind = kind or {"uint8": "unsigned char", "uint16": "ushort", "int16": "short", "float32": "float"}[pixels.dtype.name]
    head = ["NRRD0004", "# made", f"type: {kind}", f"dimension: {len(sizes.split())}", f"sizes: {sizes}"]
    head += [f"endian: {endian}", f"encoding: {encoding}", *lines, "", ""]
    return "\n".join(head).encode() + (gzip.compress(values, 1) if encoding == "gzip" else values)


def rgb(pixels: NDArray[Any]) -> NDArray[Any]:
    """Grey stored as three equal channels."""
    return np.dstack([pixels] * 3)
