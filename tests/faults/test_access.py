"""Another user of the machine: no task in the local workers, no look at their environment, no code through a shared folder."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]
KEY = "a secret that identifiers are hashed with"
NOBODY = 65534

WORK = """
import sys
from fvpipe.execution.workers import Workers, WorkerSettings
def work(tasks):
    import cv2
    return [cv2.__file__ for _ in tasks]
if __name__ == "__main__":
    with Workers(WorkerSettings(count=2, threads=sys.argv[1] == "threads")) as workers:
        found = {file for batch in workers.run(work, range(8)) for file in batch}
        import cv2
        print(*found | {cv2.__file__}, flush=True)
        sys.stdin.read()
"""

OPEN_CLUSTER = """
import sys
from distributed import LocalCluster
if __name__ == "__main__":
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0"):
        print("ready", flush=True)
        sys.stdin.read()
"""

INTRUDER = """
import asyncio, json, logging, os, sys
import distributed
from distributed import Client, Security
from distributed.core import rpc
from distributed.protocol.pickle import dumps
logging.disable()

def peek():
    return os.environ.get("FVPIPE_ID_KEY")

async def call(address, security):
    async with rpc(address, connection_args=security.get_connection_args("client"), timeout=5) as there:
        return (await there.run(function=dumps(peek), args=dumps(()), kwargs=dumps({}), wait=True))["result"]

async def submit(address, security):
    async with Client(address, timeout=5, security=security, asynchronous=True) as client:
        return await client.submit(peek)

async def get(address, _):
    reader, writer = await asyncio.open_connection(*address.partition("://")[2].split(":"))
    writer.write(b"GET /health HTTP/1.0\\r\\n\\r\\n")
    return (await reader.read(100)).decode()

async def attempt(way, address, security):
    try:
        return way.__name__, address, await asyncio.wait_for(way(address, security), 8)
    except BaseException as error:
        return way.__name__, address, ""

async def main():
    tries = [attempt(way, f"tcp://{host}", Security()) for host in sys.argv[2:] for way in (call, submit, get)]
    tries += [attempt(way, f"tls://{host}", foreign) for host in sys.argv[2:] for way in (call, submit)]
    print(json.dumps([found for found in await asyncio.gather(*tries) if found[2]]), flush=True)
    os._exit(0)

foreign = Security.temporary()
if int(sys.argv[1]) >= 0:
    os.setgroups([])
    os.setgid(int(sys.argv[1]))
    os.setuid(int(sys.argv[1]))
asyncio.run(main())
"""


@contextmanager
def running(script: str, *arguments: str, temporary: Path) -> Iterator[tuple[psutil.Process, str]]:
    """Run a script until the context ends; yields its process, and the first line that it prints."""
    environment = {**os.environ, "FVPIPE_ID_KEY": KEY, "TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script, *arguments]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield psutil.Process(process.pid), process.stdout.readline()
            process.communicate(timeout=60)
            assert process.returncode == 0
        finally:
            process.kill()


def family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def listeners(process: psutil.Process) -> list[str]:
    """HOST:PORT of every port that the process and its children listen on."""
    sockets = [found for each in family(process) for found in each.net_connections("inet")]
    return [f"{found.laddr.ip}:{found.laddr.port}" for found in sockets if found.status == psutil.CONN_LISTEN]


def intrude(ports: list[str]) -> list[tuple[str, str, str]]:
    """What another user gets out of these ports, by each way to ask. Where nobody can become one, the user himself tries."""
    user = NOBODY if os.geteuid() == 0 else -1
    command = [sys.executable, "-c", INTRUDER, str(user), *ports]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    found: list[tuple[str, str, str]] = json.loads(done.stdout)
    return found


@pytest.mark.slow
@pytest.mark.fault(52)
def test_the_intruder_gets_into_a_cluster_without_keys(tmp_path: Path) -> None:
    """Or the next test would prove nothing."""
    with running(OPEN_CLUSTER, temporary=tmp_path) as (process, _):
        found = intrude(listeners(process))
    assert {(way, what) for way, _, what in found if KEY in what} == {("call", KEY), ("submit", KEY)}
    assert any(way == "get" and "200 OK" in what for way, _, what in found)


@pytest.mark.fault(52)
def test_nobody_else_gets_into_the_local_workers(tmp_path: Path) -> None:
    with running(WORK, "processes", temporary=tmp_path) as (process, _):
        ports = listeners(process)
        assert len(ports) == 5  # scheduler; each worker, and the nanny that watches it
        assert {port.partition(":")[0] for port in ports} == {"127.0.0.1"}
        assert not [found.laddr for each in family(process) for found in each.net_connections("unix") if found.laddr]
        assert intrude(ports) == []
        for each in family(process):
            assert KEY not in " ".join(each.cmdline())
            assert "PRIVATE" not in " ".join([*each.cmdline(), *each.environ().values()])
        for folder in tmp_path.iterdir():
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder
        assert not [file for file in tmp_path.rglob("*") if file.is_file() and b"PRIVATE" in file.read_bytes()]
    assert not list(tmp_path.iterdir())


@pytest.mark.fault(52)
def test_threads_listen_to_nothing(tmp_path: Path) -> None:
    with running(WORK, "threads", temporary=tmp_path) as (process, _):
        assert listeners(process) == []


@pytest.mark.fault(52)
def test_a_folder_that_somebody_made_in_advance_runs_no_code(tmp_path: Path) -> None:
    """Dask looks for modules in its scratch folder, and takes one in /tmp that is there already."""
    for name in ("dask-scratch-space", "dask-worker-space"):
        folder = tmp_path / name
        folder.mkdir()
        folder.chmod(0o777)
        (folder / "cv2.py").write_text("print('not the real one')")
        if os.geteuid() == 0:
            os.chown(folder, NOBODY, NOBODY)
    with running(WORK, "processes", temporary=tmp_path) as (_, line):
        assert "cv2" in line
        assert "not the real one" not in line
        assert str(tmp_path) not in line
