"""Made breasts under what real mammograms have around them, each from its seed alone, with its true outline.

An image is drawn by :mod:`fvpipe.simulation.drawing` and then spoilt: by what the vendor does to the values (pedestal, noise,
sigmoid, few grey levels), by what lies beside the breast (label plates, film borders, stripes, the paddle's line, light that
leaks along the chest wall, padding), and by what lies in it or touches it (implant, abdomen, a label, the frame's edge).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, fields
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from fvpipe.config.pipeline import Segment
from fvpipe.imaging.decoded_image import DecodedImage
from fvpipe.imaging.segmentation.segment import full_mask, segment
from fvpipe.reasons import Flag
from fvpipe.simulation.drawing import anatomy, draw
from fvpipe.types import Laterality, View
from tests.support.decoding import decode
from tests.support.factory import CC, LEFT, MLO, RIGHT, dataset, file_bytes

Plane = NDArray[np.float64]
SHAPES = [(3518, 2800), (3580, 2638), (2812, 2012), (2294, 1914), (3328, 2560), (4096, 3328), (4736, 2624)]
SYNTAXES = [
    ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless,
    JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless, HTJ2KLossless, JPEG2000,
]  # fmt: skip


@dataclass(frozen=True)
class Variation:
    """What was done to a simulated breast; shares are of the range, the rows or the columns."""

    seed: int
    shape: tuple[int, int]
    view: View
    side: Laterality
    bits: int
    used: float
    monochrome1: bool
    syntax: str
    noise: float = 0.0
    pedestal: float = 0.0
    sigmoid: float = 0.0
    scatter: float = 0.0
    label: str = ""
    border: float = 0.0
    stripe: float = 0.0
    paddle: float = 0.0
    leak: float = 0.0
    implant: bool = False
    abdomen: float = 0.0
    padding: float = 0.0
    edge: str = ""

    def __str__(self) -> str:
        told = ((f.name, getattr(self, f.name)) for f in fields(self))
        return ", ".join(
            f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in told if value
        )


@dataclass(frozen=True)
class Varied:
    """An image as the reader gives it, and its breast."""

    what: Variation
    image: DecodedImage
    truth: NDArray[np.bool_]
    either: NDArray[np.bool_]  # tissue that is not a breast: an outline may hold it or not


def variation(seed: int, longest: int | None = None) -> Variation:
    """Choose at random; `longest` is the longer side, which else is a published one or as small as an eighth of it."""
    rng = np.random.default_rng([77, seed])

    def some(share: float, low: float, high: float) -> float:
        value = low + (high - low) * float(rng.random())
        return value if rng.random() < share else 0.0

    rows, columns = SHAPES[int(rng.integers(len(SHAPES)))]
    side = longest or (rows if seed % 12 == 0 else int(rows / rng.uniform(2.5, 8)))
    bits = int(rng.choice([8, 10, 12, 12, 14, 16]))
    grey = rng.random()
    used = 900 / 65535 if bits == 16 and rng.random() < 0.5 else float(rng.uniform(0.35, 1.0))
    syntaxes = SYNTAXES if used > 0.1 else SYNTAXES[:-1]  # of 900 levels the encoder's quality would leave nothing
    return Variation(
        seed=seed,
        shape=(side, columns * side // rows),
        view=CC if rng.random() < 0.5 else MLO,
        side=LEFT if rng.random() < 0.5 else RIGHT,
        bits=bits,
        used=used,
        monochrome1=bool(rng.random() < 0.35),
        syntax=syntaxes[int(rng.integers(len(syntaxes)))],
        noise=some(0.7, 0.001, 0.012),
        pedestal=some(0.5, 0.01, 0.25),
        sigmoid=some(0.2, 0.5, 1.0),
        scatter=some(0.3, 0.005, 0.03),
        label=str(rng.choice(["", "", "text", "plate", "touching"])),
        border=some(0.2, 0.002, 0.013),
        stripe=some(0.2, 0.02, 0.10),
        paddle=some(0.2, 0.1, 0.6),
        leak=some(0.2, 0.1, 0.45),
        implant=bool(rng.random() < 0.1),
        abdomen=some(0.1, 0.03, 0.10),
        padding=some(0.2, 0.02, 0.12),
        edge=str(rng.choice(["top", "bottom", "far"])) if grey < 0.2 else "",
    )


def varied(what: Variation) -> Varied:
    """Draw it, spoil it, write it as a file, read that."""
    rng = np.random.default_rng([78, what.seed])
    drawing = draw(rng, what.shape, what.view, LEFT, anatomy(rng, bool(rng.random() < 0.5)))
    tissue, truth = _framed(drawing.tissue, drawing.mask, what)
    if what.implant:
        tissue = _with_implant(tissue, truth, rng)
    tissue, shown = _with_abdomen(tissue, truth, what) if what.abdomen else (tissue, truth)
    values = _as_shown(tissue, shown, what, rng)
    values = _with_surroundings(values, shown, what, rng)
    either = shown & ~truth
    if what.side is RIGHT:
        values, truth, either = values[:, ::-1], truth[:, ::-1], either[:, ::-1]
    top = (1 << what.bits) - 1
    stored = np.rint(values * what.used * top).astype(np.int64)
    tags: dict[str, Any] = {"ImageLaterality": what.side.value, "view": what.view}
    if what.padding:
        outside = (
            slice(round((1 - what.padding) * stored.shape[1]), None)
            if what.side is LEFT
            else slice(round(what.padding * stored.shape[1]))
        )
        empty = ~(truth | either)[:, outside]
        fill = top if what.seed % 2 else 0  # Hologic's is the maximum
        stored[:, outside][empty] = fill
        stored = np.where((stored == fill) & (truth | either), abs(fill - 1), stored)
        tags["PixelPaddingValue"] = top - fill if what.monochrome1 else fill
    if what.monochrome1:
        stored = top - stored
        tags["PhotometricInterpretation"] = "MONOCHROME1"
    pixels = np.ascontiguousarray(stored.astype(np.uint8 if what.bits == 8 else np.uint16))
    data = file_bytes(dataset(pixels, what.bits, **tags), pixels, what.syntax)
    return Varied(what, decode(data, what.side), np.ascontiguousarray(truth), np.ascontiguousarray(either))


def _framed(tissue: Plane, mask: NDArray[np.bool_], what: Variation) -> tuple[Plane, NDArray[np.bool_]]:
    """Leave the frame's edge where it is, or bring it up to the breast: cut at the top or bottom, just past the nipple."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if what.edge == "top":
        cut = slice(int(rows[0] + 0.08 * len(rows)), None), slice(None)
    elif what.edge == "bottom":
        cut = slice(None, int(rows[-1] - 0.08 * len(rows))), slice(None)
    elif what.edge == "far":
        cut = slice(None), slice(None, min(int(columns[-1] * 1.03) + 3, mask.shape[1]))
    else:
        return tissue, mask
    return tissue[cut], mask[cut]


def _with_implant(tissue: Plane, truth: NDArray[np.bool_], rng: np.random.Generator) -> Plane:
    rows, columns = np.flatnonzero(truth.any(axis=1)), np.flatnonzero(truth.any(axis=0))
    middle, half, depth = (rows[0] + rows[-1]) / 2, len(rows) * rng.uniform(0.25, 0.38), len(columns) * rng.uniform(0.5, 0.75)
    y, x = np.ogrid[: truth.shape[0], : truth.shape[1]]
    inside = ((y - middle) / half) ** 2 + (x / depth) ** 2 < 1
    return np.where(inside & truth, rng.uniform(0.85, 1.0), tissue)


def _with_abdomen(tissue: Plane, truth: NDArray[np.bool_], what: Variation) -> tuple[Plane, NDArray[np.bool_]]:
    """Tissue under the breast, down to the frame's lower edge, and the fold between the two."""
    rows, columns = truth.shape
    y, x = np.ogrid[:rows, :columns]
    last = int(np.flatnonzero(truth.any(axis=1))[-1])
    inside = (x < what.abdomen * columns * (0.4 + 6 * np.abs(y - last) / rows)) & (y >= last - 0.08 * rows)
    return np.where(inside & ~truth, 0.22 + 0.1 * tissue.mean(axis=0)[None, :], tissue), truth | inside


def _as_shown(tissue: Plane, truth: NDArray[np.bool_], what: Variation, rng: np.random.Generator) -> Plane:
    """What the vendor does: scatter beside the skin, a background that is not black, a sigmoid, noise."""
    values = tissue / max(float(tissue.max()), 0.5)
    if what.scatter:
        size = 2 * (max(truth.shape) // 40) + 1
        halo = cv2.blur(cv2.blur(truth.astype(np.float64), (size, size)), (size, size))
        values = np.maximum(values, what.scatter * halo)
    values = what.pedestal + (1 - what.pedestal) * values
    if what.sigmoid:
        values = 1 / (1 + np.exp(-4 * (values - 0.4) / what.sigmoid))
    if what.noise:
        rough = rng.normal(0.0, what.noise, values.shape)
        values = values + np.where(truth | (what.pedestal > 0) | (what.sigmoid > 0), rough, 0.0)
    return np.clip(values, 0.0, 1.0)


def _with_surroundings(values: Plane, truth: NDArray[np.bool_], what: Variation, rng: np.random.Generator) -> Plane:
    """What lies beside the breast. Nothing of it goes over the breast, but for the film's border."""
    rows, columns = values.shape
    values = values.copy()
    outside = ~truth
    background = float(np.median(values[outside])) if outside.any() else 0.0
    bright = background + (1 - background) * 0.95
    if what.leak:  # light fogs the film, under the breast too
        width = rng.uniform(0.01, 0.05) * columns
        values += (1 - values) * what.leak * np.exp(-np.arange(columns) / width)[None, :]
    if what.stripe:  # a band of the background that is a little brighter, from side to side or from top to bottom
        band = np.zeros_like(truth)
        at, thick = rng.uniform(0.02, 0.9), rng.uniform(0.01, 0.08)
        if rng.random() < 0.5:
            band[int(at * rows) : int((at + thick) * rows)] = True
        else:
            at = rng.uniform(0.6, 0.9)
            band[:, int(at * columns) : int((at + thick) * columns)] = True
        values[band & outside] += what.stripe * (1 - background)
    if what.paddle:  # the compression paddle's edge: a thin line across the frame
        at, thick = int(rng.uniform(0.03, 0.97) * rows), max(1, round(rng.uniform(0.001, 0.004) * rows))
        line = np.zeros_like(truth)
        line[at : at + thick] = True
        values[line & outside] += what.paddle * (1 - background)
    if what.label:
        values = _with_label(values, truth, what, bright, rng)
    if what.border:
        thick = max(1, round(what.border * max(rows, columns)))
        sides = rng.random(4) < 0.7
        for on, place in zip(sides, (np.s_[:thick], np.s_[-thick:], np.s_[:, :thick], np.s_[:, -thick:]), strict=True):
            if on:
                values[place] = 1.0  # type: ignore[call-overload]  # slices and tuples of them are joined to object
    return np.clip(values, 0.0, 1.0)


def _with_label(values: Plane, truth: NDArray[np.bool_], what: Variation, bright: float, rng: np.random.Generator) -> Plane:
    """Letters, a solid plate with dark letters, or a plate that touches the skin; in the half that the breast leaves free."""
    rows, columns = values.shape
    height, width = int(0.05 * rows), int(0.14 * columns)
    canvas = np.zeros(values.shape, np.uint8)
    top = int(rng.uniform(0.04, 0.12) * rows) if rng.random() < 0.7 else int(rng.uniform(0.8, 0.9) * rows)
    left = columns - int(width * rng.uniform(1.1, 1.6))
    if what.label == "touching":
        skin = np.flatnonzero(truth[top + height // 2])
        left = min(int(skin[-1]) if len(skin) else left, columns - width)
    scale = rows / 900
    if what.label != "text":
        cv2.rectangle(canvas, (left, top), (left + width, top + height), 255, -1)
    letters = 255 if what.label == "text" else 0
    cv2.putText(
        canvas,
        f"{what.side}{what.view}",
        (left + 3, top + height - 3),
        cv2.FONT_HERSHEY_SIMPLEX,
        scale,
        letters,
        max(1, rows // 400),
    )
    return np.where((canvas > 0) & ~truth, bright, values)


@dataclass(frozen=True)
class Score:
    """Of one image."""

    what: str
    dice: float
    lost: float  # share of the true breast outside the box
    fallback: bool
    triangle: bool
    seconds: float


def score(made: Varied) -> Score:
    """Segment, and compare with the truth."""
    begun = time.perf_counter()
    found = segment(made.image, Segment(method="otsu_log"))
    seconds = time.perf_counter() - begun
    mask = (full_mask(found, *made.image.shape) > 0) & ~made.either
    box = found.tight_box
    held = int(made.truth[box.top : box.bottom, box.left : box.right].sum())
    return Score(
        str(made.what),
        float(2 * (mask & made.truth).sum() / (mask.sum() + made.truth.sum())),
        1 - held / int(made.truth.sum()),
        Flag.CC_CROP_FALLBACK in found.flags,
        Flag.CC_TRIANGLE in found.flags,
        seconds,
    )
