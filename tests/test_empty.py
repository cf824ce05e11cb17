"""A build or an index without a breast, or with a label table of others, is an error that says what to do."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

import fvpipe
from fvpipe.errors import LabelTableError, QualityError
from fvpipe.indexing.rejections import rejection_lines
from fvpipe.printable import LINE_COLUMNS
from fvpipe.reasons import Reason, Rejection
from fvpipe.shards.format import RECEIPT
from tests.conftest import build, run
from tests.support import factory
from tests.support.declared import RSNA, rsna, write_table


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of two breasts."""
    monkeypatch.chdir(tmp_path)
    factory.patient(tmp_path / "data" / "own", "pair", "LR")
    (tmp_path / "data" / "own" / "labels.csv").write_text("patient_id,laterality,label\npair,L,1\n")
    (tmp_path / "params.yaml").write_text(
        "datasets: {own: {adapter: table, identifiers: own, label_file: data/own/labels.csv}}\npipelines: [direct]\n"
    )
    return tmp_path


def test_films_under_the_wrong_adapter_are_an_error_that_names_the_right_one(cbis: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for attempt in (
        lambda: fvpipe.index(cbis, workers=0),
        lambda: fvpipe.build_shards(cbis, out, workers=0),
    ):
        with pytest.raises(QualityError, match=r"most often sop_class_refused \(8 times.*Is this CBIS-DDSM\? `--adapter cbis`"):
            attempt()
    done = run("build-shards", "--pipeline", "cropped", "--dicom", cbis, "--out", out, "--workers", 0, code=1)
    (line,) = [line for line in done.output.splitlines() if line.startswith("  rejected:")]
    assert line.startswith("  rejected: 8 sop_class_refused: ") and line.count(".dcm") == 3 and len(line) <= LINE_COLUMNS
    assert not [path.name for path in out.iterdir() if not path.name.startswith(".")]
    build(cbis, out, "--adapter", "cbis")
    before = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in out.iterdir() if path.is_file()}
    assert fvpipe.verify(out) == [] and len(fvpipe.open_shards(out)) == 4
    with pytest.raises(QualityError):
        fvpipe.build_shards(cbis, out, workers=0)
    assert {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in out.iterdir() if path.is_file()} == before


def test_an_empty_index_leaves_the_manifest(project: Path) -> None:
    run("index", "--workers", 0)
    before = {file.name: file.read_bytes() for file in (project / "manifests" / "own").iterdir()}
    for file in (project / "data" / "own").glob("*.dcm"):
        file.write_bytes(b"\0" * 128 + b"DICM, and no more")
    done = run("index", "--workers", 0, code=1)
    assert "4 files, but no breast to build; most often transfer_syntax_unsupported (4 times" in done.output
    assert {file.name: file.read_bytes() for file in (project / "manifests" / "own").iterdir()} == before


def test_one_view_alone_under_a_pipeline_of_both(tmp_path: Path) -> None:
    factory.mammogram(tmp_path / "dicom" / "cc.dcm")
    fvpipe.index(tmp_path / "dicom", workers=0)
    with pytest.raises(QualityError, match=r"most often mlo_missing .*A pipeline of one view \(`cc`, `mlo`\) builds"):
        fvpipe.build_shards(tmp_path / "dicom", tmp_path / "out", workers=0)
    assert not (tmp_path / "out" / RECEIPT).exists()
    assert fvpipe.build_shards(tmp_path / "dicom", tmp_path / "out", "cc", workers=0).receipt.samples == 1


def test_a_label_table_that_matches_no_breast(project: Path, tmp_path: Path) -> None:
    labels = project / "data" / "own" / "labels.csv"
    labels.write_text("patient_id,laterality,label\nPAIR,L,1\nnobody,L,1\n")
    for attempt in (
        lambda: fvpipe.index(project / "data" / "own", labels=labels, workers=0),
        lambda: fvpipe.build_shards(project / "data" / "own", tmp_path / "out", labels=labels, workers=0),
    ):
        with pytest.raises(LabelTableError, match=r"none of its 2 rows matches .*only by upper and lower case"):
            attempt()
    assert "none of its 2 rows" in run("index", "--workers", 0, code=1).output
    assert not (project / "manifests").exists()
    assert "none of its 2 rows" in run("build-shards", "--workers", 0, code=1).output
    labels.write_text("patient_id,laterality,label\npair,L,1\nnobody,L,1\n")
    run("index", "--workers", 0)
    assert len(fvpipe.index(project / "data" / "own", workers=0).breasts) == 2  # without a table: unlabelled on purpose


def test_a_table_of_other_images_is_named_by_its_rows(tmp_path: Path) -> None:
    folder = rsna(tmp_path / "rsna", [{"image_id": 1}, {"image_id": 2, "view": "MLO"}])
    write_table(folder / "train.csv", [RSNA | {"image_id": 3}, RSNA | {"image_id": 4, "view": "MLO"}])
    with pytest.raises(QualityError, match="most often image_not_listed") as error:
        fvpipe.index(folder, "rsna", workers=0)
    said = "Of the label table, 2 of 2 rows list an image that the input does not have: train.csv, line 2, train.csv, line 3; "
    said += "no image of a path is in column image_id. "
    assert f"{said}Is it the table of these images, and is the input folder that in which its paths begin?" in str(error.value)


def test_lines_of_rejections_fit_the_screen() -> None:
    long = "folder/" * 40
    rejections = [
        *(Rejection(f"{long}{i}.dcm", Reason.VIEW_MISSING, "detail " * 40) for i in range(4)),
        Rejection("one.dcm", Reason.COLOUR, "3 samples per pixel"),
        Rejection("x", Reason.LABEL_EXCLUDED, "a rule"),
    ]
    first, second = rejection_lines(rejections)
    assert first.startswith("  rejected: 4 view_missing: ...") and all(f"{i}.dcm" in first for i in range(3))
    assert second == "  rejected: 1 colour: one.dcm (3 samples per pixel)"
    assert max(map(len, (first, second))) <= LINE_COLUMNS
