"""Label and files of each breast, as the manifest of its data set lists them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from fvpipe.io.tables import iterate_table


class ListedBreast(NamedTuple):
    """A breast by the rows of its images in ``images.csv``."""

    label: str  # as written there
    files: tuple[str, ...]  # digests, in the order of the rows


NO_BREAST = ListedBreast("", ())  # in the place of one that the manifest does not list


def listed_breasts(manifest: Path) -> dict[str, ListedBreast]:
    """Read the breasts of a manifest, by id.

    Raises
    ------
    LabelTableError
        ``images.csv`` is missing or broken.
    """
    found: dict[str, ListedBreast] = {}
    for row in iterate_table(manifest / "images.csv", ["breast_id", "label", "digest"]):
        if breast := row["breast_id"]:
            label, files = found.get(breast, (row["label"], ()))
            found[breast] = ListedBreast(label, (*files, row["digest"]))
    return found
