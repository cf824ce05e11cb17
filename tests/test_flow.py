"""Builds: the same bytes whoever does the work, only what changed, and nothing half-made when it is broken off."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from weakref import WeakSet

import h5py
import numpy as np
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLosslessSV1, RLELossless

import fvpipe
from fvpipe.cli.output import print_rejections
from fvpipe.dicom import reader
from fvpipe.dicom.decoding.decoders import DECODERS, Decoder
from fvpipe.io.tables import read_table
from fvpipe.reasons import Flag, Reason, Rejection
from fvpipe.shards.format import read_receipt
from tests.conftest import build, run
from tests.support import factory
from tests.support.builds import KEY, PROGRAM, build_fails, builds, finished_samples, start, tree


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FVPIPE_ID_KEY", KEY)


# --- determinism ------------------------------------------------------------------------------------------------------


@pytest.mark.fault(13)
@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("--workers", 1), marks=pytest.mark.slow, id="1"),
        pytest.param(("--workers", 2), id="2"),
        pytest.param(("--workers", 8, "--threads"), id="8 threads"),
    ],
)
def test_same_bytes_for_any_workers(options: tuple[object, ...], cohort: Path, tmp_path: Path) -> None:
    labels = ("--labels", cohort / "labels.csv")
    build(cohort, tmp_path / "0", *labels)
    expected = tree(tmp_path / "0")
    assert len(expected) > 4
    build(cohort, tmp_path / "out", *labels, *options)
    assert tree(tmp_path / "out") == expected


@pytest.mark.fault(14)
def test_same_bytes_in_any_place_order_locale_and_time_zone(cohort: Path, tmp_path: Path) -> None:
    """Files made in another order, with other times, read under another locale, time zone and hash seed."""
    build(cohort, tmp_path / "a", "--labels", cohort / "labels.csv")
    files = list(cohort.rglob("*.dcm"))
    random.Random(0).shuffle(files)
    other = tmp_path / "elsewhere"
    for i, file in enumerate(files):
        target = other / file.relative_to(cohort)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
        os.utime(target, (i, i))
    environment = {**os.environ, "TZ": "Asia/Kathmandu", "LC_ALL": "C", "PYTHONHASHSEED": "7", "FVPIPE_ID_KEY": KEY}
    command = ["build-shards", "--pipeline", "cropped", "--dicom", other, "--out", tmp_path / "b", "--workers", "0"]
    subprocess.run(
        [*PROGRAM, *map(str, command), "--labels", cohort / "labels.csv"], check=True, env=environment, capture_output=True
    )
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_another_key_hides_the_same_patients_otherwise(cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(cohort, tmp_path / "a", "--labels", cohort / "labels.csv")
    monkeypatch.setenv("FVPIPE_ID_KEY", "another key, as long as it takes")
    build(cohort, tmp_path / "b", "--labels", cohort / "labels.csv")
    a, b = (fvpipe.open_shards(tmp_path / name) for name in "ab")
    assert not set(a.patient_ids.tolist()) & set(b.patient_ids.tolist())
    assert sorted(a.labels.tolist()) == sorted(b.labels.tolist())


GOLDEN = {
    "direct": "1b3995c043cb947d24ecce5ad7055074b979d920b40b396b3eda04267f73fcd7",
    "cropped": "d8fb45305cfda3deec62d106943d290ef24efaa3cbf160920525fd7e2d61d1ac",
    "adaptive": "6fd3063f87aee8cfde1ccee122791860a20c01a794a6b86f00a512381aa07132",
}
"""Digest of all images of the cohort. A change here without a raised PREPROCESSING_VERSION serves stale samples."""


@pytest.mark.parametrize("pipeline", GOLDEN)
def test_golden_bytes(pipeline: str, cohort: Path, tmp_path: Path) -> None:
    build(cohort, tmp_path, pipeline=pipeline)
    images = {}
    for file in tmp_path.glob("*.h5"):
        with h5py.File(file) as shard:
            images |= {i: shard["image"][n].tobytes() for n, i in enumerate(shard["breast_id"].asstr()[()])}
    digest = hashlib.sha256(b"".join(images[name] for name in sorted(images))).hexdigest()
    assert digest == GOLDEN[pipeline], (
        "bytes changed: raise PREPROCESSING_VERSION, say so in CHANGELOG, then change this digest"
    )


# --- incremental ------------------------------------------------------------------------------------------------------


def test_nothing_changed_nothing_done(own: Path, tmp_path: Path) -> None:
    first = builds(own, tmp_path / "out")
    assert first["computed"] == first["samples"] == 20
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir() if p.is_file()}
    second = builds(own, tmp_path / "out")
    assert (second["computed"], second["reused"], second["written"]) == (0, 20, 0)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir() if p.is_file()} == before


def test_a_no_op_asks_for_no_version(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking up an installed library's version takes longer than all else that is done for a finished breast."""
    builds(own, tmp_path / "out")
    monkeypatch.setattr("fvpipe.cache.decoder_crashes.decoder_identity", lambda _: pytest.fail("asked"))
    assert builds(own, tmp_path / "out")["computed"] == 0


def test_a_no_op_opens_no_dicom(own: Path, tmp_path: Path) -> None:
    arguments = ["build-shards", "--pipeline", "cropped", "--dicom", str(own), "--out", str(tmp_path / "out")]
    run(*arguments, "--workers", 0)
    script = (
        "import sys\n"
        "opened = []\n"
        "sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == 'open' else None)\n"
        "from fvpipe.cli.main import main\n"
        f"main({arguments!r}, standalone_mode=False)\n"
        "print(sum(name.endswith('.dcm') for name in opened), len(opened) > 20, 'distributed' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "0 True False"  # and no cluster was started for nothing


def test_one_changed_file_one_breast(own: Path, tmp_path: Path) -> None:
    builds(own, tmp_path / "out")
    before = tree(tmp_path / "out")
    file = own / "case3" / "P03_L_MLO.dcm"
    made = factory.breast(99, factory.MLO)
    factory.mammogram(file, made, PatientID="P03", view=factory.MLO, SOPInstanceUID="2.25.77")
    after = builds(own, tmp_path / "out")
    assert (after["computed"], after["reused"], after["written"]) == (1, 19, 1)
    changed = {name for name, digest in tree(tmp_path / "out").items() if digest != before[name]}
    assert len([name for name in changed if name.endswith(".h5")]) == 1
    rebuilt = tmp_path / "fresh"
    builds(own, rebuilt)
    assert tree(rebuilt) == tree(tmp_path / "out")  # the way there leaves no trace


@pytest.mark.fault(16)
def test_same_size_and_restored_time_is_seen(own: Path, tmp_path: Path) -> None:
    builds(own, tmp_path / "out")
    file = own / "case0" / "P00_L_CC.dcm"
    status, data = file.stat(), bytearray(file.read_bytes())
    data[-1000] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file.stat().st_mtime_ns == status.st_mtime_ns
    assert builds(own, tmp_path / "out")["computed"] == 1


def test_reread_trusts_nothing_and_computes_nothing(own: Path, tmp_path: Path) -> None:
    builds(own, tmp_path / "out")
    again = builds(own, tmp_path / "out", "--reread")
    assert (again["computed"], again["written"]) == (0, 0)


def test_touched_files_are_digested_not_decoded(own: Path, tmp_path: Path) -> None:
    builds(own, tmp_path / "out")
    for file in own.rglob("*.dcm"):
        os.utime(file)
    assert builds(own, tmp_path / "out")["computed"] == 0


def test_corrected_labels_decode_nothing(own: Path, tmp_path: Path) -> None:
    labels = own / "labels.csv"
    first = builds(own, tmp_path / "out", "--labels", labels)
    before = tree(tmp_path / "out")
    labels.write_text(labels.read_text().replace("P05,L,1", "P05,L,0"))
    second = builds(own, tmp_path / "out", "--labels", labels)
    assert (second["computed"], second["written"]) == (0, 1)
    assert second["labels"]["benign"] == first["labels"]["benign"] + 1
    assert sum(before[name] != digest for name, digest in tree(tmp_path / "out").items() if name.endswith(".h5")) == 1
    assert 0 in fvpipe.open_shards(tmp_path / "out").labels


def test_deleted_shards_come_back_from_the_samples(own: Path, tmp_path: Path) -> None:
    samples = ("--samples", tmp_path / "samples")
    builds(own, tmp_path / "out", *samples)
    before = tree(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    again = builds(own, tmp_path / "out", *samples)
    assert again["computed"] == 0
    assert tree(tmp_path / "out") == before


def test_deleted_or_damaged_samples_are_made_again(own: Path, tmp_path: Path) -> None:
    samples = tmp_path / "samples"
    builds(own, tmp_path / "a", "--samples", samples)
    for i, file in enumerate(sorted(samples.rglob("*.sample"))):
        if i % 2:
            file.unlink()
        else:
            data = bytearray(file.read_bytes())
            data[len(data) // 2] ^= 8
            file.write_bytes(data)
    builds(own, tmp_path / "b", "--samples", samples)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_a_new_patient_changes_one_shard(own: Path, tmp_path: Path) -> None:
    builds(own, tmp_path / "out")
    before = tree(tmp_path / "out")
    factory.patient(own / "new", "P99", "LR", seed=50)
    after = builds(own, tmp_path / "out")
    assert after["computed"] == 2
    shards = {name: digest for name, digest in tree(tmp_path / "out").items() if name.endswith(".h5")}
    assert sum(before.get(name) != digest for name, digest in shards.items()) == 1


def test_a_removed_patient_is_gone(own: Path, tmp_path: Path) -> None:
    builds(own, tmp_path / "out")
    for i in range(11):
        shutil.rmtree(own / f"case{i}")
    after = builds(own, tmp_path / "out")
    assert (after["samples"], after["computed"]) == (2, 0)
    assert len(list((tmp_path / "out").glob("*.h5"))) == 1
    run("verify", tmp_path / "out")


@pytest.mark.fault(15)
def test_a_parameter_changes_its_pipeline_only(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path, own, monkeypatch)
    assert result_of(run("build-shards", "--json", "--workers", 0)) == {"direct": 20, "cropped": 20}
    file = tmp_path / "pipelines" / "cropped.yaml"
    file.write_text(file.read_text() + "# a comment changes nothing\n")
    assert result_of(run("build-shards", "--json", "--workers", 0)) == {"direct": 0, "cropped": 0}
    file.write_text(file.read_text().replace("margin: 0.01", "margin: 0.02"))
    assert result_of(run("build-shards", "--json", "--workers", 0)) == {"direct": 0, "cropped": 20}


def project(folder: Path, dicom_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project folder with one data set of the user's own."""
    (folder / "params.yaml").write_text("datasets:\n  mine: {adapter: table}\n")
    (folder / "data").mkdir()
    (folder / "data" / "mine").symlink_to(dicom_folder)
    shutil.copytree(Path(__file__).parents[1] / "pipelines", folder / "pipelines")
    monkeypatch.chdir(folder)


def result_of(done: object) -> dict[str, int]:
    """Samples computed, by pipeline."""
    return {found["pipeline"]: found["computed"] for found in json.loads(done.stdout)}  # type: ignore[attr-defined]


def test_project_form(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path, own, monkeypatch)
    run("index", "--workers", 0)
    manifests = tmp_path / "manifests" / "mine"
    images = read_table(manifests / "images.csv", ["path", "breast_id", "view"])
    assert [row["path"] for row in images] == sorted(str(p.relative_to(own)) for p in own.rglob("*.dcm"))
    assert len(read_table(manifests / "breasts.csv", ["breast_id", "label"])) == 20
    text = "".join(p.read_text() for p in manifests.iterdir() if p.name != "images.csv")
    assert "P03" not in text  # identifiers of one's own data are hashed
    run("build-shards", "--pipeline", "cropped", "--dataset", "mine", "--workers", 0)
    out = tmp_path / "cache" / "shards" / "cropped" / "mine"
    assert len(fvpipe.open_shards(out)) == 20
    assert (out.parent / "mine.build.json").is_file()
    assert not (out / "build.json").exists()
    assert sorted(p.name for p in out.parent.iterdir()) == ["mine", "mine.build.json"]
    run("build-shards", "--pipeline", "cropped", "--dataset", "other", "--workers", 0, code=1)


# --- rejections ---------------------------------------------------------------------------------------------------------


@pytest.mark.fault(17)
def test_bad_files_are_named_and_the_rest_is_built(own: Path, tmp_path: Path) -> None:
    good = (own / "case1" / "P01_L_CC.dcm").read_bytes()
    bad = own / "bad"
    bad.mkdir()
    (bad / "text.dcm").write_text("a report, not an image")
    (bad / "empty.dcm").write_bytes(b"")
    (bad / "cut.dcm").write_bytes(good[: len(good) // 2])
    huge = factory.dataset(factory.breast().pixels, 12, Rows=65535, Columns=65535, SOPInstanceUID="2.25.5")
    (bad / "huge.dcm").write_bytes(factory.file_bytes(huge, factory.breast().pixels))
    factory.patient(bad / "a", "B1", "L", seed=1)
    (bad / "a" / "B1_L_MLO.dcm").unlink()  # a missing view
    factory.patient(bad / "b", "B2", "R", seed=2)
    factory.mammogram(
        bad / "b" / "second.dcm",
        factory.breast(3, factory.CC, factory.RIGHT),
        PatientID="B2",
        ImageLaterality="R",
        SOPInstanceUID="2.25.6",
    )
    factory.patient(bad / "c", "B3", "L", seed=3, syntax=JPEG2000Lossless)
    whole = (bad / "c" / "B3_L_CC.dcm").read_bytes()
    data = bytearray(whole)
    at = data.index(b"\xff\x93") + 200  # rotten inside the codestream: found only when decoded
    data[at : at + 400] = b"\xff" * 400
    (bad / "c" / "B3_L_CC.dcm").write_bytes(bytes(data))
    done = builds(own, tmp_path / "out")
    assert done["samples"] == 21
    rows = {
        (row["what"].rpartition("/")[2], row["reason"])
        for row in read_table(tmp_path / "out" / "rejected.csv", ["what", "reason", "detail"])
    }
    assert {
        ("text.dcm", "not_dicom"),
        ("empty.dcm", "not_dicom"),
        ("cut.dcm", "pixels_truncated"),
        ("huge.dcm", "size_out_of_range"),
    } <= rows
    reasons = done["rejections"]
    assert (reasons["mlo_missing"], reasons["superseded"], reasons["view_unreadable"]) == (1, 1, 1)
    assert reasons["decode_failed"] + reasons["pixels_truncated"] == 2
    fvpipe.open_shards(tmp_path / "out")
    again = builds(own, tmp_path / "out")  # a rejection is a result: it is not decoded again
    assert (again["computed"], again["rejections"]) == (0, reasons)
    assert build_fails(own, tmp_path / "few", "--max-rejected", 5).startswith("Error: ")
    assert not (tmp_path / "few" / "index.json").exists()
    assert builds(own, tmp_path / "some", "--max-rejected", 50)["rejections"] == reasons
    strict = run(
        "build-shards",
        "--pipeline",
        "cropped",
        "--dicom",
        own,
        "--out",
        tmp_path / "strict",
        "--workers",
        0,
        "--strict",
        code=1,
    )
    assert "text.dcm (not_dicom)" in strict.output
    assert not (tmp_path / "strict" / "index.json").exists()


class Kept(Rejection):
    """One that can be watched."""


def test_rejections_of_one_reason_are_one_line_and_none_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    alive: WeakSet[Kept] = WeakSet()

    def rejected() -> Iterator[Rejection]:
        for number in range(1000):
            reason = Reason.DECODE_FAILED if number % 2 else Reason.LABEL_EXCLUDED
            rejection = Kept(f"{number}.dcm", reason, "broken")
            alive.add(rejection)
            assert len(alive) < 5
            yield rejection

    print_rejections(rejected())
    assert capsys.readouterr().err == "  rejected: 500 decode_failed: 1.dcm, 3.dcm, 5.dcm, ... (broken)\n"


def test_too_many_fallbacks_fail_and_name_them(tmp_path: Path) -> None:
    folder = tmp_path / "dicom"
    noise = np.random.default_rng(0).integers(0, 4096, (480, 400), dtype=np.uint16)
    for i in range(12):
        for view in (factory.CC, factory.MLO):
            made = factory.Made(noise + 2 * i + (view is factory.MLO), factory.breast().drawing, 13)
            uid = f"2.25.{i}{len(view)}"
            factory.mammogram(folder / f"{i}{view}.dcm", made, PatientID=f"P{i}", view=view, SOPInstanceUID=uid)
    failed = build_fails(folder, tmp_path / "out")
    assert "12 of 12 breasts" in failed
    assert not list((tmp_path / "out").glob("*.h5"))
    assert builds(folder, tmp_path / "out", "--max-fallback", 100)["flags"]["cc_crop_fallback"] == 12


def test_one_sentence_for_each_wrong_call(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    assert "no DICOM file" in build_fails(tmp_path / "empty", tmp_path / "out")
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "a.dcm").symlink_to(tmp_path / "moved-away.dcm")
    said = build_fails(tmp_path / "links", tmp_path / "out")
    assert "no DICOM file; found nothing; a.dcm: a link that leads nowhere" in said
    assert not (tmp_path / "out" / "index.json").exists()
    assert "no such folder" in build_fails(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "file").write_text("x")
    assert "cannot be written" in build_fails(own, tmp_path / "file" / "out", "--samples", tmp_path / "samples")
    assert (
        "did you mean 'cropped'"
        in run("build-shards", "--pipeline", "croped", "--dicom", own, "--out", tmp_path / "out", code=1).output
    )
    assert "no adapter" in build_fails(own, tmp_path / "out", "--adapter", "cmd")
    assert "no such file" in build_fails(own, tmp_path / "out", "--labels", tmp_path / "none.csv")
    run("build-shards", "--pipeline", "cropped", "--dicom", own, code=2)
    run("build-shards", "--workers", "-1", code=2)
    monkeypatch.chdir(tmp_path)
    assert "params.yaml" in run("build-shards", "--pipeline", "cropped", code=1).output
    assert "no such scheduler file" in build_fails(own, tmp_path / "out", "--scheduler-file", tmp_path / "none.json")


def test_a_file_swapped_while_the_build_runs_is_never_labelled_as_another(own: Path, tmp_path: Path) -> None:
    """The index has read the headers, then two patients' files change places."""
    script = (
        "import os, fvpipe.flow as flow, fvpipe.cli.main as cli\n"
        "inner = flow.build_shards\n"
        "def swapped(*a, **k):\n"
        f"    a_, b_ = {str(own / 'case1' / 'P01_L_CC.dcm')!r}, {str(own / 'case2' / 'P02_R_CC.dcm')!r}\n"
        "    os.rename(a_, a_ + 'x'); os.rename(b_, a_); os.rename(a_ + 'x', b_)\n"
        "    return inner(*a, **k)\n"
        "flow.build_shards = swapped\n"
        f"out = {str(tmp_path / 'o')!r}\n"
        f"cli.main(['build-shards', '--pipeline', 'direct', '--dicom', {str(own)!r}, '--out', out, '--workers', '0'])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "not what the index read" in done.stderr
    assert not (tmp_path / "o" / "index.json").exists()


def test_a_failure_of_the_machine_is_no_refusal_of_the_file(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of memory today, readable tomorrow: nothing of it is remembered."""
    from fvpipe.dicom.decoding import pixels

    def no_memory(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        broken = {uid: Decoder("imagecodecs", d.lossy, no_memory) for uid, d in DECODERS.items()}  # type: ignore[arg-type]
        patch.setattr(pixels, "find_decoder", broken.get)
        assert "out of memory" in build_fails(own, tmp_path / "out")
    assert builds(own, tmp_path / "out")["samples"] == 20


def test_files_named_by_their_uid_are_read(own: Path, tmp_path: Path) -> None:
    for i, file in enumerate(sorted(own.rglob("*.dcm"))):
        file.rename(file.with_name(f"1.2.840.113619.2.{i}"))
    (own / "LICENSE").write_text("no image")
    (own / "notes.txt").write_text("no image either")
    done = run("build-shards", "--pipeline", "direct", "--dicom", own, "--out", tmp_path / "out", "--workers", 0, "--strict")
    assert len(fvpipe.open_shards(tmp_path / "out")) == 20
    assert "3 other file(s)" in done.stderr  # these two and the labels: counted, not lost


def test_only_our_own_folder_is_written_to(own: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    builds(own, out)
    message = run("build-shards", "--pipeline", "direct", "--dicom", own, "--out", out, "--workers", 0, code=1).output
    assert "holds the shards of cropped/table" in message
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "shard-mine.h5").write_text("a year of work")
    assert "shard-mine.h5" in build_fails(own, tmp_path / "mine", "--samples", out / ".samples")
    assert (tmp_path / "mine" / "shard-mine.h5").read_text() == "a year of work"


def test_options_of_the_other_form_are_no_silent_wish(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path, own, monkeypatch)
    for option in (("--labels", own / "labels.csv"), ("--adapter", "cmmd"), ("--name", "x"), ("--shard-count", 3)):
        run("build-shards", "--pipeline", "cropped", *option, code=2)
    run("build-shards", "--pipeline", "cropped", "--max-fallback", "nan", code=2)


def test_labels_that_match_nobody_are_an_error(own: Path, tmp_path: Path) -> None:
    (own / "labels.csv").write_text("patient_id,laterality,label\nnobody,L,1\n")
    assert "none of its 1 rows matches an imaged breast" in build_fails(own, tmp_path / "out", "--labels", own / "labels.csv")


# --- an existing cluster ----------------------------------------------------------------------------------------------


def test_existing_cluster(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By address, by scheduler file and by the environment; the build neither starts nor stops it."""
    from distributed import LocalCluster

    builds(own, tmp_path / "clean")
    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None, protocol="tcp", host="127.0.0.1"
    ) as cluster:
        address = cluster.scheduler_address
        build(own, tmp_path / "a", "--scheduler", address)
        file = tmp_path / "scheduler.json"
        file.write_text(json.dumps(cluster.scheduler.identity(), skipkeys=True))
        build(own, tmp_path / "b", "--scheduler-file", file)
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", address)
        run("build-shards", "--pipeline", "cropped", "--dicom", own, "--out", tmp_path / "c")
        assert len(cluster.scheduler_info["workers"]) == 1
        # Workers that live in another folder: a relative input must reach them as an absolute one.
        monkeypatch.chdir(own.parent)
        run("build-shards", "--pipeline", "cropped", "--dicom", own.name, "--out", tmp_path / "d")
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "tcp://127.0.0.1:1")
        build(own, tmp_path / "e", workers=0)  # what is asked for wins over the environment
    for name in "abcde":
        assert tree(tmp_path / name) == tree(tmp_path / "clean")


def test_a_cluster_that_is_none_or_goes_away(own: Path, tmp_path: Path) -> None:
    (tmp_path / "scheduler.json").write_text('{"a": 1}')
    options = ("--scheduler-file", tmp_path / "scheduler.json")
    message = run("build-shards", "--pipeline", "cropped", "--dicom", own, "--out", tmp_path / "out", *options, code=1).output
    assert "no Dask scheduler with workers answers" in message


def test_a_scheduler_that_dies_is_one_sentence(own: Path, tmp_path: Path) -> None:
    """A real scheduler and worker on this machine; the scheduler is killed while the build runs."""
    for i in range(12, 40):
        factory.patient(own / f"case{i}", f"P{i:02d}", "LR", seed=i, syntax=JPEG2000Lossless)
    file, out = tmp_path / "scheduler.json", tmp_path / "out"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    options = ["--host", "127.0.0.1", "--no-dashboard"]
    scheduler = subprocess.Popen(
        [sys.executable, "-m", "dask", "scheduler", *options[:2], "--port", "0", "--no-dashboard", "--scheduler-file", file],
        **quiet,
    )  # type: ignore[call-overload]
    worker = subprocess.Popen(
        [sys.executable, "-m", "dask", "worker", *options, "--nthreads", "1", "--no-nanny", "--scheduler-file", file], **quiet
    )  # type: ignore[call-overload]
    try:
        deadline = time.monotonic() + 60
        while not file.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process = start(own, out, "--scheduler-file", str(file))
        while finished_samples(out) < 2 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        scheduler.kill()
        _, stderr = process.communicate(timeout=90)
    finally:
        for started in (scheduler, worker):
            started.kill()
            started.wait(20)
    assert process.returncode == 1, stderr
    assert "the Dask scheduler went away" in stderr
    assert "Traceback" not in stderr


# --- the rest of the commands -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("inspects_here")
def test_verify_report_inspect(cbis: Path, tmp_path: Path) -> None:
    out = tmp_path / "shards" / "cropped" / "cbis"
    build(cbis, out, "--adapter", "cbis")
    assert "4 samples" in run("verify", out).output
    assert "1 shard folder(s), 4 images" in run("report", "--shards", tmp_path / "shards", "--out", tmp_path / "r.html").output
    page = (tmp_path / "r.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 4
    assert "P_00820_L" in page
    assert "http" not in page.replace("http-equiv", "")  # opens without a network
    shown = run("inspect", out).output
    assert "1 malignant" in shown.replace("malignant 1", "1 malignant")
    methods = {topic: re.search(rf"^  {topic}.method +(\w+)$", shown, re.MULTILINE) for topic in ("intensity", "segment")}
    assert {topic: found and found[1] for topic, found in methods.items()} == {"intensity": "minmax", "segment": "otsu_log"}
    assert json.loads(run("inspect", out, "--json").output)["settings"]["intensity"]["method"] == "minmax"
    film = cbis / "sfm-malign-0" / "1-280.dcm"
    shown = run("inspect", film, "--adapter", "cbis", "--png", tmp_path / "film.png").output
    assert "otsu_log" in shown
    assert (tmp_path / "film.png").read_bytes()[:4] == b"\x89PNG"
    assert json.loads(run("inspect", film, "--json", code=1).output)["reason"] == "sop_class_refused"
    shard = out / read_receipt(out).shards[0].file
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    assert "is damaged" in run("verify", out, code=1).output


@pytest.mark.parametrize("form", ["cmmd", pytest.param("vindr", marks=pytest.mark.slow)])
def test_phantoms_are_the_same_bytes_every_time(form: str, phantoms: dict[str, Path], tmp_path: Path) -> None:
    run("phantom", "--form", form, "--out", tmp_path / form, "--patients", 12)
    files = [file for file in phantoms[form].rglob("*") if file.is_file()]
    assert len(files) > 24
    for file in files:
        assert (tmp_path / form / file.relative_to(phantoms[form])).read_bytes() == file.read_bytes(), file


def test_phantoms_hold_their_traps(phantoms: dict[str, Path], tmp_path: Path) -> None:
    found = {}
    for form, folder in phantoms.items():
        build(folder, tmp_path / form, "--adapter", form)
        found[form] = json.loads((tmp_path / form / "index.json").read_text())
    vindr, cmmd = found["vindr"], found["cmmd"]
    assert vindr["rejections"] == {"label_excluded": 4, "mlo_missing": 1}
    assert vindr["flags"]["sizes_differ"] == 1
    assert vindr["labels"]["unlabelled"] == 0
    assert vindr["labels"]["malignant"] > 3
    assert cmmd["rejections"] == {"label_excluded": 6}  # four patients of duplicated pixels
    assert cmmd["labels"]["unlabelled"] == 2
    with open(tmp_path / "cmmd" / "images.csv") as file:
        images = list(csv.DictReader(file))
    assert {row["bits_stored"] for row in images} == {"8", "16"}
    by_name = {row["path"].rpartition("/")[2]: row["view"] for row in images if row["patient_id"] == "D1-1506"}
    assert by_name == {"1-1.dcm": "MLO", "1-2.dcm": "CC"}  # the file's number says nothing of the view
    with open(tmp_path / "vindr" / "images.csv") as file:
        syntaxes = {row["transfer_syntax_uid"] for row in csv.DictReader(file)}
    assert syntaxes == {ExplicitVRLittleEndian, RLELossless, JPEGLosslessSV1, JPEG2000Lossless}


def test_no_header_is_parsed_twice_in_a_build(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The index parses it, the file cache carries it, and decoding takes it."""
    parsed, inner = Counter[bytes](), reader.read_dataset

    def counting(file: Any, *arguments: Any, **named: Any) -> Any:
        start = file.tell()
        parsed[hashlib.sha256(file.read(4096)).digest()] += 1
        file.seek(start)
        return inner(file, *arguments, **named)

    monkeypatch.setattr(reader, "read_dataset", counting)
    assert builds(own, tmp_path / "out")["computed"] == 20
    assert set(parsed.values()) == {1}  # of each file its meta information, and its data set


# --- the same image twice, and images of nothing ----------------------------------------------------------------------


def breast_of(
    folder: Path, name: str, cc: factory.Made, mlo: factory.Made, syntax: str = ExplicitVRLittleEndian, **tags: Any
) -> None:
    """Both views of one breast, each file with a UID of its own."""
    for view, made in ((factory.CC, cc), (factory.MLO, mlo)):
        uid = f"2.25.{int.from_bytes(f'{name}{view}'.encode())}"
        factory.mammogram(folder / f"{name}_{view}.dcm", made, syntax, view=view, SOPInstanceUID=uid, **tags)


def outcome(folder: Path, out: Path, *options: object, pipeline: str = "cropped") -> tuple[dict[str, Flag], dict[str, str]]:
    """Flags of each breast that concern pixels, and reasons of what is rejected."""
    run("build-shards", "--pipeline", pipeline, "--dicom", folder, "--out", out, "--workers", 0, *options)
    shards = fvpipe.open_shards(out)
    pixels = Flag.SHARED_PIXELS | Flag.SHARED_BY_SIDES | Flag.SHARED_BY_EXAMS | Flag.CC_CONSTANT | Flag.MLO_CONSTANT
    with open(out / "rejected.csv") as file:
        rejected = {row["what"]: row["reason"] for row in csv.DictReader(file)}
    return {str(b): Flag(int(f)) & pixels for b, f in zip(shards.breast_ids, shards.flags, strict=True)}, rejected


A, B, C, D = (factory.breast(seed, view) for seed in (31, 32) for view in (factory.CC, factory.MLO))
OTHER_HEADER = {"PixelPaddingValue": 4095, "Manufacturer": "ACME", "TextValue": "x" * 1000}
PIPELINES = ["direct", "cropped", "antialiased"]


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, JPEG2000Lossless, DeflatedExplicitVRLittleEndian])
def test_one_image_as_both_views_is_no_pair(syntax: str, pipeline: str, tmp_path: Path) -> None:
    """Whatever the syntax, the bits allocated and the header of the copy; the same when nothing is computed again."""
    folder = tmp_path / "in"
    breast_of(folder, "good", A, B, PatientID="good", StudyInstanceUID="2.25.7")
    eight = factory.breast(33, bits=8)
    wide = factory.Made(eight.pixels.astype(np.uint16), eight.drawing, 8)
    twelve = factory.Made(wide.pixels, wide.drawing, 12)
    copies: dict[str, tuple[factory.Made, factory.Made, dict[str, Any]]] = {
        "mirrored": (A, mirrored(A), {}),
        "twin": (A, A, {}),
        "padded": (B, B, OTHER_HEADER),
        "wide": (eight, wide, {}),
        "twelve": (eight, twelve, {}),
        "turned": (A, factory.Made(np.ascontiguousarray(A.pixels[::-1, ::-1]), A.drawing, A.bits), {}),
        "reoriented": (A, A, {"PatientOrientation": ["P", "HL"]}),
    }
    for number, (name, (cc, mlo, tags)) in enumerate(copies.items()):
        base = {"PatientID": name, "StudyInstanceUID": "2.25.7"}
        factory.mammogram(folder / f"{name}_CC.dcm", cc, SOPInstanceUID=f"2.25.1{number}", **base)
        copy = base | {"SOPInstanceUID": f"2.25.2{number}"} | tags
        factory.mammogram(folder / f"{name}_MLO.dcm", mlo, syntax, view=factory.MLO, **copy)
    first = outcome(folder, tmp_path / "out", pipeline=pipeline)
    built, rejected = first
    assert len(built) == 1
    assert sorted(rejected.values()) == ["identical_views"] * 7
    assert outcome(folder, tmp_path / "out", pipeline=pipeline) == first
    assert "twin_CC.dcm and twin_MLO.dcm: the same pixels" in (tmp_path / "out" / "rejected.csv").read_text()


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_shared_views_are_flagged_by_their_kind(pipeline: str, tmp_path: Path) -> None:
    """Sides, exams and patients each by a name, all of them where all are true, and none for the breast beside."""
    folder = tmp_path / "in"
    names = ("sides", "cross", "exams", "all", "plain")
    people: dict[str, dict[str, Any]] = {name: {"PatientID": name, "StudyInstanceUID": "2.25.7"} for name in names}
    views = [factory.breast(seed, view) for seed in range(41, 46) for view in (factory.CC, factory.MLO)]
    syntax = ExplicitVRLittleEndian if pipeline == "antialiased" else JPEG2000Lossless  # it compares images decoded alike
    right, later = {"ImageLaterality": "R"}, {"StudyInstanceUID": "2.25.8"}
    breast_of(folder, "sides_L", A, B, **people["sides"])
    breast_of(folder, "sides_R", A, B, syntax, **people["sides"] | right)
    breast_of(folder, "cross_L", C, D, **people["cross"])
    breast_of(folder, "cross_R", views[0], C, **people["cross"] | right)  # the right MLO is the left CC
    breast_of(folder, "exams_1", views[1], views[2], **people["exams"])
    breast_of(folder, "exams_2", views[1], views[3], **people["exams"] | later | OTHER_HEADER)
    breast_of(folder, "all_L1", views[4], views[5], **people["all"])
    breast_of(folder, "all_R2", views[4], views[6], **people["all"] | right | later)
    breast_of(folder, "plain_L", views[5], views[7], **people["plain"])
    breast_of(folder, "plain_R", views[8], views[9], **people["plain"] | right)
    built, rejected = outcome(folder, tmp_path / "out", pipeline=pipeline)
    assert rejected == {}
    shards = fvpipe.open_shards(tmp_path / "out")
    owners = dict(zip(shards.breast_ids.tolist(), shards.patient_ids.tolist(), strict=True))
    found = sorted([len([b for b in built if owners[b] == owners[breast]]), int(flags)] for breast, flags in built.items())
    sides, exams, patients = Flag.SHARED_BY_SIDES, Flag.SHARED_BY_EXAMS, Flag.SHARED_PIXELS
    expected = [sides] * 4 + [exams] * 2 + [sides | exams, sides | exams | patients] + [patients, Flag(0)]
    assert found == sorted([2, int(flags)] for flags in expected)


def mirrored(made: factory.Made) -> factory.Made:
    return factory.Made(np.ascontiguousarray(made.pixels[:, ::-1]), made.drawing, made.bits)


@pytest.mark.parametrize("pipeline", ["direct", "cropped"])
def test_a_copy_is_found_however_it_lies_and_under_other_bits(pipeline: str, tmp_path: Path) -> None:
    """A left breast mirrored as the right one, in another exam and under another patient; 8 bits in 12, and signed."""
    folder = tmp_path / "in"
    eight = factory.breast(33, bits=8)
    twelve = factory.Made(eight.pixels.astype(np.uint16), eight.drawing, 12)
    signed = factory.Made(eight.pixels.astype(np.int16), eight.drawing, 12)
    first, second = {"StudyInstanceUID": "2.25.7"}, {"StudyInstanceUID": "2.25.8"}
    right = {"ImageLaterality": "R"}
    breast_of(folder, "sides_L", A, B, PatientID="sides", **first)
    breast_of(folder, "sides_R", C, mirrored(B), PatientID="sides", **first | right)
    breast_of(folder, "exams_1", eight, D, PatientID="exams", **first)
    breast_of(folder, "exams_2", mirrored(twelve), factory.breast(34, factory.MLO), PatientID="exams", **second)
    turned = factory.Made(np.ascontiguousarray(signed.pixels[::-1, ::-1]), signed.drawing, 12)
    breast_of(folder, "other", turned, factory.breast(35, factory.MLO), PatientID="other", **first)
    built, rejected = outcome(folder, tmp_path / "out", "--max-fallback", 100, pipeline=pipeline)
    assert rejected == {}
    sides, exams, patients = Flag.SHARED_BY_SIDES, Flag.SHARED_BY_EXAMS, Flag.SHARED_PIXELS
    assert sorted(built.values()) == sorted([sides, sides, exams | patients, exams | patients, patients])


def test_copies_of_an_instance_that_differ_in_rescale_or_padding_are_no_copies(tmp_path: Path) -> None:
    """Equal stored values under a negative slope are the negative of the image; in another syntax they are the same."""
    negative, padding = {"RescaleSlope": -1, "RescaleIntercept": 4095}, {"PixelPaddingValue": 0}
    for name, tags in (("same", {}), ("other", negative), ("padded", padding)):
        one = {"PatientID": name, "StudyInstanceUID": "2.25.7", "SOPInstanceUID": f"2.25.{len(name)}"}
        factory.mammogram(tmp_path / "in" / f"{name}_a.dcm", A, **one)
        factory.mammogram(tmp_path / "in" / f"{name}_b.dcm", A, JPEG2000Lossless, **one | tags)
        factory.mammogram(
            tmp_path / "in" / f"{name}_m.dcm", B, view=factory.MLO, **one | {"SOPInstanceUID": f"2.25.9{len(name)}"}
        )
    for _ in range(2):
        built, rejected = outcome(tmp_path / "in", tmp_path / "out")
        assert len(built) == 1
        reasons = {what: reason for what, reason in rejected.items() if what.endswith(".dcm")}
        conflict = "instance_conflict"
        differing = {f"{name}_{copy}.dcm": conflict for name in ("other", "padded") for copy in "ab"}
        assert reasons == {"same_b.dcm": "duplicate_instance"} | differing


def test_a_rejected_breast_still_tells_of_its_copy(tmp_path: Path) -> None:
    """Left CC and MLO are one image, and so is the right CC: the right breast is flagged, in a later build, too."""
    breast_of(tmp_path / "in", "left", A, A, StudyInstanceUID="2.25.7")
    breast_of(tmp_path / "in", "right", A, B, ImageLaterality="R", StudyInstanceUID="2.25.7")
    for _ in range(2):
        built, rejected = outcome(tmp_path / "in", tmp_path / "out")
        assert list(built.values()) == [Flag.SHARED_BY_SIDES]
        assert list(rejected.values()) == ["identical_views"]
        for memory in (tmp_path / "out" / ".samples").glob("sources-*"):
            memory.unlink()


def placeholder(value: int, padded: bool = False) -> factory.Made:
    made = factory.breast()
    pixels = np.full_like(made.pixels, value)
    pixels[:, 200:] = 4000 if padded else value
    return factory.Made(pixels, made.drawing, made.bits)


@pytest.mark.fault(23)
@pytest.mark.parametrize("pipeline", [*PIPELINES, "cc"])
@pytest.mark.parametrize("value", [0, 500, 3], ids=["black", "grey", "padded"])
def test_a_constant_view_is_never_a_mammogram(value: int, pipeline: str, tmp_path: Path) -> None:
    """Its breast is left out by default, and built with a flag where the pipeline says so; the other view alone is one."""
    folder, made = tmp_path / "in", placeholder(value, padded=value == 3)
    good = {"PatientID": "good", "StudyInstanceUID": "2.25.7"}
    breast_of(folder, "good", A, B, **good)
    breast_of(folder, "bad", C, made, PatientID="bad", StudyInstanceUID="2.25.7", PixelPaddingValue=4000)
    breast_of(folder, "both", made, made, PatientID="both", StudyInstanceUID="2.25.7", PixelPaddingValue=4000)
    built, rejected = outcome(folder, tmp_path / "out", pipeline=pipeline)
    good_enough = pipeline == "cc"  # it needs no MLO
    assert list(built.values()) == [Flag(0)] * (1 + good_enough)
    assert rejected["bad_MLO.dcm"] == rejected["both_CC.dcm"] == "constant_view"
    assert sorted(rejected.values()) == ["constant_view"] * 2 + ["view_unreadable"] * (2 - good_enough)
    own = tmp_path / "own.yaml"
    own.write_text((Path(__file__).parents[1] / "pipelines" / f"{pipeline}.yaml").read_text() + "\nconstant: keep\n")
    built, rejected = outcome(folder, tmp_path / "kept", pipeline=str(own))
    shared = Flag.SHARED_PIXELS
    both = Flag.CC_CONSTANT | Flag.MLO_CONSTANT
    assert rejected == {}
    assert sorted(built.values()) == sorted([Flag(0), Flag.MLO_CONSTANT | shared, both | shared])
    shards = fvpipe.open_shards(tmp_path / "kept")
    constant = [bool(Flag(int(flags)) & Flag.CONSTANT_IMAGE) for flags in shards.flags]
    assert np.isfinite(shards.images()).all()
    assert [not image.any() for image in shards.images()] == constant
    assert sum(constant) == 1


def test_one_bright_pixel_is_no_constant_view(tmp_path: Path) -> None:
    """Though the thumbnail of segmentation does not see it."""
    made = placeholder(0)
    made.pixels[0, 0] = 1
    breast_of(tmp_path / "in", "a", A, made)
    built, rejected = outcome(tmp_path / "in", tmp_path / "out", "--max-fallback", 100)
    assert (list(built.values()), rejected) == ([Flag(0)], {})


def test_audit_names_what_a_build_would_reject(tmp_path: Path) -> None:
    folder, study = tmp_path / "in", {"StudyInstanceUID": "2.25.7"}
    breast_of(folder, "twin", A, mirrored(A), PatientID="twin", **study)
    breast_of(folder, "black", B, placeholder(0), PatientID="black", **study)
    breast_of(folder, "left", C, D, PatientID="sides", **study)
    breast_of(folder, "right", mirrored(C), B, PatientID="sides", ImageLaterality="R", **study)
    (audited,) = json.loads(run("audit", "--dicom", folder, "--out", tmp_path / "a.html", "--workers", 0, "--json").stdout)
    built, _ = outcome(folder, tmp_path / "out")
    receipt = json.loads((tmp_path / "out" / "index.json").read_text())
    assert audited["rejections"] == receipt["rejections"] == {"identical_views": 1, "constant_view": 1, "view_unreadable": 1}
    assert audited["flags"]["shared_by_sides"] == receipt["flags"]["shared_by_sides"] == 2
    assert len(built) == 2
