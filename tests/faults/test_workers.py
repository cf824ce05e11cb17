"""Workers that die: by a decoder that crashes or hangs, or by somebody's hand."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from fvpipe.execution.isolation import Crash
from fvpipe.execution.workers import Workers, WorkerSettings
from tests.conftest import build
from tests.support import factory
from tests.support.builds import tree
from tests.support.processes import BROKEN_DECODERS, SLOW_DECODER, in_every_process
from tests.support.tasks import HANGING, doubled, process_ids


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """Three sound patients; one whose CC ends the process, one whose MLO never ends."""
    for number, patient in enumerate(("p1", "p2", "p3", "crash", "hang")):
        factory.patient(tmp_path / "in", patient, "L", number, RLELossless, StudyInstanceUID="2.25.1")
    for name, syntax in (("crash_L_CC", JPEGLSLossless), ("hang_L_MLO", JPEG2000Lossless)):
        view = factory.CC if name.endswith("CC") else factory.MLO
        factory.mammogram(
            tmp_path / "in" / f"{name}.dcm", factory.breast(5, view), syntax, view=view, StudyInstanceUID="2.25.1",
            PatientID=name.partition("_")[0], SOPInstanceUID=f"2.25.{syntax[-2:]}",
        )  # fmt: skip
    return tmp_path / "in"


@pytest.mark.fault(36)
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
        before = tree(tmp_path / "out")
        (again,) = json.loads(build(cohort, tmp_path / "out", *options, workers=2).stdout)
        assert again["computed"] == again["written"] == 0
        assert attempts.read_text().split() == tried  # not tried again
        assert tree(tmp_path / "out") == before
    # A sound decoder, of which nothing says that it is another: the user does.
    (healed,) = json.loads(build(cohort, tmp_path / "out", "--reread", "--json", workers=0).stdout)
    assert (healed["samples"], healed["rejections"]) == (5, {})


@pytest.mark.fault(7)
def test_killed_workers_blame_no_file_and_change_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(12):
        factory.patient(tmp_path / "in", f"p{number}", "LR", number, RLELossless, StudyInstanceUID="2.25.1")
    build(tmp_path / "in", tmp_path / "clean")
    in_every_process(SLOW_DECODER, tmp_path / "site", monkeypatch)
    ended = threading.Event()
    killed = []

    def kill() -> None:
        rng = random.Random(0)
        while not ended.wait(0.3 + rng.random() * 0.4) and len(killed) < 3:
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
    assert tree(tmp_path / "out") == tree(tmp_path / "clean")


@pytest.mark.parametrize("pipeline", ["cropped", pytest.param("direct", marks=pytest.mark.slow)])
def test_samples_travel_where_no_storage_is_shared(pipeline: str, cohort: Path, tmp_path: Path) -> None:
    build(cohort, tmp_path / "shared", workers=0, pipeline=pipeline)
    build(cohort, tmp_path / "sent", "--no-shared-storage", workers=1, pipeline=pipeline)
    assert tree(tmp_path / "sent") == tree(tmp_path / "shared")


# --- runs of tasks ----------------------------------------------------------------------------------------------------


@pytest.mark.fault(36)
def test_a_crash_or_a_hang_costs_its_task() -> None:
    tasks = [*map(str, range(60)), "crash", *map(str, range(60, 120)), "hang"]
    with Workers(WorkerSettings(2, timeout=1)) as workers:
        found = [each for batch in workers.run(doubled, dict.fromkeys(tasks).keys()) for each in batch]
    crashes = {each.task: each for each in found if isinstance(each, Crash)}
    assert sorted(each for each in found if isinstance(each, str)) == sorted(2 * task for task in tasks if task.isdecimal())
    assert crashes.keys() == {"crash", "hang"}
    assert (crashes["crash"].timed_out, crashes["hang"].timed_out) == (False, True)


def test_few_tasks_are_isolated_and_need_no_cluster() -> None:
    with Workers(WorkerSettings(2, timeout=1)) as workers:
        (found,) = workers.run(doubled, ["a", "crash", "b"])
        assert (found[0], found[2]) == ("aa", "bb")
        assert isinstance(found[1], Crash)
        (processes,) = workers.run(process_ids, [1, 2])
        assert os.getpid() not in processes
        assert workers._client is None


def test_short_tasks_are_done_in_this_process() -> None:
    with Workers(WorkerSettings(2)) as workers:
        found = [each for batch in workers.run(process_ids, range(1000), max_in_process=1000) for each in batch]
        assert found == [os.getpid()] * 1000
        assert workers._client is None


def test_every_task_is_done_once() -> None:
    with Workers(WorkerSettings(2)) as workers:
        for count in (0, 1, 7, 21, 1500):
            for most in (0, 20):
                batches = workers.run(doubled, [str(i) for i in range(count)], max_in_process=most)
                assert sorted(str(each) for batch in batches for each in batch) == sorted(2 * str(i) for i in range(count))


def begun(script: str) -> tuple[subprocess.Popen[bytes], list[psutil.Process]]:
    """A process in a session of its own that runs tasks on two workers, as soon as a batch is back; and its children."""
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        start_new_session=True,
    )
    assert process.stdout
    assert process.stdout.readline() == b"begun\n"
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2
    return process, children


def still_there(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Those of `processes` that have not ended after `seconds`; they are ended then."""
    left = psutil.wait_procs(processes, timeout=seconds)[1]
    for each in left:
        each.kill()
    return list(left)


RUN_HANGING = """
from fvpipe.execution.workers import Workers, WorkerSettings
from tests.support.tasks import HANGING, doubled
if __name__ == '__main__':
    with Workers(WorkerSettings(2)) as workers:
        for batch in workers.run(doubled, HANGING):
            print('begun', flush=True)
"""


@pytest.mark.fault(6)
def test_no_process_outlives_the_one_that_was_killed() -> None:
    process, children = begun(RUN_HANGING)
    with process:
        process.kill()
        assert still_there(children, 30) == []


@pytest.mark.fault(6)
def test_interrupted_it_leaves_no_process() -> None:
    process, children = begun(RUN_HANGING)
    with process:
        assert process.stderr
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the whole group
        assert still_there([psutil.Process(process.pid), *children], 30) == []
        assert process.stderr.read().count(b"Traceback") == 1  # the parent's own


def test_an_error_ends_what_still_runs() -> None:
    """At once, and not after the seconds that Dask gives a task to end."""
    before = set(multiprocessing.active_children())
    ended = 0.0
    with pytest.raises(KeyError) as kept, Workers(WorkerSettings(2)) as workers:  # its traceback keeps the generator too
        for _ in workers.run(doubled, HANGING):
            started = set(multiprocessing.active_children()) - before
            ended = time.monotonic()
            raise KeyError
    assert time.monotonic() - ended < 4
    assert set(multiprocessing.active_children()) == before
    assert len(started) == 2
    assert kept.value
