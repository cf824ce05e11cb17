"""What workers measure for an audit: small rows of numbers, and small images of the few that are shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2

from fvpipe.config.pipeline import Pipeline
from fvpipe.dicom.elements import RejectedFile
from fvpipe.dicom.header import HeaderPolicy
from fvpipe.dicom.pixels import decode_image
from fvpipe.errors import InputError
from fvpipe.imaging.canvas import frame_level
from fvpipe.imaging.segmentation import Attempt, examine, segment
from fvpipe.imaging.view_agreement import OF_A_VIEW
from fvpipe.indexing.headers import parse_indexed
from fvpipe.io.read import Buffer, read_contents
from fvpipe.reasons import Flag, Rejection
from fvpipe.report.figures import draw, encoded
from fvpipe.types import DecodedImage, ImageRecord, Segmentation

CARD_SIDE = 300  # pixels of the longer side of an image on the page


@dataclass(frozen=True, slots=True)
class ImageTask:
    """One image to look at, as it travels to a worker."""

    root: str
    record: ImageRecord
    state: str  # of the file, as the index listed it
    policy: HeaderPolicy
    pipeline: Pipeline


@dataclass(frozen=True, slots=True)
class Measured:
    """What one image shows. NaN where nothing was cropped.

    Attributes
    ----------
    record : ImageRecord
    method : str
        What was believed: a method, ``whole_frame`` or ``none``.
    flags : Flag
        Bits of the CC, whichever view it is.
    share : float
        The mask's share of the frame.
    aspect : float
        Width / height of the breast's box.
    threshold : float
        As a share of the range that the header declares.
    area : float
        Of the mask, in pixels of the image.
    """

    record: ImageRecord
    method: str
    flags: Flag
    share: float = math.nan
    aspect: float = math.nan
    threshold: float = math.nan
    area: float = math.nan

    @property
    def vendor(self) -> str:
        """The manufacturer as the header names it."""
        return self.record.manufacturer or "unknown"

    @property
    def group(self) -> tuple[str, str]:
        """Vendor and view."""
        return self.vendor, self.record.view.value

    @property
    def cropped(self) -> bool:
        """Whether an outline was believed."""
        return not math.isnan(self.share)

    @property
    def pixel_size(self) -> float:
        """Square millimetres of a pixel; 0 where the header does not say."""
        return (self.record.row_spacing or 0.0) * (self.record.column_spacing or 0.0)


@dataclass(frozen=True, slots=True)
class Card:
    """A small image of one image, and the thresholds that were tried on it."""

    jpeg: bytes
    attempts: tuple[Attempt, ...]


def measure_images(tasks: Sequence[ImageTask]) -> list[Measured | Rejection]:
    """On a worker: decode, segment and measure."""
    cv2.setNumThreads(1)  # the scheduler decides how many cores are used
    return [_measured(task) for task in tasks]


def _measured(task: ImageTask) -> Measured | Rejection:
    opened = _picture(task)
    if isinstance(opened, Rejection):
        return opened
    found, flags = segment(opened, task.pipeline.segment), opened.flags
    flags |= found.flags
    for flag, name in OF_A_VIEW.items():
        flags |= flag if getattr(task.record, name) else Flag(0)
    if found.mask is None:
        return Measured(task.record, found.method, flags)
    return Measured(
        task.record,
        found.method,
        flags,
        found.gates["share"],
        found.tight_box.width / max(found.tight_box.height, 1),
        _as_share(opened, found),
        found.area,
    )


def _as_share(image: DecodedImage, found: Segmentation) -> float:
    low, high = float(image.values.min()), float(image.values.max())
    return (found.threshold - low) / (high - low) if high > low else math.nan


def draw_cards(tasks: Sequence[tuple[int, ImageTask]]) -> list[tuple[int, Card | Rejection]]:
    """On a worker: draw each numbered image."""
    cv2.setNumThreads(1)
    return [(number, _card(task)) for number, task in tasks]


def _card(task: ImageTask) -> Card | Rejection:
    opened = _picture(task)
    if isinstance(opened, Rejection):
        return opened
    seen = examine(opened, task.pipeline.segment)
    jpeg = encoded(draw(opened, segment(opened, task.pipeline.segment), CARD_SIDE), ".jpg")
    return Card(jpeg, seen.attempts if seen else ())


def _picture(task: ImageTask) -> DecodedImage | Rejection:
    record = task.record
    try:
        read = read_contents(Path(task.root) / record.path, task.state, Buffer())
        header = parse_indexed(read, record, task.policy)
        if header is None:
            raise FileNotFoundError
        level = frame_level((record.rows, record.columns), task.pipeline)
        return decode_image(read.data, header, task.pipeline.voi, read.digest, level)
    except FileNotFoundError:
        raise InputError(
            f"{record.path}: is not there any more, or not what the index read. Either it changed while this ran: run it "
            "again; or the workers do not see the input folder: it must lie on storage that they share"
        ) from None
    except OSError as error:
        return Rejection.unreadable(record.path, error)
    except RejectedFile as rejected:
        return Rejection(record.path, rejected.reason, rejected.detail)
