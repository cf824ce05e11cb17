"""A set of two women, and tables of theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fvpipe.config.project import Labels
from fvpipe.indexing.index import Index
from fvpipe.testing import index_folder
from fvpipe.types import Laterality, View

PLACES = [(patient, side, view) for patient in ("P1", "P2") for side in Laterality for view in View]
PATHS = [f"{patient}/{side}_{view}.dcm" for patient, side, view in PLACES]
CANCERS = {("P1", "L"): 1, ("P1", "R"): 0, ("P2", "L"): 0, ("P2", "R"): 1}
TABLE = """
name: own
license: ours
headers: {studies_apart: false}
identity: {patient: [table], laterality: [table], view: [table]}
targets: {stage: {meaning: of the cancer}}
tables:
  - file: t.csv
    path: file
    combine: first
    label:
      - {when: {diagnosis: [C50]}, then: malignant}
      - {when: {diagnosis: ["", pending]}, then: unlabelled}
      - {then: benign}
    columns: {patient: pid, laterality: side, view: view, density: acr, bi_rads: birads, stage: stage, pathology: diagnosis}
"""


def cancers(path: Any = str, *more: str) -> str:
    """A table of images; `path` spells their paths."""
    rows = [f"{path(name)},{CANCERS[patient, side]}" for (patient, side, _), name in zip(PLACES, PATHS, strict=True)]
    return "\n".join(["file,label", *rows, *more]) + "\n"


def read(folder: Path, file: Path, table: str | None = None, adapter: str = "table", **columns: str) -> Index:
    """Index the set by a table, of which `columns` gives names of columns."""
    if table is not None:
        file.write_text(table, encoding="utf-8")
    return index_folder(folder, adapter, label_file=str(file), labels=Labels(columns=columns))
