"""Workers that die: by a decoder that crashes or hangs, or by somebody's hand."""

from __future__ import annotations

import json
import random
import threading
import time
from pathlib import Path

import psutil
import pytest

from fvpipe import dicom
from tests import factory
from tests.conftest import build

BROKEN_DECODERS = """
import os, re, time
import imagecodecs
def crash(*_):
    with open(os.environ["ATTEMPTS"], "a") as file: file.write("crash\\n")
    os.abort()
def hang(*_):
    with open(os.environ["ATTEMPTS"], "a") as file: file.write("hang\\n")
    re.match("(a+)+b", "a" * 64)  # compiled code that keeps the interpreter's lock
imagecodecs.jpegls_decode, imagecodecs.jpeg2k_decode = crash, hang
"""
SLOW_DECODER = """
import time
import imagecodecs
real = imagecodecs.packbits_decode
def slow(*args, **kwargs):
    time.sleep(0.05)
    return real(*args, **kwargs)
imagecodecs.packbits_decode = slow
"""


def in_every_process(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python runs `code` at the start of each process from now on: it stands for another build of the library."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(folder))


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file() and file.name != "build.json"}


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """Three sound patients; one whose CC ends the process, one whose MLO never ends."""
    for number, patient in enumerate(("p1", "p2", "p3", "crash", "hang")):
        factory.patient(tmp_path / "in", patient, "L", number, dicom.RLE, StudyInstanceUID="2.25.1")
    for name, syntax in (("crash_L_CC", dicom.JPEG_LS), ("hang_L_MLO", dicom.JPEG_2000_LOSSLESS)):
        view = factory.CC if name.endswith("CC") else factory.MLO
        factory.mammogram(
            tmp_path / "in" / f"{name}.dcm", factory.breast(5, view), syntax, view=view, StudyInstanceUID="2.25.1",
            PatientID=name.partition("_")[0], SOPInstanceUID=f"2.25.{syntax[-2:]}",
        )  # fmt: skip
    return tmp_path / "in"


def test_a_decoder_that_crashes_or_hangs_costs_its_file(cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = tmp_path / "attempts"
    monkeypatch.setenv("ATTEMPTS", str(attempts))
    with monkeypatch.context() as broken:
        in_every_process(BROKEN_DECODERS, tmp_path / "site", broken)
        options = ("--timeout", 1, "--json")
        done = build(cohort, tmp_path / "out", *options, workers=2)
        (result,) = json.loads(done.stdout)
        assert result["samples"] == 3
        assert result["rejections"] == {"decoder_crashed": 1, "decoder_timeout": 1, "view_unreadable": 2}
        rejected = (tmp_path / "out" / "rejected.csv").read_text()
        assert "crash_L_CC.dcm,decoder_crashed,its process ended with SIGABRT" in rejected
        assert "hang_L_MLO.dcm,decoder_timeout,no end after 1 s" in rejected
        tried = attempts.read_text().split()
        assert min(tried.count("crash"), tried.count("hang")) >= 4  # among others, and twice alone: the breast, the view
        before = folder_bytes(tmp_path / "out")
        (again,) = json.loads(build(cohort, tmp_path / "out", *options, workers=2).stdout)
        assert again["computed"] == again["written"] == 0
        assert attempts.read_text().split() == tried  # not tried again
        assert folder_bytes(tmp_path / "out") == before
    # A sound decoder, of which nothing says that it is another: the user does.
    (healed,) = json.loads(build(cohort, tmp_path / "out", "--reread", "--json", workers=1).stdout)
    assert (healed["samples"], healed["rejections"]) == (5, {})


def test_killed_workers_blame_no_file_and_change_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(12):
        factory.patient(tmp_path / "in", f"p{number}", "LR", number, dicom.RLE, StudyInstanceUID="2.25.1")
    build(tmp_path / "in", tmp_path / "clean")
    in_every_process(SLOW_DECODER, tmp_path / "site", monkeypatch)
    ended = threading.Event()
    killed = []

    def kill() -> None:
        rng = random.Random(0)
        while not ended.wait(0.3 + rng.random() * 0.4) and len(killed) < 5:
            workers = [
                child for child in psutil.Process().children(recursive=True) if "spawn_main" in " ".join(child.cmdline())
            ]
            if workers and any((tmp_path / "out").rglob("*.sample")):
                victim = rng.choice(workers)
                killed.append(victim.pid)
                victim.kill()

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        begun = time.monotonic()
        build(tmp_path / "in", tmp_path / "out", workers=2)
    finally:
        ended.set()
        thread.join()
    assert len(killed) >= 2, time.monotonic() - begun
    assert folder_bytes(tmp_path / "out") == folder_bytes(tmp_path / "clean")


def test_samples_travel_where_no_storage_is_shared(cohort: Path, tmp_path: Path) -> None:
    for pipeline in ("direct", "cropped"):
        build(cohort, tmp_path / f"shared-{pipeline}", workers=1, pipeline=pipeline)
        build(cohort, tmp_path / f"sent-{pipeline}", "--no-shared-storage", workers=1, pipeline=pipeline)
        assert folder_bytes(tmp_path / f"sent-{pipeline}") == folder_bytes(tmp_path / f"shared-{pipeline}")
