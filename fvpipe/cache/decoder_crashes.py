"""What is remembered of a file that ended the process of its decoder: these very versions need not die of it again."""

from __future__ import annotations

from collections.abc import Callable
from fvpipe.config.pipeline import Pipeline
from fvpipe.dicom.decoders import decoder_identity
from fvpipe.dicom.decoders import reduced_decoder
from fvpipe.imaging.canvas import frame_level
from fvpipe.reasons import Reason
from fvpipe.reasons import Rejection
from fvpipe.types import ImageRecord
import json


def decoders(image: ImageRecord, pipeline: Pipeline, identity: Callable[[str], str]) -> str:
    """The `identity` of the decoder that reads an image, and of that which reads it at a fraction of its resolution."""
    level = frame_level((image.rows, image.columns), pipeline)
    reduced = reduced_decoder(image.transfer_syntax_uid) if level else ""
    return " ".join(filter(None, (identity(image.transfer_syntax_uid), reduced)))


def crash_fact(image: ImageRecord, pipeline: Pipeline, crash: Rejection) -> str:
    """What to remember of `crash`."""
    return json.dumps([decoders(image, pipeline, decoder_identity), crash.reason, crash.detail])


def cached_crash(image: ImageRecord, pipeline: Pipeline, fact: str | None) -> Rejection | None:
    """The crash that a fact tells of; None where there is no fact, or it is of other decoders or versions."""
    if not fact:  # looking up a version takes longer than all else
        return None
    who, reason, detail = json.loads(fact)
    return Rejection(image.path, Reason(reason), detail) if who == decoders(image, pipeline, decoder_identity) else None
