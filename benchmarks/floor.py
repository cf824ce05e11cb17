"""The floor: read each file into one reused buffer, digest it on the way, decode it. No header, and nothing after the pixels.

`python -m benchmarks.floor FOLDER`. Where the encoded frame lies is found beforehand; the decoder is the one that fvpipe
names for the syntax (`benchmarks/decoders.py` compares it with others). Uncompressed pixels are a view of the buffer.
"""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path

import numpy as np
from pydicom.encaps import get_frame

from benchmarks.serve import serve
from fvpipe.dicom.decoders import DECODERS
from fvpipe.dicom.header import pixel_header
from fvpipe.dicom.layout import PixelLayout
from fvpipe.dicom.reader import open_dicom
from fvpipe.dicom.transfer_syntaxes import NATIVE
from fvpipe.io.read import Buffer, read_contents
from fvpipe.types import Laterality


def main() -> None:
    """Serve passes over a folder."""
    files = [(path, *located(path)) for path in sorted(Path(sys.argv[1]).rglob("*.d*c*m"))]
    buffer = Buffer()
    serve(len(files) // 2, lambda: [floor(buffer, *file) for file in files] and None, lambda: None)


def located(path: Path) -> tuple[int, int, PixelLayout]:
    """Where the frame begins and ends in the file, and what it holds."""
    data = path.read_bytes()
    header = pixel_header(open_dicom(BytesIO(data)), Laterality.LEFT)
    layout, offset = header.layout, header.location.offset
    if layout.transfer_syntax_uid in NATIVE:
        return offset, offset + layout.native_bytes, layout
    file = BytesIO(data)
    file.seek(offset)
    frame = get_frame(file, 0, number_of_frames=1)
    start = data.find(frame, offset)
    if start < 0:
        raise RuntimeError(f"{path}: the frame lies in several fragments; the floor reads one")
    return start, start + len(frame), layout


def floor(buffer: Buffer, path: Path, start: int, end: int, layout: PixelLayout) -> None:
    """Read, digest, decode."""
    view = read_contents(path, "", buffer).data
    if layout.transfer_syntax_uid in NATIVE:
        pixels = np.frombuffer(view[start:end], "<u2" if layout.bits_allocated == 16 else "u1")
    else:
        pixels = DECODERS[layout.transfer_syntax_uid].decode(bytes(view[start:end]), layout)
    assert pixels.size == layout.rows * layout.columns


if __name__ == "__main__":
    main()
