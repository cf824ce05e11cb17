"""Readers' findings of a shard folder, as they lie in the samples."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fvpipe.errors import ShardError
from fvpipe.io.tables import read_own_table
from fvpipe.shards.format import check_table
from fvpipe.shards.reader import Shards
from fvpipe.types import View

EDGES = ("top", "bottom", "left", "right")  # of a box


@dataclass(frozen=True, slots=True, eq=False)
class SampleFinding:
    """A finding on a view that the sample shows."""

    view: View  # on which it was drawn
    number: int  # place among the findings of its view, in the order of the table, from 1
    box: tuple[float, ...]  # top, bottom, left, right in source pixels
    outline: NDArray[np.float64]  # (n, 2): corners of the box in the sample: rows and columns


def read_findings(shards: Shards) -> dict[str, list[SampleFinding]]:
    """Read the findings of each breast, by its id; empty where the data set has none.

    Raises
    ------
    ShardError
        ``findings.csv`` is not the table that the receipt lists.
    """
    file = shards.folder / "findings.csv"
    found: dict[str, list[SampleFinding]] = {}
    if file.name not in shards.receipt.tables:
        return found
    check_table(file, shards.receipt)
    count: Counter[tuple[str, str]] = Counter()
    try:
        for row in read_own_table(file, ["breast_id", "view", *EDGES, *(f"image_{edge}" for edge in EDGES)]):
            breast, view = row["breast_id"], row["view"]
            count[breast, view] += 1
            if not row["image_top"]:  # of a view that is not in the image
                continue
            top, bottom, left, right = (float(row[f"image_{edge}"]) for edge in EDGES)
            corners = [[top, left], [top, right], [bottom, right], [bottom, left]]
            outline = [[float(number) for number in point.split(",")] for point in row.get("image_outline").split()]
            finding = SampleFinding(
                View(view),
                count[breast, view],
                tuple(float(row[edge]) for edge in EDGES),
                np.array(outline or corners).reshape(-1, 2),
            )
            found.setdefault(breast, []).append(finding)
    except (OSError, ValueError) as error:
        raise ShardError(f"{file}: cannot be read ({type(error).__name__}); build the shards again") from None
    return found
