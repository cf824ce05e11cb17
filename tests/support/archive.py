"""Simulated mammograms with the situations of real archives, each from its seed alone, with the truth for each body part.

The breast is drawn by :mod:`fvpipe.simulation.drawing` with its chest wall on the left. An implant, an arm and an abdomen are
added to the tissue, a style of intensities turns that into values in [0, 1], disturbances of air and frame follow, and the
result is mirrored, stored as a DICOM file and decoded. The disturbances are those of :mod:`tests.support.disturbances`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fvpipe.imaging.decoded_image import DecodedImage
from fvpipe.simulation.drawing import Anatomy, anatomy, draw
from fvpipe.types import CropBox, Laterality, View
from tests.support.decoding import decode
from tests.support.disturbances import (
    Plane,
    clipped,
    with_glow,
    with_negative,
    with_pedestal,
    with_ramp,
    with_two_levels,
    with_vignette,
)
from tests.support.factory import CC, LEFT, MLO, RIGHT, dataset, file_bytes
from tests.support.variations import SHAPES

Area = NDArray[np.bool_]

KINDS = (
    "implant", "arm", "abdomen", "margin", "ramp", "two_levels", "vignette", "pedestal", "negative", "glow", "plate", "narrow",
)  # fmt: skip
EXCLUSIVE = (
    {"ramp", "vignette"},  # one surface is the sum of both, higher than either may be
    {"implant", "pedestal", "plate", "two_levels"},  # each sets the level of air
    {"implant", "ramp"},  # these three are brighter than the faintest tissue beside an implant: nothing tells them apart
    {"implant", "vignette"},
    {"implant", "glow"},
    {"implant", "narrow"},  # there is no room for one
    {"glow", "margin"},  # glow is drawn along the edge of the frame, not of the film
    {"glow", "two_levels"},  # light leaks into films, which no collimator's black surrounds
    {"arm", "plate"},  # the plate is put against the axilla, where the arm is
    {"narrow", "arm"},  # arm and abdomen would make the box wide
    {"narrow", "abdomen"},
)
"""Sets of kinds of which a case that is drawn at random has one at most."""

STYLES = {"ge": (12,), "hologic": (12,), "film": (8, 16), "other": (14,)}
"""Styles of intensities, and the bits that each is stored in."""

SKIN = 0.035  # brightness of the skin, as of `draw`


@dataclass(frozen=True)
class ArchiveCase:
    """Parameters of one image: 0, empty or False where a situation is absent.

    Attributes
    ----------
    shape : (int, int)
        Rows and columns of the frame.
    style : str
        One of :data:`STYLES`.
    base, noise : float
        Level of air, and the standard deviation of its noise, as shares of the range.
    implant : float
        Typical tissue, as a share of the implant's value.
    arm : float
        Columns over which the arm reaches, as a share of the frame's; at least an eighth of them lie beyond the breast.
    abdomen : float
        Reach of the abdomen from the chest wall, as a share of the breast's depth.
    fold : bool
        The abdomen is a narrow second fold of skin.
    margin, top, bottom : float
        Widths of the strips between the frame and the film, as shares of the frame: beside the chest wall, above, below.
    strip : str
        Contents of these strips: ``black``, ``base`` (constant grey) or ``air``.
    ramp : float
        Height of the ramp as a share of the range.
    ramp_edge : str
        Edge at which the ramp is highest: ``left`` (chest wall), ``right``, ``top`` or ``bottom``, before mirroring.
    ramp_air : bool
        The ramp fades below the skin, instead of being added to everything.
    two_levels, vignette, pedestal, glow : float
        Amounts, as shares of the range: air beside black collimation, bright corners (negative: bright center), pedestal,
        and glow along the chest wall.
    plate : str
        ``solid`` or ``letters``.
    narrow : float
        Width of the breast's box divided by its height.
    """

    seed: int
    kinds: tuple[str, ...]
    shape: tuple[int, int]
    view: View
    side: Laterality
    style: str
    bits: int
    base: float = 0.0
    noise: float = 0.0
    padding: bool = False
    implant: float = 0.0
    arm: float = 0.0
    abdomen: float = 0.0
    fold: bool = False
    margin: float = 0.0
    top: float = 0.0
    bottom: float = 0.0
    strip: str = ""
    ramp: float = 0.0
    ramp_edge: str = ""
    ramp_air: bool = False
    two_levels: float = 0.0
    vignette: float = 0.0
    pedestal: float = 0.0
    negative: bool = False
    glow: float = 0.0
    plate: str = ""
    narrow: float = 0.0

    def __str__(self) -> str:
        told = ((f.name, getattr(self, f.name)) for f in fields(self))
        return ", ".join(
            f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {'+'.join(value) if name == 'kinds' else value}"
            for name, value in told
            if value or name == "seed"
        )


@dataclass(frozen=True)
class ArchiveImage:
    """A drawn case as the reader gives it.

    Attributes
    ----------
    image : DecodedImage
        Read from a DICOM file.
    breast : bool array, shape (rows, columns)
        True inside the breast, with its axilla, pectoral muscle and implant.
    implant, arm, abdomen : bool array, shape (rows, columns)
        The implant is a part of the breast; the arm and the abdomen (or second fold) are not.
    """

    case: ArchiveCase
    image: DecodedImage
    breast: Area
    implant: Area
    arm: Area
    abdomen: Area


def archive_case(seed: int, kinds: Sequence[str] | None = None, longest: int | None = None) -> ArchiveCase:
    """Draw the parameters of a case at random.

    Parameters
    ----------
    seed : int
        Source of the case and of its image.
    kinds : sequence of str, optional
        Situations to draw, of :data:`KINDS`. If not given: none in 15 % of the seeds, one in 55 %, two or three in 30 %.
    longest : int, optional
        Pixels of the longer side. If not given: 500 to 1,100, and of every 25th seed a published size.
    """
    rng = np.random.default_rng([80, seed])
    chosen = _draw_kinds(rng) if kinds is None else tuple(kinds)
    if unknown := set(chosen) - set(KINDS):
        raise ValueError(f"no kind {', '.join(sorted(unknown))}; known: {', '.join(KINDS)}")

    def one(*values: Any) -> Any:
        return values[int(rng.integers(len(values)))]

    rows, columns = one(*SHAPES)
    height = longest or (rows if seed % 25 == 0 else int(rng.integers(500, 1101)))
    mlo = "arm" in chosen or rng.random() < (0.8 if "abdomen" in chosen else 0.5)
    if "implant" in chosen:
        style = one("hologic", "other")
    elif {"glow", "plate"} & set(chosen):
        style = "film"
    else:
        style = one(*STYLES)
    base = {"ge": 30 / 4095, "film": rng.uniform(0.01, 0.10), "other": one(0.0, rng.uniform(0.002, 0.01))}.get(style, 0.0)
    noise = {"ge": 0.0007, "film": 0.010 * 0.1 ** rng.random(), "other": one(0.0, 0.001)}.get(style, 0.0)
    set_: dict[str, Any] = {}
    for kind in chosen:
        if kind == "implant":
            set_["implant"] = math.exp(rng.uniform(math.log(0.015), math.log(0.30)))
            base, noise = 0.0, one(0.0, rng.uniform(0.01, 0.08) * set_["implant"])
        elif kind == "arm":
            set_["arm"] = min(rng.uniform(0.4, 1.15), 1.0)
        elif kind == "abdomen":
            fold = not mlo or bool(rng.random() < 0.35)
            set_ |= {"abdomen": rng.uniform(0.3, 0.8 if fold else 1.1), "fold": fold}
        elif kind == "margin":
            set_ |= {"margin": rng.uniform(0.005, 0.20), "strip": one("black", "air", *["base"] * (style == "film"))}
            if style == "film" and rng.random() < 0.5:
                set_ |= {"top": rng.uniform(0, 0.06), "bottom": rng.uniform(0, 0.06)}
        elif kind == "ramp":
            edge = one("left", "right", "top", "bottom")
            set_ |= {"ramp": rng.uniform(0.02, 0.10), "ramp_edge": edge, "ramp_air": bool(rng.random() < 0.5)}
        elif kind == "two_levels":
            set_["two_levels"], noise = rng.uniform(0.03, 0.10), max(noise, 0.001)
        elif kind == "vignette":
            set_["vignette"] = rng.uniform(0.02, 0.08) * one(-1, 1)
        elif kind == "pedestal":
            set_["pedestal"], noise = rng.uniform(0.07, 0.10), max(noise, rng.uniform(0.003, 0.010))
        elif kind == "plate":
            set_["plate"], base = one("solid", "letters"), rng.uniform(0.05, 0.15)
        else:
            set_[kind] = {"negative": True, "glow": rng.uniform(0.02, 0.05), "narrow": rng.uniform(0.12, 0.30)}[kind]
    plain = style == "hologic" and not noise and not {"two_levels", "negative"} & set(chosen)
    set_["padding"] = bool(plain and rng.random() < 0.5)
    return ArchiveCase(
        seed, chosen, (height, columns * height // rows), MLO if mlo else CC, one(LEFT, RIGHT), style, one(*STYLES[style]),
        base, noise, **set_,
    )  # fmt: skip


def _draw_kinds(rng: np.random.Generator) -> tuple[str, ...]:
    """Draw compatible situations; a negative has one other at most."""
    count = int(rng.choice(4, p=[0.15, 0.55, 0.20, 0.10]))
    chosen: list[str] = []
    for kind in map(str, rng.permutation(KINDS)):
        several = [*chosen, kind]
        apart = any(len(group & set(several)) > 1 for group in EXCLUSIVE)
        if len(several) <= (min(count, 2) if "negative" in several else count) and not apart:
            chosen = several
    return tuple(chosen)


# --- drawing ----------------------------------------------------------------------------------------------------------


def draw_archive(case: ArchiveCase) -> ArchiveImage:
    """Draw a case, write it as a file in Explicit VR Little Endian, and decode that."""
    rng = np.random.default_rng([81, case.seed])
    rows, columns = case.shape
    tissue, breast = _breast(rng, case, (rows - round(rows * (case.top + case.bottom)), columns - round(columns * case.margin)))
    arm = _arm(rng, case, breast) if case.arm else np.zeros_like(breast)
    abdomen = _abdomen(rng, case, breast) & ~arm if case.abdomen else np.zeros_like(breast)
    tissue = _with_body(rng, tissue, breast, arm | abdomen) if case.arm or case.abdomen else tissue
    implant = _implant(rng, breast) if case.implant else np.zeros_like(breast)
    depth = _distance(breast | arm | abdomen)
    signal = _signal(rng, case, tissue, depth, implant)
    planes = [signal, depth, *(area.astype(np.float64) for area in (breast, implant, arm, abdomen))]
    above = round(rows * case.top)
    strips = (above, rows - breast.shape[0] - above), (columns - breast.shape[1], 0)
    signal, depth, *areas = (np.pad(plane, strips) for plane in planes)
    breast, implant, arm, abdomen = (area > 0 for area in areas)
    values = _disturbed(rng, case, signal, depth, breast, breast | arm | abdomen)
    if case.strip in ("black", "base"):
        outside = ~np.pad(np.ones(planes[0].shape, np.bool_), strips)
        values[outside] = rng.uniform(0.02, 0.12) if case.strip == "base" else 0.0
    if case.negative:
        values = with_negative(values)
    stored = np.rint(values * ((1 << case.bits) - 1)).astype(np.uint8 if case.bits == 8 else np.uint16)
    if case.padding:
        stored = np.where(breast | arm | abdomen, np.maximum(stored, 1), stored)
    mirror = slice(None, None, -1 if case.side is RIGHT else 1)
    pixels = np.ascontiguousarray(stored[:, mirror])
    tags: dict[str, Any] = {"PixelPaddingValue": 0} if case.padding else {}
    header = dataset(pixels, case.bits, ImageLaterality=case.side.value, view=case.view, **tags)
    image = decode(file_bytes(header, pixels), case.side)
    return ArchiveImage(case, image, *(np.ascontiguousarray(area[:, mirror]) for area in (breast, implant, arm, abdomen)))


def _breast(rng: np.random.Generator, case: ArchiveCase, shape: tuple[int, int]) -> tuple[Plane, Area]:
    """Draw the breast: narrow on a narrower sheet, and higher up where an abdomen needs room."""
    rows, columns = shape
    breast, width = anatomy(rng, bool(rng.random() < 0.3)), columns
    if case.narrow:
        height = 2 * breast.height if case.view is CC else 0.6 + breast.height
        breast = Anatomy(breast.height, case.narrow * height / (2 * breast.height), breast.density, breast.lesion)
        width = min(columns, int(1.9 * case.narrow * height * rows))  # the axilla is half to three quarters as wide
    drawing = draw(rng, (rows, width), case.view, LEFT, breast)
    up = round(rng.uniform(0.06, 0.14) * rows) if case.abdomen else 0
    room = (0, up), (0, columns - width)
    return np.pad(drawing.tissue[up:], room), np.pad(drawing.mask[up:], room)


def _arm(rng: np.random.Generator, case: ArchiveCase, breast: Area) -> Area:
    """Outline the arm: a tapering strip along the top, with a round end unless it leaves the frame."""
    rows, columns = breast.shape
    y, x = np.ogrid[:rows, :columns]
    thick, taper = rng.uniform(0.07, 0.18) * rows, rng.uniform(0.2, 0.8)
    skin = int(np.flatnonzero(breast[: int(thick)].any(axis=0))[-1])
    reach = max(case.arm * columns, skin + 0.125 * columns)
    lower = thick * (1 - taper * x / reach)
    cap = rng.uniform(0.5, 1.0) * thick
    if reach < columns:
        lower = lower * np.sqrt(np.clip(1 - (np.maximum(x - (reach - cap), 0) / cap) ** 2, 0, 1))
    return _joined(breast, y < lower)


def _abdomen(rng: np.random.Generator, case: ArchiveCase, breast: Area) -> Area:
    """Outline the abdomen or a second fold: an oval at the chest wall that leaves the breast's lower contour in a notch."""
    rows, columns = breast.shape
    y, x = np.ogrid[:rows, :columns]
    depth = int(np.flatnonzero(breast.any(axis=0))[-1])
    reach = case.abdomen * depth
    notch = rng.uniform(0.2, 0.5) * min(reach, 0.7 * depth)
    height = max((rng.uniform(0.05, 0.08) if case.fold else rng.uniform(0.12, 0.25)) * rows, reach / 4)
    middle = int(np.flatnonzero(breast[:, int(notch)])[-1]) + height * math.sqrt(1 - (notch / reach) ** 2)
    return _joined(breast, ((y - middle) / height) ** 2 + (x / reach) ** 2 < 1)


def _with_body(rng: np.random.Generator, tissue: Plane, breast: Area, body: Area) -> Plane:
    """Fill arm and abdomen with fatty tissue that goes over into the breast without a line."""
    size = 0.05 * max(breast.shape)
    lattice = rng.uniform(0.8, 1.2, (24, 20))
    texture = np.asarray(cv2.resize(lattice, breast.shape[::-1], interpolation=cv2.INTER_CUBIC), np.float64)
    thickness = np.sqrt(np.minimum(1.0, _distance(breast | body) / size))
    near = 1 - np.minimum(1.0, _distance(~body) / size)
    added = np.maximum(rng.uniform(0.16, 0.30) * texture * thickness * near, SKIN)
    return np.where(breast | body, np.maximum(tissue, np.where(near > 0, added, 0.0)), 0.0)


def _implant(rng: np.random.Generator, breast: Area) -> Area:
    """Outline the implant: an oval at the chest wall, in the middle of the breast's round part."""
    rows, columns = breast.shape
    y, x = np.ogrid[:rows, :columns]
    width = cv2.blur(breast.sum(axis=1).astype(np.float64)[:, None], (1, rows // 20)).ravel()
    widest = int(width.argmax())
    height = rng.uniform(0.5, 0.8) * (int(np.flatnonzero(width)[-1]) - widest)
    depth = rng.uniform(0.5, 0.78) * width[widest]
    return breast & (((y - widest) / height) ** 2 + (x / depth) ** 2 < 1)


def _signal(rng: np.random.Generator, case: ArchiveCase, tissue: Plane, depth: Plane, implant: Area) -> Plane:
    """Turn tissue into values above air as the style does, with a skin that is not sharper than a detector or film shows."""
    rows = max(tissue.shape)
    bright = np.minimum(tissue / 0.8, 1.0)
    if case.implant:
        level = rng.uniform(0.85, 1.0)
        typical = float(np.median(tissue[(depth > 0) & ~implant]))
        around = case.implant * level * np.clip(0.45 + 0.55 * tissue / typical, 0.0, 2.0)
        inside = cv2.GaussianBlur(implant.astype(np.float64), (0, 0), 0.002 * rows)
        signal = np.where(depth > 0, np.maximum(np.minimum(around, 0.8 * level), level * inside), 0.0)
    elif case.style == "ge":
        rise = 1 - np.exp(-depth / (rng.uniform(0.002, 0.005) * rows))
        signal = rise * (2400 + 1600 * bright**1.2) / 4095
    else:
        power, used = {"hologic": (0.5, 0.95), "film": (0.8, 0.9), "other": (1.2, 0.8)}[case.style]
        signal = used * bright**power
    return np.asarray(cv2.GaussianBlur(signal, (0, 0), max(0.7, rng.uniform(0.0008, 0.002) * rows)), np.float64)


def _disturbed(rng: np.random.Generator, case: ArchiveCase, signal: Plane, depth: Plane, breast: Area, tissue: Area) -> Plane:
    """Add air, noise, and what the case asks for besides."""
    loud = 0.05 * case.implant if case.implant else 0.006
    rough = rng.normal(0.0, 1.0, signal.shape)
    if case.style == "film":  # grain is coarser than a pixel
        rough = np.asarray(cv2.GaussianBlur(rough, (0, 0), 0.6), np.float64) * 1.9
    values = clipped(case.base + (1 - case.base) * signal + rough * (case.noise + loud * np.sqrt(signal)))
    if case.pedestal:
        values = with_pedestal(values, case.pedestal, 0.0, rng)
    if case.glow:
        values = with_glow(values, case.glow, rng.uniform(0.04, 0.14), "left", bool(rng.random() < 0.7), rng.uniform(0.2, 0.8))
    if case.ramp:
        share = 1 - np.minimum(1.0, depth / (0.05 * max(depth.shape))) if case.ramp_air else 1.0
        values = with_ramp(values, case.ramp, case.ramp_edge, share)
    if case.vignette:
        values = with_vignette(values, case.vignette)
    if case.two_levels:
        values = with_two_levels(values, case.two_levels, _field(rng, tissue))
    return _with_plate(rng, case, values, breast, tissue) if case.plate else values


def _field(rng: np.random.Generator, tissue: Area) -> CropBox:
    """Draw the field of the collimator: it holds all tissue, and ends before the far edge, sometimes above and below too."""
    rows, columns = tissue.shape
    box = bounding_box(tissue)
    top, bottom = (box.top, rows - box.bottom) if rng.random() < 0.5 else (0, 0)
    spare = columns - box.right
    return CropBox(
        int(top * rng.uniform(0.3, 0.8)), rows - int(bottom * rng.uniform(0.3, 0.8)), 0,
        columns - max(int(spare * rng.uniform(0.3, 0.8)), min(spare, columns // 20)),
    )  # fmt: skip


def _with_plate(rng: np.random.Generator, case: ArchiveCase, values: Plane, breast: Area, tissue: Area) -> Plane:
    """Put a label plate against the skin above the nipple, or against the axilla."""
    rows, columns = values.shape
    box, canvas = bounding_box(breast), np.zeros(values.shape, np.uint8)
    height, width = int(rng.uniform(0.04, 0.08) * rows), int(rng.uniform(0.15, 0.28) * columns)
    top = int(box.top + rng.uniform(0.02, 0.30) * box.height)
    left = int(np.flatnonzero(breast[top + height // 2])[-1]) - 2
    if case.plate == "solid":
        cv2.rectangle(canvas, (left, top), (left + width, top + height), 255, -1)
    scale, line = height / 30, max(1, height // 10)
    text = (f"{case.side}{case.view}", (left, top + height - 2), cv2.FONT_HERSHEY_SIMPLEX, scale)
    cv2.putText(canvas, *text, 0 if case.plate == "solid" else 255, line)
    return np.where((canvas > 0) & ~tissue, 0.95, values)


def _joined(breast: Area, body: Area) -> Area:
    """Outline of arm or abdomen outside the breast, with the corners of the two rounded."""
    outside = (_rounded(breast | body) & ~_rounded(breast) & ~breast).astype(np.uint8)
    count, labels, sizes, _ = cv2.connectedComponentsWithStats(outside)
    return np.asarray(labels == 1 + int(sizes[1:, cv2.CC_STAT_AREA].argmax())) if count > 1 else outside > 0


def _rounded(area: Area) -> Area:
    """Round the corners as skin does."""
    smooth = cv2.GaussianBlur(area.astype(np.float32), (0, 0), 0.006 * max(area.shape), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(smooth > 0.5)


def _distance(area: Area) -> Plane:
    """Distance of each pixel inside to the nearest one outside, in pixels."""
    return cv2.distanceTransform(area.astype(np.uint8), cv2.DIST_L2, 5).astype(np.float64)


def bounding_box(area: Area) -> CropBox:
    """Smallest box that holds all of an area."""
    rows, columns = np.flatnonzero(area.any(axis=1)), np.flatnonzero(area.any(axis=0))
    return CropBox(int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)
