"""What fvpipe makes of one DICOM file, and what is in a shard folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fvpipe.datasets import adapter
from fvpipe.dicom import Refused, read_header
from fvpipe.errors import InputError, StorageError
from fvpipe.files import write_whole
from fvpipe.params import load_pipeline
from fvpipe.pixels import DECODERS, read_picture
from fvpipe.segment import GATES, segment
from fvpipe.shards import open_shards
from fvpipe.types import Picture, Reason, Rejection, Segmentation

LONGER_SIDE = 900  # pixels of the drawn picture


def inspect_dicom(path: Path, adapter_name: str, pipeline_name: str, png: Path | None) -> dict[str, Any]:
    """Every decision on one file, without anything of a patient's identity.

    Returns
    -------
    dict
        With ``reason`` and ``detail`` where the file is refused.

    Raises
    ------
    InputError
        The file cannot be read.
    """
    _, pipeline = load_pipeline(pipeline_name)
    try:
        record = read_header(path.parent, path.name, adapter(adapter_name).policy)
        if isinstance(record, Rejection):
            return _refused(record.reason, record.detail)
        picture = read_picture(path.read_bytes(), record.laterality, pipeline.voi)
    except Refused as refused:
        return _refused(refused.reason, refused.detail)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    found = segment(picture, pipeline.segment)
    syntax = record.transfer_syntax_uid
    if png is not None:
        _write_png(png, draw(picture, found))
    return {
        "view": record.view.value,
        "laterality": record.laterality.value,
        "rows, columns": list(picture.shape),
        "bits stored": record.bits_stored,
        "photometric interpretation": record.photometric_interpretation,
        "transfer syntax": syntax,
        "decoder": DECODERS[syntax].identity if syntax in DECODERS else "none needed",
        "lossy": bool(syntax in DECODERS and DECODERS[syntax].lossy),
        "stored values": [int(picture.stored.min()), int(picture.stored.max())],
        "padding declared": picture.padding is not None,
        "chest wall expected": picture.chest_wall.value,
        "segmentation": found.method,
        "threshold": None if np.isnan(found.threshold) else found.threshold,
        "gates": {
            name: f"{value:.3f} (expected {GATES[name][0]:g} to {GATES[name][1]:g})" for name, value in found.gates.items()
        },
        "breast box": list(found.tight_box.as_tuple()),
        "crop box": list(found.box.as_tuple()),
        "flags": [str(flag.name).lower().removeprefix("cc_") for flag in found.flags | picture.flags],
        "implant": record.implant,
        "source digest": picture.source_digest,
        "pixel digest": picture.pixel_digest,
    }


def _refused(reason: Reason, detail: str) -> dict[str, Any]:
    return {"refused": True, "reason": reason.value, "meaning": reason.meaning, "detail": detail}


def draw(picture: Picture, found: Segmentation) -> NDArray[np.uint8]:
    """The picture with the breast's outline (red), its box (yellow) and the crop (green); uint8 BGR."""
    scale = min(1.0, LONGER_SIDE / max(picture.shape))
    rows, columns = (max(1, round(side * scale)) for side in picture.shape)
    values = picture.values[picture.stored[:: max(1, int(1 / scale)), :: max(1, int(1 / scale))]]
    low, high = np.percentile(values, [0.5, 99.5])
    grey = np.clip((values - low) / max(high - low, 1e-9) * 255, 0, 255).astype(np.uint8)
    canvas = cv2.cvtColor(cv2.resize(grey, (columns, rows), interpolation=cv2.INTER_AREA), cv2.COLOR_GRAY2BGR)
    if found.mask is not None:
        mask = cv2.resize(found.mask, (columns, rows), interpolation=cv2.INTER_NEAREST)
        contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, contours, -1, (60, 60, 255), 1)
    for box, colour in ((found.tight_box, (0, 220, 255)), (found.box, (80, 220, 80))):
        corner = (round(box.left * scale), round(box.top * scale))
        opposite = (round(box.right * scale) - 1, round(box.bottom * scale) - 1)
        cv2.rectangle(canvas, corner, opposite, colour, 2)
    return np.asarray(canvas, np.uint8)


def _write_png(path: Path, image: NDArray[np.uint8]) -> None:
    done, data = cv2.imencode(".png", image)
    if not done:
        raise StorageError(f"{path}: the picture could not be encoded")
    write_whole(path, data.tobytes(), durable=False)


def inspect_shards(folder: Path) -> dict[str, Any]:
    """What a shard folder holds.

    Raises
    ------
    ShardError
        It is damaged, or no shard folder.
    """
    opened = open_shards(folder)
    receipt = opened.receipt
    return {
        "folder": os.fspath(folder),
        "data set": receipt.dataset + (" (made data)" if receipt.made else ""),
        "license": receipt.license,
        "pipeline": receipt.pipeline,
        "pipeline digest": receipt.pipeline_digest,
        "preprocessing version": receipt.preprocessing_version,
        "samples": receipt.samples,
        "patients": len(set(opened.patient_ids.tolist())),
        "image": {
            "shape": list(opened.image_shape),
            "files": len(receipt.shards),
            "bytes": sum(e.bytes for e in receipt.shards),
        },
        "labels": receipt.labels,
        "flags": receipt.flags,
        "rejections": receipt.rejections,
        "settings": dict(line.split(": ", 1) for line in receipt.pipeline_yaml.splitlines() if ": " in line),
    }


def to_text(found: Mapping[str, Any]) -> str:
    """Aligned lines for a terminal."""
    lines = []
    for key, value in found.items():
        if isinstance(value, Mapping):
            value = ", ".join(f"{k} {v}" for k, v in value.items()) or "none"
        elif isinstance(value, list):
            value = ", ".join(str(part) for part in value) or "none"
        lines.append(f"{key:28}{value}")
    return "\n".join(lines)
