"""CMMD by its 5,202 real headers and VinDr-Mammo with its published counts: the paper's Table 1, to the image."""

from __future__ import annotations

import csv
import gc
import io
import json
import shutil
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest

from fvpipe.cache.file_cache import FileCache
from fvpipe.evaluation.tables.table1 import table1
from fvpipe.evaluation.text import to_json
from fvpipe.execution.workers import Workers, WorkerSettings
from fvpipe.indexing.index import Index
from fvpipe.indexing.manifests.tables import write_manifests
from fvpipe.indexing.pairing import colliding_instances
from fvpipe.io.tables import read_table
from fvpipe.project.project import Project
from fvpipe.reasons import Reason
from fvpipe.types import Laterality, View
from tests.conftest import run
from tests.support.decoding import decode
from tests.support.published import DATA, cmmd_rows, cmmd_tree, vindr_tables, vindr_tree

XLSX, CSV = "CMMD_clinicaldata_revision.xlsx", "CMMD_clinicaldata_revision.csv"


def indexed(folder: Path, name: str, settings: str, monkeypatch: pytest.MonkeyPatch, digest: bool = False) -> Index:
    """The index of one data set in a project of its own; its headers are read once for all tests."""
    from fvpipe.flow import index

    folder.mkdir(exist_ok=True)
    (folder / "params.yaml").write_text(f"datasets:\n  {name}: {settings}\n")
    monkeypatch.chdir(folder)
    source = Project().source(name, None)
    with Workers(WorkerSettings(0)) as workers, FileCache(source.root / ".memory", source.root, source.policy) as file_cache:
        return index(source, workers, file_cache, digest=digest)


@pytest.fixture(scope="module")
def cmmd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cmmd")
    cmmd_tree(folder, cmmd_rows())
    shutil.copy(DATA / "cmmd" / XLSX, folder)
    return folder


@pytest.fixture(scope="module")
def vindr(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vindr")
    vindr_tree(folder, *vindr_tables())
    return folder


def vindr_part(folder: Path, rows: list[dict[str, str]]) -> Path:
    """The files of some rows of VinDr-Mammo's table, which has no others."""
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
    vindr_tree(folder, rows, out.getvalue().encode())
    return folder


def test_cmmd_as_published(cmmd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = indexed(tmp_path, "cmmd", f"{{adapter: cmmd, dicom: {cmmd}, labels: {{duplicate_patients: keep}}}}", monkeypatch)
    assert len(found.images) == 5202
    assert len(found.breasts) == 2601
    assert Counter(b.facts.label for b in found.breasts) == {0: 556, 1: 1316, -1: 729}
    assert not found.rejections
    bits = {b.key.breast_id: [v.bits_stored for v in b.images] for b in found.breasts if b.key.patient == "D1-1343"}
    assert bits["D1-1343_L"] == [16, 16]
    views = {r.path.rpartition("/")[2]: r.view for r in found.images if r.patient_id == "D1-1506"}
    assert (views["1-1.dcm"], views["1-2.dcm"]) == (View.MLO, View.CC)
    mixed = Counter(b.key.patient for b in found.breasts if b.facts.label == 1)
    benign = {b.key.patient for b in found.breasts if b.facts.label == 0}
    assert len(mixed.keys() & benign) == 30  # one breast of each: a patient's label is not a breast's


def test_cmmd_is_table_1_without_the_duplicates(cmmd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = indexed(tmp_path, "cmmd", f"{{adapter: cmmd, dicom: {cmmd}}}", monkeypatch)
    assert Counter(b.facts.label for b in found.breasts) == {0: 554, 1: 1313, -1: 728}
    (row,) = to_json(table1([found]))["rows"]
    assert row["images"] == {"benign": 1108, "malignant": 2626, "unlabelled": 1456}
    assert row["equal"] is True
    left_out = {r.what.partition("_")[0] for r in found.rejections if r.reason is Reason.LABEL_EXCLUDED}
    assert left_out == {"D1-0202", "D2-0284", "D1-0808", "D1-1292"}


def test_cmmd_csv_gives_the_same(cmmd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (DATA / "cmmd" / CSV).read_text()
    (tmp_path / "semicolons.csv").write_bytes(b"\xef\xbb\xbf" + text.replace(",", ";").replace("\n", "\r\n").encode())
    shutil.copy(DATA / "cmmd" / CSV, tmp_path)
    expected = indexed(tmp_path, "cmmd", f"{{adapter: cmmd, dicom: {cmmd}}}", monkeypatch)
    for name in (CSV, "semicolons.csv"):
        found = indexed(tmp_path, "cmmd", f"{{adapter: cmmd, dicom: {cmmd}, label_file: {name}}}", monkeypatch)
        assert list(found.breasts) == list(expected.breasts)
        assert list(found.rejections) == list(expected.rejections)


def test_cmmd_unlabelled_as_normal_is_a_setting(cmmd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = f"{{adapter: cmmd, dicom: {cmmd}, labels: {{unlabelled: normal, duplicate_patients: keep}}}}"
    found = indexed(tmp_path, "cmmd", settings, monkeypatch)
    assert Counter((b.facts.label, b.facts.pathology == "normal") for b in found.breasts)[0, True] == 729


def test_cmmd_duplicates_are_found_by_pixels_alone(cmmd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = indexed(tmp_path, "cmmd", f"{{adapter: cmmd, dicom: {cmmd}, labels: {{duplicate_patients: keep}}}}", monkeypatch)
    assert not colliding_instances(found.images)
    owners: dict[str, set[str]] = {}
    suspects = {"D1-0202", "D2-0284", "D1-0808", "D1-1292"}
    for image in found.images:
        if image.patient_id in suspects or image.path.endswith("1-3.dcm"):
            digest = decode((cmmd / image.path).read_bytes(), Laterality.LEFT).pixel_digest
            owners.setdefault(digest, set()).add(image.patient_id)
    assert {frozenset(patients) for patients in owners.values() if len(patients) > 1} == {
        frozenset({"D1-0202", "D2-0284"}),
        frozenset({"D1-0808", "D1-1292"}),
    }


@pytest.mark.slow
def test_vindr_is_table_1(vindr: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = indexed(tmp_path, "vindr", f"{{adapter: vindr, dicom: {vindr}}}", monkeypatch)
    (row,) = to_json(table1([found]))["rows"]
    assert row["images"] == {"benign": 6368, "malignant": 226, "unlabelled": 0}
    assert row["equal"] is True
    assert Counter(b.facts.label for b in found.breasts) == {0: 3183, 1: 113}
    reasons = Counter(r.reason for r in found.rejections)
    assert reasons == {Reason.LABEL_EXCLUDED: 6703, Reason.MLO_MISSING: 1}
    (odd,) = [r for r in found.rejections if r.reason is Reason.MLO_MISSING]
    assert odd.what.endswith("_L")
    assert odd.detail == "2 CC and 0 MLO; expected one of each"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("benign", "malignant", "counts"),
    [
        ([1, 2, 3], [4, 5], {0: 9506, 1: 494}),
        ([1, 2, 3, 4], [5], {0: 9887, 1: 113}),
        ([2, 3], [4, 5], {0: 2803, 1: 494}),
        ([1, 2], [3, 4, 5], {0: 9041, 1: 959}),
    ],
)
def test_vindr_label_rules(
    benign: list[int],
    malignant: list[int],
    counts: dict[int, int],
    vindr: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every reading of BI-RADS that other papers use; the breast without an MLO is a benign one of BI-RADS 2."""
    rules = f"{{bi_rads_benign: {benign}, bi_rads_malignant: {malignant}}}"
    found = indexed(tmp_path, "vindr", f"{{adapter: vindr, dicom: {vindr}, labels: {rules}}}", monkeypatch)
    expected = {**counts, 0: counts[0] - 1}
    assert Counter(b.facts.label for b in found.breasts) == expected


@pytest.mark.slow
def test_vindr_pairs_across_series_and_sizes(vindr: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = "{bi_rads_benign: [1, 2, 3, 4]}"
    found = indexed(tmp_path, "vindr", f"{{adapter: vindr, dicom: {vindr}, labels: {rules}}}", monkeypatch)
    series = {row["image_id"]: row["series_id"] for row in read_table(vindr / "breast-level_annotations.csv", ["image_id"])}
    apart = sum(len({series[image.sop_instance_uid] for image in b.images}) > 1 for b in found.breasts)
    differ = sum(len({(image.rows, image.columns) for image in b.images}) > 1 for b in found.breasts)
    assert (len(found.breasts), apart, differ) == (9999, 41, 264)


@pytest.mark.fault(27)
def test_header_against_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that say otherwise than their headers: both values in the ledger, and the image in no breast."""
    rows, _ = vindr_tables()
    vindr = vindr_part(tmp_path / "in", rows[:40])
    text = (vindr / "breast-level_annotations.csv").read_text().splitlines()
    names, changed = text[0].split(","), list[tuple[Reason, str, str]]()
    other = {"L": "R", "R": "L", "CC": "MLO", "MLO": "CC"}
    for line, column, reason in (  # each of another exam, of four images
        (3, "laterality", Reason.LATERALITY_CONFLICT),
        (7, "view_position", Reason.VIEW_CONFLICT),
        (11, "height", Reason.SIZE_CONFLICT),
    ):
        row = dict(zip(names, text[line].split(","), strict=True))
        exam = [dict(zip(names, each.split(","), strict=True)) for each in text[line - 2 : line + 2]]
        assert {each["study_id"] for each in exam} == {row["study_id"]}
        before, row[column] = row[column], other.get(row[column], "19")
        if column == "laterality":  # keep the breast's assessment the same in its other rows
            same = next(each for each in exam if each["laterality"] == row["laterality"])
            row |= {name: same[name] for name in ("breast_birads", "breast_density")}
        text[line] = ",".join(row.values())
        detail = f"the header says {before}, the label table (line {line + 1}) says {row[column]}"
        changed.append((reason, f"{row['image_id']}.dicom", detail))
    table = tmp_path / "table.csv"
    table.write_text("\n".join(text) + "\n")
    found = indexed(tmp_path, "vindr", f"{{adapter: vindr, dicom: {vindr}, label_file: {table}}}", monkeypatch)
    reasons = {reason for reason, _, _ in changed}
    conflicts = [(r.reason, r.what.rpartition("/")[2], r.detail) for r in found.rejections if r.reason in reasons]
    assert sorted(conflicts) == sorted(changed)


def test_age_against_table(cmmd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(DATA / "cmmd" / CSV, tmp_path)
    table = tmp_path / CSV
    table.write_text(table.read_text().replace("D1-0002,L,40,", "D1-0002,L,42,"))
    found = indexed(tmp_path, "cmmd", f"{{adapter: cmmd, dicom: {cmmd}, label_file: {CSV}}}", monkeypatch)
    conflicts = [r for r in found.rejections if r.reason is Reason.AGE_CONFLICT]
    assert [r.detail for r in conflicts] == ["the header says 040Y, the label table says 042Y"] * 2


@pytest.mark.slow
def test_shortcut_baselines_are_the_known_ones(
    cmmd: Path, vindr: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "params.yaml").write_text(
        f"datasets:\n  cmmd: {{adapter: cmmd, dicom: {cmmd}}}\n  vindr: {{adapter: vindr, dicom: {vindr}}}\n"
    )
    for name, folder in (("cmmd", cmmd), ("vindr", vindr)):
        found = indexed(tmp_path / name, name, f"{{adapter: {name}, dicom: {folder}}}", monkeypatch, digest=True)
        write_manifests(found, tmp_path / "manifests" / name)
    monkeypatch.chdir(tmp_path)
    compared = json.loads(run("table1", "--json").stdout)
    floors = {(f["dataset"], f["shortcut"]): f for f in compared["floors"]}
    f1 = {name: floors[name, "all malignant"]["f1"] for name in ("cmmd", "vindr", "pooled")}
    assert f1 == pytest.approx({"cmmd": 0.826, "vindr": 0.066, "pooled": 0.433}, abs=5e-4)
    identity = floors["pooled", "data-set identity"]
    assert (identity["accuracy"], identity["f1"], identity["auc"]) == pytest.approx((0.871, 0.797, 0.886), abs=5e-4)
    assert floors["cmmd", "patient id prefix (CMMD's D1 or D2)"]["auc"] == pytest.approx(0.775, abs=1e-3)
    assert floors["cmmd", "age"]["auc"] == pytest.approx(0.681, abs=1e-3)
    text = run("table1", "--out", tmp_path / "metric.json").output
    assert text.count("paper's images, equal") == 2
    metric = json.loads((tmp_path / "metric.json").read_text())
    assert metric["cmmd"]["images"] == {"benign": 1108, "malignant": 2626, "unlabelled": 1456}
    assert metric["pooled"]["floors"]["data-set identity"]["f1"] == identity["f1"]


# --- memory -----------------------------------------------------------------------------------------------------------


def traced(folder: Path, rows: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The most bytes that Python held during an index that reads all headers, and during one that remembers them."""
    vindr_part(folder / "in", rows)
    peaks = []
    for _ in range(2):
        gc.collect()
        tracemalloc.start()
        found = indexed(folder, "vindr", f"{{adapter: vindr, dicom: {folder / 'in'}}}", monkeypatch)
        write_manifests(found, folder / "manifests")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(found.images) == len(rows)
    assert found.headers_read == 0
    return peaks


@pytest.mark.slow
def test_memory_per_file_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records are held in memory: 100,000 files must stay far below half a gigabyte."""
    rows, _ = vindr_tables()
    traced(tmp_path / "warm", rows[:40], monkeypatch)  # what is held once, whatever the number of files
    few, many = (traced(tmp_path / str(count), rows[:count], monkeypatch) for count in (100, 1300))
    for before, after in zip(few, many, strict=True):
        assert (after - before) / 1200 < 3500, (few, many)
