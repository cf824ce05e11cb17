"""Cache of decoder crashes, keyed by decoder version, so that a crashing file is not decoded again."""

from __future__ import annotations

import json
from collections.abc import Callable

from fvpipe.config.pipeline import Pipeline
from fvpipe.dicom.decoding.decoders import decoder_identity, reduced_decoder
from fvpipe.imaging.canvas import frame_level
from fvpipe.reasons import Reason, Rejection
from fvpipe.types import ImageRecord

CRASH_VERSION = 2
"""Raised whenever crashes are found in another way. Those of 1 may be of workers that never began, or were killed."""


def decoders(image: ImageRecord, pipeline: Pipeline, identity: Callable[[str], str]) -> str:
    """The `identity` of the decoder that reads an image, and of that which reads it at a fraction of its resolution."""
    level = frame_level((image.rows, image.columns), pipeline)
    reduced = reduced_decoder(image.transfer_syntax_uid) if level else ""
    return " ".join(filter(None, (identity(image.transfer_syntax_uid), reduced)))


def encode_crash(image: ImageRecord, pipeline: Pipeline, crash: Rejection) -> str:
    """Encode a crash for the file cache."""
    return json.dumps([_by(image, pipeline), crash.reason, crash.detail])


def cached_crash(image: ImageRecord, pipeline: Pipeline, value: str | None) -> Rejection | None:
    """Decode a crash; None where there is none, or other decoders or versions crashed."""
    if not value:  # versions are slow to look up
        return None
    try:
        who, reason, detail = json.loads(value)
        return Rejection(image.path, Reason(reason), detail) if who == _by(image, pipeline) else None
    except (ValueError, TypeError):  # written by another version in another form
        return None


def _by(image: ImageRecord, pipeline: Pipeline) -> str:
    return f"{decoders(image, pipeline, decoder_identity)} found by {CRASH_VERSION}"
