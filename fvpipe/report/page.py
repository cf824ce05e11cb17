"""A page of images, made from the shards alone, that opens without a network."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, select_autoescape

from fvpipe.errors import InputError
from fvpipe.io.atomic import write_whole
from fvpipe.reasons import Flag, Reason
from fvpipe.shards.format import RECEIPT
from fvpipe.shards.reader import Sample, Shards, open_shards
from fvpipe.types import LABEL_NAMES, VIEWS


def write_page(shards: Path, out: Path, limit: int) -> tuple[int, int]:
    """Write the page.

    Parameters
    ----------
    shards : Path
        Folder that holds ``<pipeline>/<dataset>`` shard folders, or one shard folder.
    out : Path
    limit : int
        Images of each shard folder at most: flagged ones first, then spread evenly.

    Returns
    -------
    (int, int)
        Shard folders and images.

    Raises
    ------
    InputError
        There is no shard folder.
    ShardError, StorageError
    """
    folders = [shards] if (shards / RECEIPT).is_file() else sorted(path.parent for path in shards.glob(f"*/*/{RECEIPT}"))
    if not folders:
        raise InputError(f"{shards}: holds no shard folder; build one with `fvpipe build-shards`")
    sections = [_section(open_shards(folder), limit) for folder in folders]
    environment = Environment(loader=PackageLoader("fvpipe.report"), autoescape=select_autoescape(), trim_blocks=True)
    reasons = {reason.value: reason.meaning for reason in Reason}
    page = environment.get_template("page.html.jinja").render(sections=sections, reasons=reasons)
    write_whole(out, page.encode(), durable=False)
    return len(sections), sum(len(section["cards"]) for section in sections)


def _section(shards: Shards, limit: int) -> dict[str, Any]:
    receipt = shards.receipt
    return {
        "receipt": receipt,
        "name": f"{receipt.pipeline} / {receipt.dataset}",
        "anchor": f"{receipt.pipeline}-{receipt.dataset}",
        "bytes": sum(entry.bytes for entry in receipt.shards),
        "patients": len(set(shards.patient_ids.tolist())),
        "cards": [_card(shards[i]) for i in _chosen(shards, limit)],
    }


def _chosen(shards: Shards, limit: int) -> list[int]:
    """Flagged samples first, then others spread evenly over the shards."""
    flagged = np.flatnonzero(shards.flags).tolist()[:limit]
    others = np.flatnonzero(shards.flags == 0)
    rest = min(limit - len(flagged), len(others))
    spread = others[np.linspace(0, len(others) - 1, rest).astype(int)].tolist() if rest > 0 else []
    return [int(i) for i in (*flagged, *spread)]


def _card(sample: Sample) -> dict[str, Any]:
    """One image, and where its views and crops lie, ready to be drawn over it."""
    image = sample.image if sample.image.ndim == 2 else np.concatenate(list(sample.image), axis=1)
    data = cv2.imencode(".jpg", np.rint(image * 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes()
    views = []
    for i, view in enumerate(VIEWS):
        top, bottom, left, right = (float(n) for n in sample.placement[i])
        rows, columns = (int(n) for n in sample.source_shape[i])
        box_top, box_bottom, box_left, box_right = (int(n) for n in sample.crop_box[i])
        shift = sample.image.shape[-1] * i if sample.image.ndim == 3 else 0
        views.append({
            "name": view.value,
            "used": top >= 0,
            "mirrored": left > right,
            "x": min(left, right) + shift, "y": top, "width": abs(right - left), "height": bottom - top,
            "rows": rows, "columns": columns,
            "box": {"x": box_left, "y": box_top, "width": box_right - box_left, "height": box_bottom - box_top},
        })  # fmt: skip
    return {
        "breast_id": sample.breast_id,
        "label": LABEL_NAMES[sample.label],
        "flags": [str(flag.name).lower() for flag in Flag if flag in sample.flags],
        "width": image.shape[1],
        "height": image.shape[0],
        "uri": "data:image/jpeg;base64," + base64.b64encode(data).decode(),
        "views": views,
    }
