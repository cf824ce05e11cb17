"""A simulated data set: its breasts, headers and tables, and what must arrive of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fvpipe.config.formats import Format
from fvpipe.datasets.declared.declaration import Declaration, Table
from fvpipe.indexing.index import Index
from fvpipe.testing.folder import index_folder, write_image, write_table
from fvpipe.types import VIEWS, Laterality, View


@dataclass
class SimulatedBreast:
    """A simulated breast, and the facts that the index must find.

    Attributes
    ----------
    number : int
        From 0, in the order in which they were made.
    patient, exam : str
        As published.
    laterality : Laterality
        Side.
    label : int
        1 malignant, 0 benign, -1 unlabelled or excluded.
    excluded : bool
        Whether the label rule leaves it out.
    facts : dict of str to str
        Facts by name, as ``breasts.csv`` has them; what is not known is not there.
    paths : dict of View to str
        Its files.
    """

    number: int
    patient: str
    exam: str
    laterality: Laterality
    label: int = -1
    excluded: bool = False
    facts: dict[str, str] = field(default_factory=dict)
    paths: dict[View, str] = field(default_factory=dict)


@dataclass
class SimulatedTree:
    """A simulated data set.

    Attributes
    ----------
    declaration : Declaration
        Declaration of the data set.
    adapter : str
        The adapter's name, or the path of its declaration.
    folder : Path
        Where it lies.
    breasts : list of SimulatedBreast
        Two a patient.
    headers : dict of str to dict
        Elements of each image by path, as :func:`fvpipe.testing.write_image` takes them.
    tables : dict of str to list of dict
        Rows of each table, by path below the folder.
    rows_of_images : dict of str to list of (Table, dict)
        By path, the tables that describe each image, with its row.
    label_file : str
        The table that the user would name by ``--labels``; empty where the declaration finds its tables.
    not_covered : tuple of str
        Cases of the label rule for which no row was found, and facts for which no cell was. Test them with rows of your own.
    later_exams : int
        Exams that rows of a table with `follow_up` describe, after those with images.
    """

    declaration: Declaration
    adapter: str
    folder: Path
    breasts: list[SimulatedBreast] = field(default_factory=list)
    headers: dict[str, dict[str, Any]] = field(default_factory=dict)
    tables: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    rows_of_images: dict[str, list[tuple[Table, dict[str, str]]]] = field(default_factory=dict)
    label_file: str = ""
    not_covered: tuple[str, ...] = ()
    later_exams: int = 0

    @property
    def form(self) -> Format:
        """Format of its images: DICOM, or the first that the declaration states."""
        formats = self.declaration.formats
        return "dicom" if "dicom" in formats else formats[0]

    def write(self) -> None:
        """Write all files and tables."""
        for breast in self.breasts:
            for view in breast.paths:
                self.write_image(breast, view)
        for name, rows in self.tables.items():
            write_table(self.folder / name, rows)

    def write_image(self, breast: SimulatedBreast, view: View, **elements: Any) -> None:
        """Write one image; `elements` replace those of its header."""
        path, number = breast.paths[view], 2 * breast.number + VIEWS.index(view) + 1
        header = self.headers[path] | elements if self.form == "dicom" else {}
        write_image(self.folder / path, number, breast.laterality, view, self.form, **header)

    def index(self, **settings: Any) -> Index:
        """Index the folder as it is now, as :func:`index_folder` does."""
        if self.label_file:
            settings["label_file"] = str((self.folder / self.label_file).absolute())
        return index_folder(self.folder, self.adapter, **settings)
