"""Page of images of shard folders, made from the shards alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fvpipe.errors import InputError
from fvpipe.io.atomic import write_atomic
from fvpipe.reasons import Reason
from fvpipe.report.drawing import channels_side_by_side, encode
from fvpipe.report.figure_list import read_list
from fvpipe.report.finding_boxes import SampleFinding, read_findings
from fvpipe.report.html import data_uri, render
from fvpipe.shards.format import RECEIPT
from fvpipe.shards.reader import Sample, Shards, open_shards
from fvpipe.types import LABEL_NAMES, VIEWS

Points = NDArray[np.float64]
EDGE_POINTS = 33  # on each side of a view's part of the sample, drawn in its source


def write_page(shards: Path, out: Path, limit: int, figures: Path | None = None) -> tuple[int, int]:
    """Write the page.

    Parameters
    ----------
    shards : Path
        A shard folder, or a folder of ``<pipeline>/<dataset>`` shard folders.
    limit : int
        Images of each shard folder at most: flagged ones first, then others spread evenly.
    figures : Path or None
        Folder of figures to show as well, if `fvpipe figures` has drawn some there.

    Returns
    -------
    folders, images : int
        Number of shard folders and of images on the page.

    Raises
    ------
    InputError
        If there is no shard folder, or the list of figures is damaged.
    ShardError
        If a shard folder is damaged.
    StorageError
        If the file cannot be written.
    """
    folders = [shards] if (shards / RECEIPT).is_file() else sorted(path.parent for path in shards.glob(f"*/*/{RECEIPT}"))
    if not folders:
        raise InputError(f"{shards}: holds no shard folder; build one with `fvpipe build-shards`")
    sections = [_section(open_shards(folder), limit) for folder in folders]
    reasons = {reason.value: reason.meaning for reason in Reason}
    listed = read_list(figures) if figures else []
    drawn = [{"uri": data_uri(svg, "svg+xml"), "caption": figure.caption} for figure, svg in listed]
    write_atomic(out, render("page.html.jinja", sections=sections, reasons=reasons, figures=drawn), durable=False)
    return len(sections), sum(len(section["cards"]) for section in sections)


def _section(shards: Shards, limit: int) -> dict[str, Any]:
    receipt, findings = shards.receipt, read_findings(shards)
    return {
        "receipt": receipt,
        "name": f"{receipt.pipeline} / {receipt.dataset}",
        "anchor": f"{receipt.pipeline}-{receipt.dataset}",
        "bytes": sum(entry.bytes for entry in receipt.shards),
        "patients": len(set(shards.patient_ids.tolist())),
        "cards": [_card(shards[i], findings.get(str(shards.breast_ids[i]), [])) for i in _select(shards, limit)],
    }


def _select(shards: Shards, limit: int) -> list[int]:
    """Select flagged samples first, then others spread evenly over the shards."""
    flagged = np.flatnonzero(shards.flags).tolist()[:limit]
    others = np.flatnonzero(shards.flags == 0)
    rest = min(limit - len(flagged), len(others))
    spread = others[np.linspace(0, len(others) - 1, rest).astype(int)].tolist() if rest > 0 else []
    return [int(i) for i in (*flagged, *spread)]


def _card(sample: Sample, findings: list[SampleFinding]) -> dict[str, Any]:
    """Image of a sample, and what is drawn over it and over its sources: views, crops, findings; channels side by side."""
    image = channels_side_by_side(sample.image)
    views = []
    for i, view in enumerate(VIEWS):
        top, bottom, left, right = sample.placement[i].tolist()
        rows, columns = sample.source_shape[i].tolist()
        if not rows:  # the breast lacks this view
            continue
        box_top, box_bottom, box_left, box_right = sample.crop_box[i].tolist()
        shift = sample.image.shape[-1] * i if sample.image.ndim == 3 else 0
        place = sample.coordinates(view) if top >= 0 else None
        here = [finding.outline for finding in findings if finding.view is view] if place else []
        down = np.linspace(top, bottom, EDGE_POINTS)
        edge = np.concatenate([down, down[::-1]]), np.repeat([left, right], EDGE_POINTS)
        views.append({
            "name": view.value,
            "used": top >= 0,
            "mirrored": left > right,
            "x": min(left, right) + shift, "y": top, "width": abs(right - left), "height": bottom - top,
            "rows": rows, "columns": columns,
            "box": {"x": box_left, "y": box_top, "width": box_right - box_left, "height": box_bottom - box_top},
            "warped": bool(place and place.warped),
            "region": _polygon(*place.to_source(*edge)) if place else "",
            "findings": [_polygon(points[:, 0], points[:, 1] + shift) for points in here],
            "sources": [_polygon(*place.to_source(*points.T)) for points in here if place],
        })  # fmt: skip
    return {
        "breast_id": sample.breast_id,
        "label": LABEL_NAMES[sample.label],
        "flags": [flag.code for flag in sample.flags],
        "width": image.shape[1],
        "height": image.shape[0],
        "uri": data_uri(encode(np.rint(image * 255).astype(np.uint8), ".jpg", 88)),
        "views": views,
    }


def _polygon(rows: Points, columns: Points) -> str:
    """Points of an SVG polygon."""
    return " ".join(f"{x:.1f},{y:.1f}" for y, x in zip(rows.tolist(), columns.tolist(), strict=True))
