"""Page of a comparison of pipelines: the differences with their intervals, and the breasts whose samples differ most."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fvpipe.comparison.detectability import Detectability
from fvpipe.comparison.pipelines import Comparison
from fvpipe.io.atomic import write_atomic
from fvpipe.report.drawing import channels_side_by_side, encode
from fvpipe.report.html import data_uri, render
from fvpipe.shards.reader import Shards
from fvpipe.types import LABEL_NAMES

CHART_WIDTH = 300  # pixels of the drawn interval


def write_comparison(results: Sequence[tuple[tuple[Shards, Shards], Comparison]], out: Path, limit: int) -> None:
    """Write the page.

    Parameters
    ----------
    results : sequence of ((Shards, Shards), Comparison)
        Shards of each data set by both pipelines, and their comparison.
    limit : int
        Number of breasts shown of each data set.

    Raises
    ------
    ShardError
        An image is damaged.
    StorageError
        The page cannot be written.
    """
    ends = [
        abs(end)
        for _, each in results
        for row in each.detectability
        for end in (row.difference.low, row.difference.high)
        if end
    ]
    scale = max([0.05, *ends]) * 1.1
    sections = [
        {
            "found": found,
            "rows": [_row(row, found, scale) for row in found.detectability],
            "cards": _cards(first, second, found, limit),
        }
        for (first, second), found in results
    ]
    write_atomic(out, render("comparison.html.jinja", sections=sections, width=CHART_WIDTH), durable=False)


def _row(row: Detectability, found: Comparison, scale: float) -> dict[str, Any]:
    def place(value: float | None) -> float | None:
        return None if value is None else round((value / scale + 1) * CHART_WIDTH / 2, 1)

    verdict = row.verdict_text(found.first, found.second)
    ends = {"low": place(row.difference.low), "value": place(row.difference.value), "high": place(row.difference.high)}
    return {"group": row, "verdict": verdict, "place": ends}


def _cards(first: Shards, second: Shards, found: Comparison, limit: int) -> list[dict[str, Any]]:
    """Both samples of a breast and their difference; breasts in the order of the first where shapes differ."""
    places = [{breast: i for i, breast in enumerate(shards.breast_ids.tolist())} for shards in (first, second)]
    chosen = [each.breast_id for each in found.pixels] or [breast for breast in places[0] if breast in places[1]]
    differences = {each.breast_id: each for each in found.pixels}
    cards = []
    for breast in chosen[:limit]:
        samples = [shards[place[breast]] for shards, place in zip((first, second), places, strict=True)]
        flat = [channels_side_by_side(sample.image) for sample in samples]
        images = [(found.first, _uri(flat[0])), (found.second, _uri(flat[1]))]
        if breast in differences:
            images.append((f"{found.first} less {found.second}: gray is 0", _uri((flat[0] - flat[1]) / 2 + 0.5)))
        cards.append({
            "breast_id": breast,
            "label": LABEL_NAMES[samples[0].label],
            "difference": differences.get(breast),
            "images": images,
        })  # fmt: skip
    return cards


def _uri(image: NDArray[np.floating[Any]]) -> str:
    return data_uri(encode(np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8), ".jpg", 88))
