"""A set of two women, whom the tests about tables share."""

from pathlib import Path

import pytest

from fvpipe.testing import write_image
from tests.support.user_tables import PATHS, PLACES


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two women, four files each, whose headers say all."""
    folder = tmp_path_factory.mktemp("users") / "dicom"
    for number, ((patient, side, view), path) in enumerate(zip(PLACES, PATHS, strict=True), 1):
        write_image(folder / path, number, side, view, PatientID=patient, ImageLaterality=side.value, ViewPosition=view.value)
    return folder
