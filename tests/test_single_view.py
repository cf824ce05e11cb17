"""Breasts with one view: pipelines of that view build them, pipelines of both name them, and no build is empty in silence."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pydicom.uid import JPEG2000Lossless
from torch.utils.data import ConcatDataset

import fvpipe
from fvpipe.config.project import Labels
from fvpipe.dicom.header import parse_header
from fvpipe.errors import ParameterError, ShardError
from fvpipe.evaluation.splits.near_duplicates import fingerprints, near_pairs
from fvpipe.indexing.manifests.read import read_manifests
from fvpipe.io.tables import read_table
from fvpipe.printable import LINE_COLUMNS
from fvpipe.project.project import Project
from fvpipe.reasons import Flag
from fvpipe.testing import index_folder, write_image, write_table
from fvpipe.torch import ShardDataset
from fvpipe.training.predict import BreastPrediction
from fvpipe.types import Breast, Finding, Laterality
from tests.conftest import build, run
from tests.support import factory
from tests.support.cohort import PIPELINE, at, make_project, patients, train
from tests.support.factory import CC, MLO
from tests.support.hostile_shards import change_shard

LABELS = "patient_id,laterality,label\npair,L,1\npair,R,0\ncc,L,1\nmlo,R,0\nkinds,L,0\nconstant,L,1\nbroken,L,0\n"
ONE_VIEW = {"cc_L", "mlo_R", "kinds_L", "constant_L", "broken_L"}


def write(folder: Path, patient: str, side: str, view: Any, seed: int = 0, name: str = "", **tags: Any) -> None:
    """Write one image of a patient."""
    made = factory.breast(seed, view, Laterality(side))
    path = folder / f"{name or f'{patient}_{side}_{view}'}.dcm"
    factory.mammogram(path, made, PatientID=patient, ImageLaterality=side, view=view, SeriesDescription=path.stem, **tags)


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FVPIPE_ID_KEY", "a key of breasts with one view")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pairs, and breasts whose CC or MLO is missing, of another kind, of one value, or cannot be decoded."""
    folder = tmp_path_factory.mktemp("single")
    factory.patient(folder, "pair", "LR", seed=1)
    write(folder, "cc", "L", CC, 2)
    small = factory.breast(2, CC, shape=(300, 240))
    factory.mammogram(folder / "cc_small.dcm", small, PatientID="cc", view=CC, SOPInstanceUID="2.25.77")
    write(folder, "mlo", "R", MLO, 3)
    write(folder, "kinds", "L", CC, 4)
    write(folder, "kinds", "L", MLO, 4, ImageType=["DERIVED", "PRIMARY", "TOMOSYNTHESIS", "GENERATED_2D"])
    write(folder, "constant", "L", CC, 5)
    flat = factory.Made(np.full((320, 256), 7, np.uint16), factory.breast(5).drawing, 12)
    factory.mammogram(folder / "constant_L_MLO.dcm", flat, PatientID="constant", view=MLO)
    write(folder, "broken", "L", CC, 6)
    pixels = factory.breast(6, MLO).pixels
    stream = factory.encode(pixels, 12, JPEG2000Lossless)
    tags = factory.dataset(pixels, 12, PatientID="broken", view=MLO)
    factory.write(folder / "broken_L_MLO.dcm", factory.file_bytes(tags, stream[: len(stream) // 3], JPEG2000Lossless))
    (folder / "labels.csv").write_text(LABELS)
    return folder


@pytest.fixture
def project(cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same as a project."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(cohort, tmp_path / "data" / "own")
    (tmp_path / "params.yaml").write_text(
        "datasets: {own: {adapter: table, identifiers: own, label_file: data/own/labels.csv}}\n"
        "pipelines: [cropped, cc, mlo]\n"
        "splits:\n"
        "  pairs: {setting: seen, datasets: [own], test_share: 0.99}\n"
        "  ccs: {setting: seen, datasets: [own], test_share: 0.99, views: cc}\n"
        "  halves: {setting: seen, datasets: [own], test_share: 0.5, seed: 1, views: cc}\n"
    )
    return tmp_path


def made(project: Path) -> dict[str, fvpipe.Shards]:
    run("index", "--workers", 0)
    run("build-shards", "--workers", 0)
    return {name: fvpipe.open_shards(project / "cache" / "shards" / name / "own") for name in ("cropped", "cc", "mlo")}


def short(breast_id: str) -> str:
    """Patient and side; between them stands the study, which is one here."""
    return re.sub("_[0-9a-f]{12}_", "_", breast_id)


def ledger(folder: Path) -> dict[str, str]:
    return {short(row["what"]): row["reason"] for row in read_table(folder / "rejected.csv", ["what", "reason"])}


# --- what is built, and what is named ---------------------------------------------------------------------------------


def test_each_pipeline_builds_what_it_can_and_names_the_rest(project: Path) -> None:
    shards = made(project)
    ids = {name: set(map(short, found.breast_ids.tolist())) for name, found in shards.items()}
    pairs = {"pair_L", "pair_R"}
    assert ids == {
        "cropped": pairs,
        "cc": pairs | {"cc_L", "kinds_L", "constant_L", "broken_L"},
        "mlo": pairs | {"mlo_R", "kinds_L"},
    }
    names = {name: ledger(found.folder) for name, found in shards.items()}
    files = {"constant_L_MLO.dcm": "constant_view", "broken_L_MLO.dcm": "pixels_truncated"}
    unread = {"constant_L": "view_unreadable", "broken_L": "view_unreadable"}
    assert names["cropped"] == files | unread | {"cc_L": "mlo_missing", "mlo_R": "cc_missing", "kinds_L": "kind_mismatch"}
    assert names["cc"] == files | {"mlo_R": "cc_missing", "cc_small.dcm": "superseded"}
    assert names["mlo"] == files | unread | {"cc_L": "mlo_missing"}
    for found in shards.values():
        assert fvpipe.verify(found.folder) == []
    again = json.loads(run("build-shards", "--workers", 2, "--json").stdout)
    assert [(each["computed"], each["written"]) for each in again] == [(0, 0)] * 3
    assert {name: ledger(found.folder) for name, found in shards.items()} == names
    assert "and 3 without a pair of views" in run("index", "--workers", 0).output


def test_the_origin_of_facts_tells_why_an_image_is_in_no_pair(project: Path) -> None:
    for name, said in (
        ("cc_L_CC", "  no pair: mlo_missing: 2 CC and 0 MLO; expected one of each; only a pipeline of one view"),
        ("kinds_L_MLO", "  no pair: kind_mismatch: "),
        ("cc_small", "  rejected: superseded"),
    ):
        shown = run("index", "--explain", project / "data" / "own" / f"{name}.dcm", "--workers", 0).output
        assert (said in shown) == (name != "cc_small"), shown
        assert "label        " in shown
    assert "no pair" not in run("index", "--explain", project / "data" / "own" / "pair_L_CC.dcm", "--workers", 0).output


def test_an_image_is_the_same_alone_and_in_a_pair(cohort: Path, tmp_path: Path) -> None:
    """Also by wavelet: how finely one view is decoded does not depend on the other."""
    alone = tmp_path / "dicom"
    alone.mkdir()
    for side in "LR":
        shutil.copyfile(cohort / f"pair_{side}_CC.dcm", alone / f"pair_{side}_CC.dcm")
    (tmp_path / "wavelet.yaml").write_text("{fuse: {layout: cc}, resize: {method: wavelet}, segment: {method: otsu_log}}")
    for pipeline in ("cc", str(tmp_path / "wavelet.yaml")):
        out = [tmp_path / f"{Path(pipeline).stem}-{name}" for name in ("all", "alone")]
        for folder, target in zip((cohort, alone), out, strict=True):
            build(folder, target, "--name", "same", pipeline=pipeline)
        paired, single = (fvpipe.open_shards(folder) for folder in out)
        for i, breast in enumerate(single.breast_ids.tolist()):
            j = paired.breast_ids.tolist().index(breast)
            np.testing.assert_array_equal(single.images([i]), paired.images([j]))
            for name in ("crop_box", "placement", "source_digest", "pixel_digest"):
                np.testing.assert_array_equal(single.columns[name][i, 0], paired.columns[name][j, 0])


def test_pairs_have_the_same_bytes_beside_breasts_of_one_view(cohort: Path, tmp_path: Path) -> None:
    """A shard folder of pairs alone, as before there were others."""
    pairs = tmp_path / "pairs"
    pairs.mkdir()
    for file in cohort.glob("pair_*.dcm"):
        shutil.copyfile(file, pairs / file.name)
    for pipeline in ("cropped", "cc"):
        for folder in (cohort, pairs):
            build(folder, tmp_path / pipeline / folder.name, "--shard-count", 100_000, pipeline=pipeline)
        mixed, own = (tmp_path / pipeline / folder.name for folder in (cohort, pairs))
        for entry in fvpipe.open_shards(own).receipt.shards:
            assert (mixed / entry.file).read_bytes() == (own / entry.file).read_bytes()
        head, *rows = (own / "breasts.csv").read_text().splitlines()
        lines = (mixed / "breasts.csv").read_text().splitlines()
        assert lines[0] == head and set(rows) <= set(lines)


def test_the_absent_view_in_shards_tables_and_pages(project: Path) -> None:
    shards = made(project)
    for name, absent in (("cc", 1), ("mlo", 0)):
        found = shards[name]
        rows = {row["breast_id"]: row for row in read_table(found.folder / "breasts.csv", ["breast_id"])}
        for i in (i for i, breast in enumerate(found.breast_ids.tolist()) if short(breast) in ONE_VIEW):
            values = {column: found.columns[column][i, absent] for column in found.columns if found.columns[column].ndim > 1}
            assert values["source_digest"] == values["pixel_digest"] == b""
            assert not values["source_shape"].any() and not values["crop_box"].any() and (values["placement"] == -1).all()
            assert np.isnan([values["breast_area"], values["breast_mean"], *values["mm_per_pixel"]]).all()
            view = (CC, MLO)[absent]
            assert not Flag(int(found.flags[i])) & (Flag.SIZES_DIFFER | Flag.AREAS_DISAGREE | Flag.BITS_DIFFER)
            with pytest.raises(ValueError, match=f"{view} is not in this image"):
                found[i].to_image(view, 1, 1)
            row = rows[found.breast_ids[i]]
            assert {row[f"{view.lower()}_{column}"] for column in ("rows", "columns", "bits_stored", "crop")} == {""}
            assert row[f"{(CC, MLO)[1 - absent].lower()}_rows"] == "320"
        # No view is taken as shared by two breasts since both lack it.
        assert set(found.flags.tolist()) <= {0, int(Flag.SYNTHETIC)}
        assert near_pairs(fingerprints(found), found.breast_ids.tolist()) == []
    assert "warning" not in run("report").stderr
    params, text = project / "params.yaml", (project / "params.yaml").read_text()
    params.write_text(text.replace("{own:", "{renamed:").replace("[own]", "[renamed]"))
    assert "cache/shards/cc/own: is on the page, and the project has no such data set" in run("report").stderr
    params.write_text(text)
    (project / "pipelines").mkdir()
    (project / "pipelines" / "cc.yaml").write_text("fuse: {layout: cc}\n")
    assert "warning: cache/shards/cc/own: was built before the pipeline cc changed" in run("report").stderr
    (project / "pipelines" / "cc.yaml").write_text("fuse: {layuot: cc}\n")
    assert (
        "cache/shards/cc/own: is on the page, and cannot be compared with the project: pipelines/cc.yaml"
        in run("report").stderr
    )
    shutil.rmtree(project / "pipelines")
    assert "6 samples" in run("verify", "cache/shards/cc/own").output
    run("inspect", "cache/shards/cc/own")
    run("audit", "--pipeline", "cc", "--workers", 0)
    with pytest.raises(ParameterError, match="different pipelines"):
        ShardDataset([shards["cc"], shards["mlo"]])
    data = ConcatDataset([ShardDataset(shards["cc"]), ShardDataset(shards["mlo"])])  # views as samples of their own
    assert [tuple(data[i][0].shape) for i in range(len(data))] == 10 * [(1, 256, 256)]


def test_findings_stay_on_the_view_that_is_there(cohort: Path) -> None:
    found = fvpipe.index(cohort, labels=cohort / "labels.csv", workers=0)
    boxes = {image.view: (Finding("Mass", 5, 1, 2, 3, 4),) for image in found.images}
    (kinds,) = (each.breast for each in found.unpaired if len(each.breast.images) == 2)
    both = Breast(kinds.key, kinds.cc, kinds.mlo, kinds.facts, (boxes[CC], boxes[MLO] * 2))
    assert both.only(CC).findings == (boxes[CC], ()) and both.only(MLO).findings == ((), boxes[MLO] * 2)


def test_the_label_rule_leaves_out_breasts_of_one_view_too(tmp_path: Path) -> None:
    """An exam that is not told from another is ambiguous, whichever views it has."""
    for study in ("2.25.5", "2.25.6"):
        write(tmp_path, "p", "L", CC, int(study[-1]), name=study, StudyInstanceUID=study)
    write(tmp_path, "q", "L", CC, 9)
    (tmp_path / "labels.csv").write_text("patient_id,laterality,label\np,L,1\nq,L,0\n")
    build(tmp_path, tmp_path / "out", "--labels", tmp_path / "labels.csv", pipeline="cc")
    reasons = Counter(row["reason"] for row in read_table(tmp_path / "out" / "rejected.csv", ["reason"]))
    assert reasons == {"label_ambiguous": 2}
    assert len(fvpipe.open_shards(tmp_path / "out")) == 1


# --- manifests and splits ---------------------------------------------------------------------------------------------


def test_manifests_hold_breasts_of_one_view(project: Path) -> None:
    made(project)
    source, folder = Project().source("own"), Project().manifests("own")
    found = read_manifests(source, folder)
    assert [short(breast.key.breast_id) for breast in found.breasts] == ["broken_L", "constant_L", "pair_L", "pair_R"]
    assert {short(each.breast.key.breast_id): len(each.breast.images) for each in found.unpaired} == {
        "cc_L": 1, "kinds_L": 2, "mlo_R": 1,
    }  # fmt: skip
    rows = list(read_table(folder / "breasts.csv", ["breast_id", "paired", "label"]))
    assert {short(row["breast_id"]) for row in rows if row["paired"] == "false"} == {"cc_L", "kinds_L", "mlo_R"}
    used = {row["path"]: short(row["breast_id"]) for row in read_table(folder / "images.csv", ["path", "breast_id"])}
    assert used["cc_L_CC.dcm"] == "cc_L" and used["cc_small.dcm"] == "" and used["kinds_L_MLO.dcm"] == "kinds_L"
    shutil.rmtree(project / "data")
    assert json.loads(run("index", "--workers", 0, "--json").stdout)[0]["unpaired"] == 3
    assert "3 labelled or unlabelled images" not in run("table1").output
    images = folder / "images.csv"
    images.write_text(re.sub(",mlo_[0-9a-f]{12}_R\n", ",\n", images.read_text()))
    assert "not a manifest that this fvpipe can read" in run("table1", code=1).output


def test_pairs_have_no_column_of_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    factory.patient(tmp_path / "data" / "own", "p", "L")
    (tmp_path / "params.yaml").write_text("datasets: {own: {adapter: table, identifiers: own}}\n")
    run("index", "--workers", 0)
    assert (tmp_path / "manifests" / "own" / "breasts.csv").read_text().splitlines()[0].endswith("mlo_column_spacing")


def test_splits_are_of_pairs_unless_they_say_otherwise(project: Path) -> None:
    made(project)
    results = {found["split"]: found for found in json.loads(run("split", "--json").stdout)}
    listed = {
        name: {short(row["breast_id"]) for row in read_table(project / "manifests" / "splits" / f"{name}.csv", ["breast_id"])}
        for name in results
    }
    assert listed["pairs"] == {"pair_L", "pair_R", "constant_L", "broken_L"}
    assert listed["ccs"] == listed["pairs"] | {"cc_L", "kinds_L"}
    rows = read_table(project / "manifests" / "splits" / "halves.csv", ["breast_id", "part"])
    assert len({row["part"] for row in rows if short(row["breast_id"]) in ONE_VIEW}) > 1  # they share no digest
    assert results["ccs"]["digests_checked"]  # those that `cropped` lacks are in the shards of `cc`
    (project / "params.yaml").write_text(
        (project / "params.yaml")
        .read_text()
        .replace("own}\n", "own}\n")
        .replace("label_file: data/own", "label_file: data/one")
    )
    (project / "data" / "one").mkdir()
    (project / "data" / "one" / "labels.csv").write_text("patient_id,laterality,label\nmlo,R,1\n")
    run("index", "--workers", 0)
    assert "set `views: cc` or `views: mlo`" in run("split", "pairs", code=1).output


def test_a_model_of_one_view_on_a_split_of_pairs(tmp_path: Path) -> None:
    """It is trained and tested on the split's breasts; breasts whose other view failed are named where models are compared."""
    from fvpipe.config.training import Evaluate
    from fvpipe.evaluation.evaluate import evaluate
    from fvpipe.evaluation.pooled import pool_runs
    from fvpipe.evaluation.tables.table2 import second_view, table2
    from fvpipe.evaluation.training_record import Run, TrainedRun, read_trained

    splits = {"all": {"setting": "unseen", "datasets": ["a"], "test_share": 0.4, "validation_share": 0.4}}
    folder = make_project(tmp_path, {"a": patients(30, lambda i: i % 2, lambda i: i % 2 == 1)}, splits)
    write(folder / "data" / "a", "single", "L", CC, 99)
    flat = np.full((160, 128), 7, np.uint16)
    test = next(row["breast_id"] for row in read_table(folder / "manifests" / "splits" / "all.csv", ["breast_id", "part"])
                if row["part"] == "test")  # fmt: skip
    gone = factory.Made(flat, factory.breast(0).drawing, 12)
    patient, study = test.split("_")[0], f"2.25.{1000 + int(test[1:4])}"
    side = test[-1]
    factory.mammogram(folder / "data" / "a" / f"{patient}-MLO.dcm", gone, PatientID=patient, view=MLO, ImageLaterality=side,
                      StudyInstanceUID=study)  # fmt: skip
    (folder / "a.csv").write_text((folder / "a.csv").read_text() + "\nsingle,L,1\n")
    (folder / "pipelines" / "tiny.yaml").write_text(json.dumps(PIPELINE | {"fuse": {"layout": "cc"}}))
    with at(folder):
        run("index", "--workers", 0)
        run("build-shards", "--workers", 0)
    shards = fvpipe.open_shards(folder / "cache" / "shards" / "tiny" / "a")
    assert len(shards) == 31
    one = train(folder, "all", epochs=1)
    assert len(one.predictions) == 30 and one.record.dropped == {} and {p.views for p in one.predictions} == {"CC"}
    with at(folder):
        model = "cache/models/tiny/all/cnn-seed0"
        (answer,) = json.loads(run("predict", "--model", model, "--json", "data/a/P000-CC.dcm").stdout)["breasts"]
        stored = {p.breast_id: p.probability for p in read_trained(folder / model).predictions}
        assert stored.get(answer["breast"]) in (None, pytest.approx(answer["probability"], abs=1e-6))
        files = [f"data/a/{patient}-{view}.dcm" for view in (CC, MLO)]
        found = json.loads(run("predict", "--model", model, "--json", "--gradcam", "cam", *files).stdout)
        assert [len(found["breasts"]), [each["reason"] for each in found["rejected"]]] == [1, ["constant_view"]]
        assert {peak["view"] for peak in found["breasts"][0]["peaks"]} <= {"CC"}
        assert "views that the model needs" in run("predict", "--model", model, "data/a/P001-MLO.dcm", code=1).output

    def renamed(pipeline: str, without: str = "") -> TrainedRun:
        layout = {"cc": "cc", "cropped": "side_by_side"}[pipeline]
        yaml = one.record.pipeline_yaml.replace("layout: cc", f"layout: {layout}")
        record = one.record.model_copy(update={"run": Run(pipeline, "all", "cnn", 0), "pipeline_yaml": yaml})
        return TrainedRun(record, tuple(p for p in one.predictions if p.breast_id != without))

    runs, settings = [renamed("cropped", test), renamed("cc")], Evaluate(bootstrap=100)
    (gain,) = second_view(pool_runs(runs), settings)
    assert (gain.first, gain.second, gain.unpaired, gain.breasts) == ("cropped", "cc", 1, len(one.part("test")) - 1)
    assert gain.metrics["accuracy"].value == 0
    for text in (evaluate(runs, settings).to_text(), table2(runs, settings).to_text()):
        assert "its pipelines were tested on different breasts" in " ".join(text.split())
        assert max(map(len, text.splitlines())) <= LINE_COLUMNS
    learnt = one.part("train")[0].breast_id
    text = evaluate([renamed("cropped", learnt), renamed("cc")], settings).to_text()
    text = " ".join(text.split())
    assert f"its pipelines were trained on different breasts (cropped {len(one.part('train')) - 1}, cc " in text
    assert "tested on different breasts" not in text
    assert "different breasts" not in evaluate([renamed("cropped"), renamed("cc")], settings).to_text()


def test_images_of_breasts_with_one_view_have_files_of_their_own() -> None:
    """Grad-CAM of every breast without a CC was ``.png``: each one replaced the one before."""

    def name(*digests: str) -> str:
        sample: Any = SimpleNamespace(source_digests=digests)
        return BreastPrediction("", None, sample, None, 0.5).file_digest  # type: ignore[arg-type]

    assert [name("aa", "bb"), name("", "cc"), name("dd", "")] == ["aa", "cc", "dd"]


# --- hostile folders --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("source_shape", 300, "source_shape of a view without a file is not 0"),
        ("crop_box", 3, "crop_box of a view without a file is not 0"),
        ("placement", 0, "placement of a view without a file is not -1"),
        ("pixel_digest", b"0123", "pixel_digest of a view without a file is not b''"),
        ("source_digest", b"", "source_digest names no file of a sample"),
    ],
)
def test_an_absent_view_that_is_half_there(cohort: Path, tmp_path: Path, column: str, value: Any, message: str) -> None:
    alone, out = tmp_path / "dicom", tmp_path / "out"
    factory.write(alone / "cc.dcm", (cohort / "cc_L_CC.dcm").read_bytes())
    build(alone, out, "--shard-count", 1, pipeline="cc")

    def change(file: Any) -> None:
        data = file[column][()]
        data[0, 0 if column == "source_digest" else 1] = value
        file[column][...] = data

    change_shard(out, change)
    with pytest.raises(ShardError, match=message):
        fvpipe.open_shards(out)


# --- the order of exams -----------------------------------------------------------------------------------------------


def exams(folder: Path, dates: Mapping[str, str | None]) -> dict[str, str]:
    """Build one patient's exams with these dates; the column `exam_order` by study, as the tables write it."""
    for study, date in dates.items():
        for view in (CC, MLO):
            write(folder / study, "p", "L", view, int(study[-2:]), StudyInstanceUID=study, StudyDate=date)
    build(folder, folder.parent / "out")
    assert not any(date and date in (folder.parent / "out" / name).read_text() for date in dates.values()
                   for name in ("breasts.csv", "images.csv"))  # fmt: skip
    table = list(read_table(folder.parent / "out" / "breasts.csv", ["study"]))
    return {row["study"]: row.get("exam_order") for row in table}


def test_exams_are_numbered_by_date(tmp_path: Path) -> None:
    dates = {"2.25.21": "20190505", "2.25.22": "20170301", "2.25.23": "20230101"}
    found = exams(tmp_path / "dicom", dates)
    assert sorted(found.values()) == ["1", "2", "3"]
    rows = list(read_table(tmp_path / "out" / "images.csv", ["path", "exam_order", "study"]))
    order = {row["path"].split("/")[0]: row["exam_order"] for row in rows}
    assert order == {"2.25.21": "2", "2.25.22": "1", "2.25.23": "3"}
    assert all(found[row["study"]] == row["exam_order"] for row in rows)


def test_the_date_of_an_exam_may_stand_in_one_of_its_images(tmp_path: Path) -> None:
    for number, (study, dates) in enumerate({"2.25.51": ("", "20200101"), "2.25.52": ("20190101", "")}.items(), 1):
        for view, date in zip((CC, MLO), dates, strict=True):
            write(tmp_path / "in" / study, "p", "L", view, number, StudyInstanceUID=study, StudyDate=date)
    found = index_folder(tmp_path / "in", "table")
    assert {image.path[:7]: found.exam_order[image.patient_id, image.study] for image in found.images} == {
        "2.25.51": 2,
        "2.25.52": 1,
    }


def test_exams_of_files_without_a_header_are_numbered_by_the_dates_of_their_table(tmp_path: Path) -> None:
    exams = {"b": "2019-05-05", "a": "20230101", "c": "2017-03-01"}
    rows = []
    for number, (exam, date) in enumerate(exams.items()):
        for view in (CC, MLO):
            file = f"{exam}/{view.value}.png"
            write_image(tmp_path / "in" / file, 2 * number + 1 + (view is MLO), view=view, form="png")
            rows.append(
                {"path": file, "pid": "p", "exam": exam, "laterality": "L", "view": view.value, "day": date, "label": 0}
            )
    write_table(tmp_path / "t.csv", rows)
    columns = {"path": "path", "patient": "pid", "study_date": "day"}
    found = index_folder(
        tmp_path / "in", "table", label_file=str(tmp_path / "t.csv"), labels=Labels(columns=columns), formats=("png",)
    )
    order = {image.path[0]: found.exam_order[image.patient_id, image.study] for image in found.images}
    assert order == {"b": 2, "a": 3, "c": 1}


def test_a_date_of_the_table_is_kept_where_the_header_gives_all_else(tmp_path: Path) -> None:
    """A header that is read once more, without the table, is still that of the record."""
    rows = []
    for exam, day in (("2.25.41", "2020-01-01"), ("2.25.42", "2019-01-01")):
        for view in (CC, MLO):
            write(tmp_path / "in" / exam, "p", "L", view, int(exam[-2:]), StudyInstanceUID=exam)
        rows += [{"path": f"{exam}/{path.name}", "patient_id": "p", "laterality": "L", "label": 0, "study_date": day}
                 for path in sorted((tmp_path / "in" / exam).iterdir())]  # fmt: skip
    write_table(tmp_path / "t.csv", rows)
    labels = Labels(columns={"path": "path", "study_date": "study_date"})
    found = index_folder(tmp_path / "in", "table", label_file=str(tmp_path / "t.csv"), labels=labels)
    order = {image.path[:7]: found.exam_order[image.patient_id, image.study] for image in found.images}
    assert order == {"2.25.41": 2, "2.25.42": 1}
    policy = found.source.policy
    for image in found.images:
        again = parse_header((tmp_path / "in" / image.path).read_bytes(), image.path, policy, image.stated)
        assert again.record == image


@pytest.mark.parametrize(
    "dates", [{"2.25.21": "20190505"}, {"2.25.21": "20190505", "2.25.22": None}, {"2.25.21": "20190505", "2.25.22": "20199999"}]
)
def test_no_column_where_there_is_no_order(tmp_path: Path, dates: Mapping[str, str | None]) -> None:
    assert set(exams(tmp_path / "dicom", dates).values()) == {""}
    assert "exam_order" not in (tmp_path / "out" / "breasts.csv").read_text()


def test_the_order_outlives_a_manifest_and_a_new_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the file cache keeps of a date is of one key: with another the dates are read again, and a new exam fits in."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("datasets: {own: {adapter: table}}\n")
    tables, own = [], tmp_path / "data" / "own"
    for key, study, date in (("a first key of exams", "2.25.31", "20200101"), ("another key of exams", "2.25.32", "20100101")):
        monkeypatch.setenv("FVPIPE_ID_KEY", key)
        for name, day in (("2.25.30", "20150101"), (study, date)):
            if not (own / name).exists():
                for view in (CC, MLO):
                    write(own / name, "p", "L", view, int(name[-2:]), StudyInstanceUID=name, StudyDate=day)
        run("index", "--workers", 0)
        rows = read_table(tmp_path / "manifests" / "own" / "images.csv", ["path", "exam_order"])
        tables.append({row["path"].split("/")[0]: row["exam_order"] for row in rows})
        found = read_manifests(Project().source("own"), Project().manifests("own"))
        assert sorted(found.exam_order.values()) == [*range(1, 2 + len(tables))]
    assert tables == [{"2.25.30": "1", "2.25.31": "2"}, {"2.25.30": "2", "2.25.31": "3", "2.25.32": "1"}]
