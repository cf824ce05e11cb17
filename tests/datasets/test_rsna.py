"""RSNA 2023: simulated trees in its form, with each trap of the real one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fvpipe.config.project import Labels
from fvpipe.errors import LabelTableError
from fvpipe.testing import write_image
from fvpipe.types import BreastFacts
from tests.support.declared import (
    INBREAST,
    RSNA,
    image,
    inbreast,
    index,
    labels,
    reasons,
    rsna,
    write_table,
)


def test_rsna_takes_side_view_and_label_from_the_table(tmp_path: Path) -> None:
    pairs = [
        {"patient_id": patient, "image_id": 100 * patient + i, "laterality": side, "view": view, "cancer": cancer,
         "machine_id": i, "age": age, "BIRADS": bi_rads}
        for patient, side, cancer, age, bi_rads in ((7, "L", 0, "", 1), (7, "R", 1, "", 0), (8, "L", 0, 90.5, ""))
        for i, view in enumerate(("CC", "MLO"), start=10 * (side == "R"))
    ]  # fmt: skip
    other = [
        {"image_id": 900, "view": "AT"},
        {"image_id": 901, "view": "LMO", "laterality": "R", "cancer": 1},
        {"image_id": 902, "view": "CC"},  # a second CC
    ]
    folder = rsna(tmp_path / "rsna", [*pairs, *other])
    image(folder / "train_images" / "9" / "1.dcm", 77)  # not in the table
    found = index(folder, "rsna")
    assert labels(found) == {("7", "L"): 0, ("7", "R"): 1, ("8", "L"): 0}
    assert found.breasts[2].facts == BreastFacts(0, None, age="90+")  # its images are of two machines
    paths = {path.rpartition("/")[2]: reason for path, reason in reasons(found).items()}
    assert paths == {
        "900.dcm": "view_not_pairable", "901.dcm": "view_not_pairable", "902.dcm": "superseded", "1.dcm": "image_not_listed",
    }  # fmt: skip
    assert found.images[0].identity_from == "patient table, laterality table, view table"
    assert found.breasts[0].key.study == ""  # one study a patient


@pytest.mark.parametrize("name", ["{patient}/{image}.png", "{patient}_{image}.png", "train_images/{patient}_{image}.png"])
def test_rsna_copies_in_another_format(name: str, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"image_id": number, "view": view, "cancer": 1} for number, view in enumerate(("CC", "MLO"), 1)
    ]
    write_table(tmp_path / "rsna" / "train.csv", [RSNA | row for row in rows])
    for row in rows:
        write_image(tmp_path / "rsna" / name.format(patient=7, image=row["image_id"]), row["image_id"], form="png")
    found = index(tmp_path / "rsna", "rsna", formats=("png",))
    assert labels(found) == {("7", "L"): 1} and not found.rejections


def test_identifiers_that_a_spreadsheet_made_numbers_find_their_images(tmp_path: Path) -> None:
    """As pandas writes them where a row below the table has none."""
    rows: list[dict[str, Any]] = [{"image_id": 1}, {"image_id": 2, "view": "MLO"}]
    folder = rsna(tmp_path / "rsna", rows)
    write_table(folder / "train.csv", [RSNA | row | {"patient_id": 7.0, "image_id": f"{row['image_id']}.0"} for row in rows])
    (folder / "train_images" / "7" / "1.dcm").rename(folder / "train_images" / "7" / "1.0.dcm")
    found = index(folder, "rsna")
    assert labels(found) == {("7", "L"): 0} and not found.rejections

    rows = [{"File Name": 1}, {"File Name": 2, "View": "MLO"}]
    folder = inbreast(tmp_path / "inbreast", rows)
    write_table(folder / "INbreast.csv", [INBREAST | row | {"File Name": f"{row['File Name']}.0"} for row in rows], ";")
    found = index(folder, "inbreast")
    assert list(labels(found).values()) == [0] and not found.rejections


def test_an_optional_heading_in_another_spelling_is_named(tmp_path: Path) -> None:
    folder = rsna(tmp_path / "rsna", [{"image_id": 1}, {"image_id": 2, "view": "MLO"}])
    text = (folder / "train.csv").read_text()
    (folder / "train.csv").write_text(text.replace("BIRADS", "Bi-Rads"))
    with pytest.raises(LabelTableError, match=r"column 'Bi-Rads' is not read; expected 'BIRADS' for bi_rads: rename it, or"):
        index(folder, "rsna")
    assert index(folder, "rsna", labels=Labels(columns={"bi_rads": "Bi-Rads"})).breasts
    assert index(folder, "rsna", labels=Labels(columns={"pathology": "Bi-Rads"})).breasts  # taken for something else
