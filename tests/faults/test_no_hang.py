"""Nothing is waited for without end: workers that are stopped, schedulers that are silent, pipes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

import fvpipe
from fvpipe.cache.file_cache import FileCache
from fvpipe.cache.sample_store import SampleStore
from fvpipe.config.identifier_key import identifier_key
from fvpipe.config.loading import read_yaml
from fvpipe.dicom.policy import HeaderPolicy
from fvpipe.errors import ClusterError, FvpipeError
from fvpipe.evaluation.training_record import RECORD, read_trained
from fvpipe.execution import dask_client, isolation
from fvpipe.execution.isolation import run_isolated
from fvpipe.execution.workers import Workers, WorkerSettings
from fvpipe.io.locking import lock
from fvpipe.io.read import read_contents
from fvpipe.io.tables import read_own_table, read_table
from fvpipe.shards.format import RECEIPT, shard_name
from fvpipe.types import Digest
from tests.conftest import build, run
from tests.support import factory, shard_folder
from tests.support.processes import folder_bytes, in_every_process
from tests.support.tasks import slow, stopped_while_answering, stops_once

pytestmark = [pytest.mark.process, pytest.mark.timeout(100)]

posix = pytest.mark.skipif(os.name != "posix", reason="signals and named pipes of POSIX")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds in place of a minute."""
    for name, seconds in {
        "ANSWER_SECONDS": 2.0, "FIRST_WORKER_SECONDS": 2.0, "GONE_SECONDS": 8.0, "SILENT_SECONDS": 1.0, "CLOSE_SECONDS": 1.0,
        "POLL_SECONDS": 0.25,
    }.items():  # fmt: skip
        monkeypatch.setattr(dask_client, name, seconds)


# --- workers ----------------------------------------------------------------------------------------------------------


@posix
@pytest.mark.fault(56)
def test_stopped_workers_are_replaced_and_the_build_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both of them, within a batch; the shards are those of a build that nobody disturbed."""
    for number in range(30):  # enough that the first sample is seen before the last is made
        factory.patient(tmp_path / "in", f"p{number}", "L", number)
    build(tmp_path / "in", tmp_path / "clean")
    others = {child.pid for child in psutil.Process().children(recursive=True)}
    for name, seconds in {"SILENT_SECONDS": 4.0, "POLL_SECONDS": 0.5}.items():
        monkeypatch.setattr(dask_client, name, seconds)
    stopped: list[int] = []
    begun = threading.Event()

    def stop() -> None:
        while not begun.wait(0.01):
            with suppress(psutil.Error):  # one may end just now
                children = [each for each in psutil.Process().children(recursive=True) if each.pid not in others]
                workers = [each for each in children if "spawn_main" in " ".join(each.cmdline())]
                if len(workers) == 2 and any((tmp_path / "out").rglob("*.sample")):
                    for worker in workers:
                        worker.suspend()
                        stopped.append(worker.pid)
                    return

    thread = threading.Thread(target=stop)
    thread.start()
    try:
        build(tmp_path / "in", tmp_path / "out", "--timeout", 1, workers=2)
    finally:
        begun.set()
        thread.join()
    assert len(stopped) == 2
    assert folder_bytes(tmp_path / "out") == folder_bytes(tmp_path / "clean")


@posix
@pytest.mark.fault(56)
def test_a_stopped_isolated_process_is_replaced(tmp_path: Path) -> None:
    assert run_isolated(stops_once, [str(tmp_path / "once")], timeout=1) == [str(tmp_path / "once")]


@posix
@pytest.mark.fault(56)
def test_a_process_stopped_within_a_message_is_not_waited_for() -> None:
    results, end = isolation._run_fresh(stopped_while_answering, ["a"], timeout=1)
    assert results == []
    assert end is not None
    assert end.timed_out


@posix
@pytest.mark.fault(56)
def test_a_process_that_is_stopped_before_it_begins_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its work is more than a connection holds, so that handing it over waits."""
    monkeypatch.setattr(isolation, "START_SECONDS", 1)
    in_every_process("import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)\n", tmp_path / "site", monkeypatch)
    with pytest.raises(ClusterError, match=r"never began: no answer after 1 s.*--workers 0"):
        run_isolated(stops_once, ["x" * (1 << 24)], timeout=1)


# --- schedulers -------------------------------------------------------------------------------------------------------


def run_on(address: str, count: int = 8, after_first: Callable[[], object] = lambda: None) -> list[int]:
    with Workers(WorkerSettings(scheduler=address, timeout=4)) as workers:
        found: list[int] = []
        for batch in workers.run(slow, list(range(count))):
            found += [each for each in batch if isinstance(each, int)]
            after_first()
        return sorted(found)


@pytest.mark.fault(57)
def test_a_scheduler_that_accepts_and_never_speaks_is_named(impatient: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ClusterError, match=rf"{address}: no Dask scheduler .* answers .*expected .*tcp://HOST:8786"):
            run_on(address)


@pytest.mark.fault(57)
@pytest.mark.parametrize("scheme", ["tcp", "http", "ws"])
def test_a_web_server_is_no_scheduler(scheme: str, impatient: None) -> None:
    class Quiet(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        server.daemon_threads = True
        server.block_on_close = False
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            with pytest.raises(ClusterError, match="no Dask scheduler with workers answers"):
                run_on(f"{scheme}://127.0.0.1:{server.server_address[1]}")
        finally:
            server.shutdown()


@contextmanager
def dask(*arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    """A process of Dask's command line, ended at the end, stopped or not."""
    process = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_" + str(arguments[0]), *map(str, arguments[1:]), "--no-dashboard"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=Path(__file__).parents[2],
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(60)


@posix
@pytest.mark.slow
@pytest.mark.fault(57)
def test_schedulers_whose_workers_or_themselves_are_stopped_are_named(tmp_path: Path, impatient: None) -> None:
    file = tmp_path / "scheduler.json"
    with dask("scheduler", "--host", "127.0.0.1", "--port", 0, "--scheduler-file", file) as scheduler:
        deadline = time.monotonic() + 60
        while not file.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        address = json.loads(file.read_text())["address"]
        with pytest.raises(ClusterError, match=rf"{address}: no Dask scheduler with workers"):
            run_on(address)
        with dask("worker", address, "--no-nanny", "--nthreads", 1, "--local-directory", tmp_path) as worker:
            from distributed import Client

            with Client(address) as client:
                client.wait_for_workers(1, timeout=60)
            assert run_on(address) == list(range(8))
            worker.send_signal(signal.SIGSTOP)
            with pytest.raises(ClusterError, match=r"none of the 1 workers .* answers .*Start them again"):
                run_on(address)
            worker.send_signal(signal.SIGCONT)
            with pytest.raises(ClusterError, match="all workers are gone; what was finished is kept"):
                run_on(address, 80, lambda: worker.send_signal(signal.SIGSTOP))
        with dask("worker", address, "--no-nanny", "--nthreads", 1, "--local-directory", tmp_path):
            with Client(address) as client:
                client.wait_for_workers(1, timeout=60)
            with pytest.raises(ClusterError, match="scheduler has not answered for 8"):
                run_on(address, 80, lambda: scheduler.send_signal(signal.SIGSTOP))


# --- pipes ------------------------------------------------------------------------------------------------------------


def held(file: Path) -> None:
    with lock(file, print):
        raise AssertionError("a pipe is not a lock")


def read_shards(folder: Path, name: str) -> None:
    """Read a shard folder in which a pipe has the place of a file."""
    shard_folder.commit(folder)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    problems = fvpipe.verify(folder)
    raise FvpipeError("; ".join(problems))


def read_record(folder: Path) -> None:
    os.mkfifo(folder / RECORD)
    read_trained(folder)


def read_sample(folder: Path) -> None:
    store, key = SampleStore(folder), Digest("a" * 64)
    store.path(key).parent.mkdir()
    os.mkfifo(store.path(key))
    store.get(key)


def open_cache(pipe: Path) -> None:
    said: list[str] = []
    with FileCache(pipe, Path("/in"), HeaderPolicy(), warn=said.append):
        raise FvpipeError(*said)


def open_cache_beside(pipe: Path) -> None:
    pipe.rename(pipe.with_name("cache-journal"))
    open_cache(pipe.with_name("cache"))


PIPES: dict[str, Callable[[Path], object]] = {
    "identifier key": identifier_key,
    "YAML": read_yaml,
    "label table": lambda pipe: read_table(pipe, ["a"]),
    "own table": lambda pipe: read_own_table(pipe, ["a"]),
    "lock": held,
    "scheduler file": lambda pipe: list(Workers(WorkerSettings(scheduler_file=pipe)).run(slow, [1])),
    "file cache": open_cache,
    "journal of the file cache": open_cache_beside,
    "input file": lambda pipe: read_contents(pipe, ""),
    "receipt": lambda pipe: read_shards(pipe.parent, RECEIPT),
    "shard": lambda pipe: read_shards(pipe.parent, shard_name(0)),
    "table of shards": lambda pipe: read_shards(pipe.parent, "breasts.csv"),
    "training record": lambda pipe: read_record(pipe.parent),
    "sample": lambda pipe: read_sample(pipe.parent),
}


@posix
@pytest.mark.fault(58)
@pytest.mark.parametrize("kind", PIPES)
def test_a_pipe_is_named_and_not_waited_for(kind: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises((FvpipeError, OSError)) as raised:
        PIPES[kind](tmp_path / "pipe")
    said = str(raised.value)
    assert "regular file" in said or "not there" in said or "no such scheduler file" in said or "no finished training" in said
    assert str(tmp_path) in said


@posix
@pytest.mark.fault(58)
def test_a_build_among_pipes(tmp_path: Path) -> None:
    """As its key and as its table: named; as what builds leave behind: replaced, but for the lock."""
    factory.patient(tmp_path / "in", "p", "L")
    os.mkfifo(tmp_path / "in" / "x.dcm")
    out, options = tmp_path / "out", ("build-shards", "--pipeline", "cropped", "--dicom", tmp_path / "in", "--workers", 0)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "labels.csv").write_text("patient_id,laterality,label\np,L,benign\n")
    hashed = ("--labels", tmp_path / "labels.csv", "--id-key", tmp_path / "pipe")
    assert "not a regular file" in run(*options, "--out", out, *hashed, code=1).output
    assert "not a regular file" in run(*options, "--out", out, "--labels", tmp_path / "pipe", code=1).output
    assert "not_a_file: x.dcm" in run(*options, "--out", out).output
    before = folder_bytes(out)
    for name in (RECEIPT, "build.json", "breasts.csv", shard_name(json.loads(before[RECEIPT])["shards"][0]["index"])):
        (out / name).unlink()
        os.mkfifo(out / name)
    run(*options, "--out", out)
    assert folder_bytes(out) == before
    os.mkfifo(out / ".lock")
    assert "is not a regular file, which a lock is; remove it" in run(*options, "--out", out, code=1).output
