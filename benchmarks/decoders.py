"""Is another safe decoder under a permissive licence faster than the one that fvpipe names? CPU ms an image, by syntax."""

from __future__ import annotations

import time
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, RLELossless

from benchmarks.cohort import FORMS, Form, cohort
from benchmarks.floor import located
from benchmarks.measure import Section, Setup, Table, interleaved
from fvpipe.dicom.decoders import DECODERS
from fvpipe.dicom.layout import PixelLayout

Decode = Callable[[bytes], NDArray[Any]]


def run(setup: Setup) -> Section:
    """Measure the encoded forms."""
    section = Section("decoders", "Decoders")
    table = Table("CPU ms an image, median (least to most)", ["form", "decoder", "ms", "pixels"], [])
    for name in ("vindr-rle", "vindr-jpegll", "vindr-j2k"):
        _compare(setup, FORMS[name], section, table)
    section.tables.append(table)
    return section


def _compare(setup: Setup, form: Form, section: Section, table: Table) -> None:
    folder = cohort(setup.scratch, form, 2, 2, (640, 512) if setup.tiny else None)
    path = max(folder.rglob("*.dicom"), key=lambda file: (file.stat().st_size, file.name))
    start, end, layout = located(path)
    frame = path.read_bytes()[start:end]
    named = DECODERS[form.syntax].decode(frame, layout)
    decoders: dict[str, Decode] = {
        f"fvpipe's: {DECODERS[form.syntax].library}": lambda frame: DECODERS[form.syntax].decode(frame, layout)
    }
    for name, load in OTHERS[form.syntax].items():
        try:
            decoders[name] = load(layout)
        except ImportError:
            section.notes.append(f"Not measured: {name} is not installed (extra `test`).")
    measured = interleaved(
        setup.runs, {name: lambda decode=decode: _processor(decode, frame) for name, decode in decoders.items()}
    )
    for name, decode in decoders.items():
        same = np.array_equal(decode(frame), named)
        table.rows.append([form.title, name, str(measured[name]), "the same" if same else "others"])
        section.figures[f"{form.name} {name}"] = measured[name].median
    section.figures[f"{form.name} megabytes"] = len(frame) / 1e6
    section.figures[f"{form.name} megapixels"] = layout.rows * layout.columns / 1e6


def _processor(decode: Decode, frame: bytes) -> float:
    before = time.process_time()
    decode(frame)
    return (time.process_time() - before) * 1000


def _openjpeg(_: PixelLayout) -> Decode:
    import openjpeg

    return lambda frame: np.asarray(openjpeg.decode(frame))


def _pillow(layout: PixelLayout) -> Decode:
    from PIL import Image

    return lambda frame: np.asarray(Image.open(BytesIO(frame))).astype(np.uint16) >> (16 - layout.bits_stored)


def _ljpeg(_: PixelLayout) -> Decode:
    import imagecodecs

    return lambda frame: np.asarray(imagecodecs.ljpeg_decode(frame))


def _rle(layout: PixelLayout) -> Decode:
    from rle.rle import decode_frame

    def decode(frame: bytes) -> NDArray[Any]:
        decoded = decode_frame(frame, layout.rows * layout.columns, layout.bits_allocated, "<")
        return np.frombuffer(decoded, f"<u{layout.bits_allocated // 8}").reshape(layout.rows, layout.columns)

    return decode


OTHERS: dict[str, dict[str, Callable[[PixelLayout], Decode]]] = {
    RLELossless: {"pylibjpeg-rle": _rle},
    JPEGLosslessSV1: {"imagecodecs' ljpeg": _ljpeg},
    JPEG2000Lossless: {"pylibjpeg-openjpeg": _openjpeg, "Pillow": _pillow},
}
