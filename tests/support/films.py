"""The eight real CBIS-DDSM films with disturbances of their air, compared with boxes that were drawn by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fvpipe.config.pipeline import Segment
from fvpipe.datasets.registry import get_adapter
from fvpipe.dicom.decoding.pixels import decode_image
from fvpipe.dicom.header import read_header
from fvpipe.dicom.image_header import ImageHeader
from fvpipe.imaging.decoded_image import DecodedImage
from fvpipe.imaging.segmentation.segment import segment
from fvpipe.types import CropBox, Edge, Laterality
from tests.support.archive_scores import FLAGGED
from tests.support.decoding import decode
from tests.support.disturbances import (
    Plane,
    with_margin,
    with_negative,
    with_pedestal,
    with_ramp,
    with_two_levels,
    with_vignette,
)
from tests.support.factory import LEFT, RIGHT, dataset, file_bytes

BY_HAND: dict[str, list[int]] = json.loads((Path(__file__).parents[1] / "data" / "hand-drawn.json").read_text())
"""Top, bottom, left, right of the breast, drawn by eye on a ruler; docs/segmentation.md says how."""


@dataclass(frozen=True)
class DisturbedFilm:
    """Box of one film with one disturbance.

    Attributes
    ----------
    name, kind, how : str
        File, kind of the disturbance, and the disturbance.
    moved : float64 array, shape (4,)
        How far top, bottom, left and right lie from those drawn by hand, as shares of the frame.
    flagged : bool
        The crop is the whole frame, loose or doubtful.
    """

    name: str
    kind: str
    how: str
    moved: NDArray[np.float64]
    flagged: bool


def disturbed_films(folder: Path) -> Iterator[DisturbedFilm]:
    """Segment each film in `folder`, at half its size, with each disturbance."""
    for name, expected in BY_HAND.items():
        header = read_header(folder, name, get_adapter("cbis").policy)
        assert isinstance(header, ImageHeader)
        clean = decode_image((folder / name).read_bytes(), header)
        left = clean.chest_wall is Edge.LEFT
        film = clean.stored[::2, ::2] / 65535
        for kind, how, values, added in _disturbances(film if left else film[:, ::-1]):
            image = decoded(values if left else values[:, ::-1], LEFT if left else RIGHT)
            found = segment(image, Segment(method="otsu_log"))
            before = added if left else 0
            moved = (np.array(found.tight_box.as_tuple()) - (0, 0, before, before)) * 2 - expected
            yield DisturbedFilm(name, kind, how, moved / np.repeat(clean.stored.shape, 2), bool(found.flags & FLAGGED))


def _disturbances(film: Plane) -> Iterator[tuple[str, str, Plane, int]]:
    """Kind and name of each disturbance, the film with it, the chest wall on the left, and the columns added before it."""
    for amount in (0.03, 0.05, 0.10):
        for edge in ("left", "top", "right", "bottom"):
            yield "ramp", f"ramp of {amount} from the {edge}", with_ramp((1 - amount) * film, amount, edge), 0
    for share in (0.03, 0.05, 0.12, 0.20):
        for level in (0.0, 0.06):
            wide = with_margin(film, share, "left", level)
            yield "margin", f"margin of {share} at {level}", wide, wide.shape[1] - film.shape[1]
    rows, columns = film.shape
    yield "pedestal", "pedestal", with_pedestal(film, 0.08, 0.004, np.random.default_rng(0)), 0
    yield "two levels", "black beside grey air", with_two_levels(film, 0.06, CropBox(0, rows, 0, round(0.92 * columns))), 0
    yield "vignette", "vignette", with_vignette(0.95 * film, 0.05), 0
    yield "negative", "negative", with_negative(film), 0


def decoded(values: Plane, side: Laterality) -> DecodedImage:
    """Write values in [0, 1] as a file of 16 bits, and decode it."""
    pixels = np.rint(np.clip(values, 0.0, 1.0) * 65535).astype(np.uint16)
    return decode(file_bytes(dataset(pixels, 16, ImageLaterality=side.value), pixels), side)
