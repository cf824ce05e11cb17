'''Adapters, one for each data set, and the types with which another package adds one.

An adapter is usually a declaration, a YAML file: ``declarations/`` has those of fvpipe, and ``docs/adapters.md`` every key.

- ``declared``: reads declarations, and by them the tables and paths of a data set.
- ``adapter``: what every adapter gives. ``combine`` merges the facts of several rows.
- ``registry``: adapters by name. ``source``: a data set to read, with its adapter and settings.
- ``cbis``, ``inbreast``, ``nlbs``: the parts of three data sets that cannot be declared. ``download``: CMMD from its archive.

An adapter in Python is a module with one function and one constant. This one reads a table of INbreast::

    """INbreast: full-field digital mammograms, labels by BI-RADS."""

    from fvpipe.datasets import Adapter, BreastFacts, HeaderPolicy, LabelTable, parse_laterality, read_table


    def read_labels(root, label_file, rules):
        """Read one row an image; the rows of a breast agree."""
        rows = {}
        for row in read_table(label_file or root / "INbreast.csv", ["Patient ID", "Laterality", "Bi-Rads"]):
            laterality = row.parse("Laterality", parse_laterality, "L or R")
            bi_rads = row.parse("Bi-Rads", lambda cell: int(cell[0]) if cell[:1] in set("0123456") else None, "0 to 6")
            label = 1 if bi_rads in rules.bi_rads_malignant else 0 if bi_rads in rules.bi_rads_benign else -1
            rows[row["Patient ID"], laterality] = BreastFacts(label, bi_rads, place=row.place)
        return LabelTable(rows)


    ADAPTER = Adapter(
        name="inbreast",
        license="Moreira I.C. et al. (2012), doi:10.1016/j.acra.2011.09.014",
        policy=HeaderPolicy(),
        hashed=True,
        publishable=False,
        read_labels=read_labels,
    )

and its package names it in ``pyproject.toml``::

    [project.entry-points."fvpipe.datasets"]
    inbreast = "fvpipe_inbreast:ADAPTER"

A table that names the exam of a row gives ``LabelTable(exams={(patient, laterality, Exam(date="20140131")): facts})``: an
:class:`Exam` by its Study Instance UID, its accession number, its date or the year of it.

Where rows or paths identify images, ``state_images`` says what they state, and ``identity`` for which facts that counts, as
in ``Identity(patient=("table",), view=("table", "header"))``.

Labels are 1 malignant, 0 benign, -1 unlabelled. Rows, columns and box edges are in source pixels, from the top left corner
of the stored image; an edge may lie between pixels. Ages have the form ``045Y``, or are ``90+``. Empty text and None stand for
unknown.
'''

from fvpipe.config.project import Labels
from fvpipe.datasets.adapter import Adapter, ImageFacts, LabelTable, ListedImage, Region, parse_laterality
from fvpipe.datasets.declared.declaration import Identity
from fvpipe.datasets.registry import get_adapter
from fvpipe.dicom.policy import HeaderPolicy
from fvpipe.errors import LabelTableError
from fvpipe.io.tables import Row, read_table
from fvpipe.types import BreastFacts, CropBox, Exam, Finding, Laterality, View

__all__ = [
    "Adapter",
    "BreastFacts",
    "CropBox",
    "Exam",
    "Finding",
    "HeaderPolicy",
    "Identity",
    "ImageFacts",
    "LabelTable",
    "LabelTableError",
    "Labels",
    "Laterality",
    "ListedImage",
    "Region",
    "Row",
    "View",
    "get_adapter",
    "parse_laterality",
    "read_table",
]
