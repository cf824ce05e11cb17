"""NLBS: simulated trees in its form, with each trap of the real one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fvpipe.config.project import Labels
from fvpipe.datasets.registry import get_adapter
from fvpipe.errors import LabelTableError
from fvpipe.reasons import Reason
from fvpipe.testing import make_tree
from fvpipe.types import View
from tests.support.declared import (
    image,
    index,
    labels,
    reasons,
    write_table,
)


@pytest.mark.parametrize(
    ("tags", "reason"), [({"ImageLaterality": "R"}, "laterality_conflict"), ({"ViewPosition": "MLO"}, "view_conflict")]
)
def test_nlbs_header_row_and_path_name_one_side_and_view(tags: dict[str, str], reason: str, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"File Path": f"normal\\7\\{side}\\{view}\\IM-1.dcm", "Image Laterality": side[0].upper(), "View Position": view,
         "Cancer": 0, "False Positive": 0}
        for side in ("left", "right") for view in ("CC", "MLO")
    ]  # fmt: skip
    write_table(tmp_path / "n" / "NLBSP-metadata.csv", rows)
    for number, row in enumerate(rows, 1):
        image(tmp_path / "n" / row["File Path"].replace("\\", "/"), number)
    assert len(index(tmp_path / "n", "nlbs").breasts) == 2
    image(tmp_path / "n" / "normal" / "7" / "left" / "CC" / "IM-1.dcm", 1, **tags)
    found = index(tmp_path / "n", "nlbs")
    assert [breast.key.laterality for breast in found.breasts] == ["R"]
    assert reasons(found)["normal/7/left/CC/IM-1.dcm"] == reason


def test_nlbs_other_breast_of_a_cancer_is_not_malignant(tmp_path: Path) -> None:
    """Cancer may be repeated for all images of an exam; this release has another table, without False Positive."""
    exams = [
        ("abnormal", "p_0001", "left-c", 1), ("abnormal", "p_0001", "right", 1), ("normal", "p_0001", "left", 0),
        ("abnormal", "p_0002", "left", 1), ("abnormal", "p_0002", "right", 0),  # of each image
        ("abnormal", "p_0003", "left", 1), ("abnormal", "p_0003", "right", 1),  # nothing says of which breast
        ("abnormal", "p_0004", "left-c", 1), ("abnormal", "p_0004", "right-c", 1),
    ]  # fmt: skip
    rows: list[dict[str, Any]] = [
        {"File Path": f"{kind}\\{exam}\\{side}\\{view}\\IM-1.dcm", "Image Laterality": side[0].upper(), "View Position": view,
         "Age": 55, "Cancer": cancer}
        for kind, exam, side, cancer in exams for view in ("CC", "MLO")
    ]  # fmt: skip
    write_table(tmp_path / "n" / "NLBSD_Metadata.csv", rows)
    for number, row in enumerate(rows, 1):
        image(tmp_path / "n" / row["File Path"].replace("\\", "/"), number)
    found = index(tmp_path / "n", "nlbs")
    assert labels(found) == {
        ("abnormal/p_0001", "L"): 1, ("normal/p_0001", "L"): 0, ("abnormal/p_0002", "L"): 1, ("abnormal/p_0002", "R"): 0,
        ("abnormal/p_0004", "L"): 1, ("abnormal/p_0004", "R"): 1,
    }  # fmt: skip
    left_out = {rejection.what: rejection.reason for rejection in found.rejections}
    names = ("abnormal/p_0001_R", "abnormal/p_0003_L", "abnormal/p_0003_R")
    assert left_out == dict.fromkeys(names, Reason.LABEL_EXCLUDED), left_out
    assert all("have the cancer of the exam" in rejection.detail for rejection in found.rejections)
    write_table(tmp_path / "n" / "NLBSD_Metadata.csv", [row | {"False positive": 0} for row in rows])
    with pytest.raises(LabelTableError, match=r"column 'False positive' is not read; expected 'False Positive'"):
        index(tmp_path / "n", "nlbs")


def test_a_finding_that_is_worse_than_its_breast_is_noted(tmp_path: Path) -> None:
    """Only where the breast is benign by that BI-RADS alone: pathology may be so of a suspicious finding."""
    names = ["patient_id", "laterality", "birads", "dx", "file", "x1", "x2", "y1", "y2", "worst"]
    rows = [["P", "L", "2", "", f"{view}.dcm", "1", "9", "1", "9", worst] for view, worst in (("CC", "2"), ("MLO", "5"))]
    facts = {"path": "file", "bi_rads": "birads", "pathology": "dx", "finding_bi_rads": "worst"}
    settings = Labels(columns=facts | {"left": "x1", "right": "x2", "top": "y1", "bottom": "y2"})
    for number, view in enumerate(("CC", "MLO"), 1):
        image(tmp_path / "in" / f"{view}.dcm", number, PatientID="P", ImageLaterality="L", ViewPosition=view)
    for dx, noted in (("", 1), ("cyst", 0)):
        table = [dict(zip(names, row, strict=True)) | {"dx": dx} for row in rows]
        write_table(tmp_path / "t.csv", table)
        found = index(tmp_path / "in", "table", label_file=str(tmp_path / "t.csv"), labels=settings).notes
        assert [note.partition(":")[0] for note in found] == noted * [
            "1 benign breast(s) have a finding of a higher BI-RADS than their own"
        ]


@pytest.mark.parametrize(
    ("folder", "cancer", "false_positive", "label"),
    [
        (r"abnormal\7\left-c", "1", "0", 1), (r"abnormal\7\left-c", "1.0", "1.0", None), (r"abnormal\7\left", "1", "0", 1),
        (r"abnormal\7\left", "0", "1", 0), (r"abnormal\7\left-c", "0", "0", None), (r"normal\7\left", "0", "", 0),
        (r"abnormal\7\left-c", "2", "0", None), (r"normal\7\left-c", "1", "0", None),
        (r"NLBS Data\False Positive\7\left-c", "1", "0", None), (r"NLBS Data\False Positive\7\left-c", "0", "1", 0),
        (r"NLBS Data\Abnormal\7\left-c", "1", "0", 1), (r"NLBS Data\Abnormal\7-c\left", "0", "0", 0),
    ],
)  # fmt: skip
def test_nlbs_cancer_of_one_row(folder: str, cancer: str, false_positive: str, label: int | None, tmp_path: Path) -> None:
    """It is not a false positive, nor in a folder of exams without one."""
    row = {"File Path": rf"{folder}\CC\1.dcm", "Image Laterality": "L", "View Position": "CC", "Cancer": cancer}
    write_table(tmp_path / "NLBSP-metadata.csv", [row | {"False Positive": false_positive}])
    (image,) = get_adapter("nlbs").read_labels(tmp_path, None, Labels()).listed.values()
    assert image.facts is not None
    assert (image.facts.label, bool(image.facts.excluded)) == (-1 if label is None else label, label is None)


@pytest.mark.parametrize(("tag", "reason"), [({"ImageLaterality": "R"}, "laterality"), ({"ViewPosition": "MLO"}, "view")])
def test_nlbs_header_that_names_another_side_or_view_is_left_out(tag: dict[str, str], reason: str, tmp_path: Path) -> None:
    tree = make_tree("nlbs", tmp_path)
    breast = next(each for each in tree.breasts if each.laterality == "L")
    tree.write_image(breast, View.CC, **tag)
    assert reasons(tree.index())[breast.paths[View.CC]] == f"{reason}_conflict"
