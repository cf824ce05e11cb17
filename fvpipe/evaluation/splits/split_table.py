"""The table of a split: the part of each breast."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from fvpipe.config.loading import digest_of
from fvpipe.evaluation.splits.assign import Part
from fvpipe.io.tables import read_table
from fvpipe.types import Digest

COLUMNS = ("dataset", "breast_id", "patient_id", "part")


def read_split(path: Path, datasets: Iterable[str]) -> dict[tuple[str, str], Part]:
    """Read and check a split: the part of each (data set, breast).

    Raises
    ------
    LabelTableError
        An unknown part or data set, or a breast that occurs twice; the message names the line.
    """
    known = set(datasets)
    parts: dict[tuple[str, str], Part] = {}
    for row in read_table(path, COLUMNS):
        if row["part"] not in [part.value for part in Part]:
            raise row.error("part", "train, validation or test")
        if row["dataset"] not in known:
            raise row.error("dataset", f"one of {', '.join(sorted(known))}")
        key = row["dataset"], row["breast_id"]
        if key in parts:
            raise row.error("breast_id", "each breast once")
        parts[key] = Part(row["part"])
    return parts


def digest_of_split(parts: Mapping[tuple[str, str], Part]) -> Digest:
    """Digest of the parts of all breasts."""
    return digest_of([[dataset, breast, part] for (dataset, breast), part in parts.items()])
