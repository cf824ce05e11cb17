"""The decoders that fvpipe uses, beside other safe ones under permissive licenses: CPU ms an image, by syntax."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from io import BytesIO
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.cohort import FORMS, cohort
from benchmarks.contenders import located
from benchmarks.measure import Report, Setup, interleaved
from fvpipe.dicom.decoding.decoders import DECODERS
from fvpipe.dicom.decoding.layout import PixelLayout

Decode = Callable[[bytes], NDArray[Any]]


def run(setup: Setup) -> Report:
    """Measure the encoded forms."""
    report = Report("Decoders")
    table = report.table("CPU ms an image, median (least to most)", "form", "decoder", "ms", "pixels")
    for name in ("vindr-rle", "vindr-jpegll", "vindr-j2k"):
        form = FORMS[name]
        folder = cohort(setup, form, tiny=(640, 512))
        path = max(folder.rglob("*.dicom"), key=lambda file: (file.stat().st_size, file.name))
        start, end, layout = located(path)
        frame = path.read_bytes()[start:end]
        ours = DECODERS[form.syntax]
        decoders: dict[str, Decode] = {f"fvpipe's: {ours.library}": lambda f, o=ours, x=layout: o.decode(f, x).pixels}
        decoders |= others(name, layout)
        milliseconds = {which: partial(_milliseconds, decode, frame) for which, decode in decoders.items()}
        for which, runs in interleaved(setup.runs, milliseconds).items():
            same = np.array_equal(decoders[which](frame), ours.decode(frame, layout).pixels)
            table.add_row(form.title, which, str(runs), "the same" if same else "others")
            report.values[f"{name} {which}"] = runs.median
    return report


def _milliseconds(decode: Decode, frame: bytes) -> float:
    before = time.process_time()
    decode(frame)
    return (time.process_time() - before) * 1000


def others(form: str, layout: PixelLayout) -> dict[str, Decode]:
    """The other decoders of a form, by name."""
    import openjpeg
    from rle.rle import decode_frame

    def rle(frame: bytes) -> NDArray[Any]:
        decoded = decode_frame(frame, layout.rows * layout.columns, layout.bits_allocated, "<")
        return np.frombuffer(decoded, f"<u{layout.bits_allocated // 8}").reshape(layout.rows, layout.columns)

    def pillow(frame: bytes) -> NDArray[Any]:
        return np.asarray(Image.open(BytesIO(frame))).astype(np.uint16) >> (16 - layout.bits_stored)

    found: dict[str, dict[str, Decode]] = {
        "vindr-rle": {"pylibjpeg-rle": rle},
        "vindr-jpegll": {"imagecodecs' ljpeg": lambda frame: np.asarray(imagecodecs.ljpeg_decode(frame))},
        "vindr-j2k": {"pylibjpeg-openjpeg": lambda frame: np.asarray(openjpeg.decode(frame)), "Pillow": pillow},
    }
    return found[form]
