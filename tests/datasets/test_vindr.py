"""VinDr-Mammo as it is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fvpipe.testing import index_folder, write_image, write_table


def test_vindr_lies_below_the_folders_of_its_download(tmp_path: Path) -> None:
    """With the tables of labels and of boxes; of the latter nothing would be said, as it may be absent."""
    below, rows, boxes = tmp_path / "v" / "physionet.org" / "files" / "vindr-mammo" / "1.0.0", [], []
    for number, view in enumerate(("CC", "MLO"), 1):
        said: dict[str, Any] = {"SOPInstanceUID": f"2.25.{number}", "StudyInstanceUID": "2.25.8", "PatientID": None}
        said |= {"ViewPosition": view, "ImageLaterality": "L"}
        write_image(below / "images" / "2.25.8" / f"2.25.{number}.dicom", number, **said)
        row = {"study_id": "2.25.8", "image_id": f"2.25.{number}", "laterality": "L", "view_position": view, "height": 320}
        rows.append(row | {"width": 256, "breast_birads": "BI-RADS 5", "breast_density": "DENSITY C", "split": "test"})
        box = {"finding_categories": "['Mass']", "finding_birads": "BI-RADS 5", "xmin": 1, "ymin": 2, "xmax": 30, "ymax": 40}
        boxes.append(row | box)
    write_table(below / "breast-level_annotations.csv", rows)
    write_table(below / "finding_annotations.csv", boxes)
    (breast,) = index_folder(tmp_path / "v", "vindr").breasts
    assert (breast.facts.label, breast.facts.subset, [len(found) for found in breast.findings]) == (1, "test", [1, 1])
