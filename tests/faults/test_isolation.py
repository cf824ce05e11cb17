"""Failures of the machine are never attributed to a file: each is made for real, in processes that fvpipe starts."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from fvpipe.build.sample import make_samples
from fvpipe.errors import ClusterError
from fvpipe.execution.cores import core_count
from fvpipe.execution.isolation import CONTROL_BYTES, Crash, run_alone, run_isolated
from fvpipe.execution.workers import Workers, WorkerSettings
from tests.conftest import build, run
from tests.support import factory
from tests.support.builds import tree
from tests.support.processes import in_every_process
from tests.support.tasks import core_limits, decoded_with, doubled, ended, printing

slow = pytest.mark.slow
linux = pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS, RLIMIT_NPROC, control groups")
ROOT = Path(__file__).parents[2]

UNGUARDED = """
import sys
from fvpipe.execution.workers import Workers, WorkerSettings
from tests.support.tasks import doubled
print("once")
with Workers(WorkerSettings(2, timeout=60)) as workers:
    print(sorted(each for batch in workers.run(doubled, [str(i) for i in range(int(sys.argv[1]))]) for each in batch))
"""


def limited(megabytes: int) -> str:
    """Code that limits the memory of every process that fvpipe starts, and not of the tests' own."""
    return f"import resource\nresource.setrlimit(resource.RLIMIT_AS, ({megabytes} << 20,) * 2)\n"


@pytest.mark.fault(43)
@pytest.mark.parametrize(
    ("standard_input", "count"),
    [
        pytest.param(False, 2, id="isolated"),
        pytest.param(False, 10, id="cluster", marks=slow),
        pytest.param(True, 2, id="standard input, isolated"),
        pytest.param(True, 10, id="standard input, cluster"),
    ],
)
def test_no_main_guard_is_needed(standard_input: bool, count: int, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(UNGUARDED)
    done = subprocess.run(
        [sys.executable, "-" if standard_input else tmp_path / "script.py", str(count)],
        input=UNGUARDED if standard_input else None,
        env=os.environ | {"PYTHONPATH": os.fspath(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.stdout.split("\n", 1) == ["once", f"{sorted(2 * str(i) for i in range(count))}\n"], done.stderr


def test_what_the_script_defines_travels(tmp_path: Path) -> None:
    """Such as an adapter's reader of masks, in a module beside the script or in the script itself."""
    (tmp_path / "beside.py").write_text("def tripled(tasks): return [3 * task for task in tasks]\n")
    (tmp_path / "script.py").write_text(
        "from beside import tripled\nfrom fvpipe.execution.isolation import run_isolated\n"
        "def own(tasks): return [task + 1 for task in tripled(tasks)]\n"
        "print(run_isolated(tripled, [1, 2], 60), run_isolated(own, [1], 60))\n"
    )
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py"],
        env=os.environ | {"PYTHONPATH": os.fspath(ROOT)}, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.stdout == "[3, 6] [4]\n", done.stderr


@pytest.mark.fault(43)
@linux
def test_a_process_that_never_begins_for_memory_blames_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_every_process(limited(60), tmp_path / "site", monkeypatch)
    with pytest.raises(ClusterError, match=r"never began: its process ended with .*: .*(emory|map segment).*--workers 0"):
        run_isolated(make_samples, [None], 60)  # type: ignore[list-item, misc]


@pytest.mark.fault(43)
@linux
@pytest.mark.parametrize("count", [2, 10], ids=["isolated", "cluster"])
def test_a_limit_of_processes_blames_no_file(count: int, tmp_path: Path) -> None:
    capabilities = "+dac_override,+dac_read_search"
    other_user = (
        "setpriv", "--reuid=54321", "--regid=54321", "--clear-groups",
        f"--inh-caps={capabilities}", f"--ambient-caps={capabilities}",
    )  # fmt: skip # since root has no limit
    if os.geteuid() == 0 and (not shutil.which("setpriv") or subprocess.run([*other_user, "true"], check=False).returncode):
        pytest.skip("root has no limit of processes")
    done = subprocess.run(
        [
            *(other_user if os.geteuid() == 0 else ()),
            "bash",
            "-c",
            'ulimit -u 1; exec "$0" "$@"',
            sys.executable,
            "-",
            str(count),
        ],
        input=UNGUARDED,
        env=os.environ | {"PYTHONPATH": os.fspath(ROOT), "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 1
    assert "ClusterError: a fresh process for the work never began: BlockingIOError" in done.stderr
    assert "ulimit" in done.stderr


@pytest.mark.fault(43)
@pytest.mark.skipif(os.name != "posix", reason="limits of POSIX")
def test_a_limit_of_open_files_is_raised_or_named() -> None:
    """Of 1,024, which many systems begin with, 128 workers need more; with too few Dask waits for itself."""
    for limit, code, said in (
        ("-S -n 40; ulimit -H -n 46", 0, ""),  # raised to as many as are needed
        ("-n 40", 1, "ClusterError: the workers need 42 open files, and this process may have 40"),
    ):
        done = subprocess.run(
            ["bash", "-c", f'ulimit {limit}; exec "$0" - 10', sys.executable], input=UNGUARDED,
            env=os.environ | {"PYTHONPATH": os.fspath(ROOT)}, capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip
        assert (done.returncode, said in done.stderr) == (code, True), done.stderr


def test_a_missing_folder_for_temporary_files_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("tempfile._candidate_tempdir_list", lambda: ["/proc/no-such-folder"])
    with Workers(WorkerSettings(2)) as workers, pytest.raises(ClusterError, match=r"No usable temporary directory.*TMPDIR"):
        list(workers.run(doubled, [str(i) for i in range(10)]))


@pytest.mark.fault(44)
@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM", "SIGHUP", "exit code 3"])
def test_a_process_that_is_ended_from_outside_blames_no_task(how: str) -> None:
    task = -3 if how == "exit code 3" else signal.Signals[how]
    with pytest.raises(ClusterError, match=rf"ended from outside 3 times \(its process ended with {how}\)"):
        run_isolated(ended, [task], 60)


@pytest.mark.fault(36)
@pytest.mark.parametrize("how", ["SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE"])
def test_a_crash_is_the_tasks(how: str) -> None:
    found = run_alone(ended, int(signal.Signals[how]), 60)
    assert found == Crash(int(signal.Signals[how]), f"its process ended with {how}")


@pytest.mark.fault(36)
@pytest.mark.parametrize("count", [pytest.param(2, id="isolated"), pytest.param(10, id="cluster", marks=slow)])
def test_a_crash_leaves_no_copy_of_its_memory(count: int) -> None:
    """Headers and pixels would lie in it, in whatever folder the build was started."""
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
    try:
        with Workers(WorkerSettings(2, timeout=60)) as workers:
            assert {each for batch in workers.run(core_limits, list(range(count))) for each in batch} == {0}
        assert resource.getrlimit(resource.RLIMIT_CORE)[0] == before[1]
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)


@pytest.mark.fault(43)
@linux
def test_nothing_is_blamed_where_a_control_task_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash where memory is short may be of any library that does not look whether it got some."""
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    in_every_process(limited(CONTROL_BYTES >> 20), tmp_path / "site", monkeypatch)
    assert run_isolated(doubled, ["a"], 60) == ["aa"]
    with pytest.raises(ClusterError, match=r"a control task without any file failed: .*MemoryError"):
        run_isolated(doubled, ["crash"], 60)


def test_output_of_a_task_is_no_message_and_blocks_nothing() -> None:
    assert run_isolated(printing, [1, 2], 60) == [1, 2]


# --- builds -----------------------------------------------------------------------------------------------------------

KILLED_DECODER = """
import os
import imagecodecs
def killed(*_, **__):
    os.kill(os.getpid(), 9)
imagecodecs.packbits_decode = killed
"""


@pytest.mark.fault(44)
@pytest.mark.parametrize("patients", [pytest.param(2, id="isolated"), pytest.param(8, id="cluster", marks=slow)])
def test_a_build_whose_workers_are_killed_keeps_nothing_of_it(
    patients: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by the system where memory is short, again and again; the version before is whole, the next build complete."""
    source, out = tmp_path / "in", tmp_path / "out"
    factory.patient(source, "before", "L", 0, JPEG2000Lossless)
    build(source, out)
    before = tree(out)
    for number in range(patients):
        factory.patient(source, f"p{number}", "L", number + 1, RLELossless)
    with monkeypatch.context() as broken:
        in_every_process(KILLED_DECODER, tmp_path / "site", broken)
        failed = run("build-shards", "--pipeline", "cropped", "--dicom", source, "--out", out, "--workers", 2, code=1)
    assert "ended with SIGKILL" in failed.output
    assert "No file is blamed" in failed.output
    assert tree(out) == before
    build(source, out, "--strict", workers=0)
    build(source, tmp_path / "clean", workers=0)
    assert tree(out) == tree(tmp_path / "clean")


@pytest.mark.fault(44)
@linux
@pytest.mark.parametrize(
    "syntax", [JPEG2000Lossless, *(pytest.param(each, marks=slow) for each in (JPEGLSLossless, RLELossless))]
)
def test_a_decoder_that_lacks_memory_rejects_no_file(syntax: str, tmp_path: Path) -> None:
    """OpenJPEG reports a lack of memory as it reports damage, OpenCV by an error of its own."""
    path = tmp_path / "x.dcm"
    factory.mammogram(path, factory.breast(shape=(2048, 1664)), syntax)
    short = 0
    for megabytes in (4, 22, 200):
        try:
            with Workers(WorkerSettings(1, timeout=60)) as workers:
                ((found,),) = workers.run(decoded_with, [(path, megabytes << 20)])
        except ClusterError as error:
            assert "out of memory" in str(error)
            short += 1
        else:
            assert isinstance(found, str)
    assert 1 <= short <= 2


def test_a_lack_of_memory_is_a_named_error() -> None:
    def full(tasks: list[str]) -> list[str]:
        raise MemoryError

    for count in (0, 2):
        with Workers(WorkerSettings(count)) as workers, pytest.raises(ClusterError, match=r"out of memory .*workers 0"):
            list(workers.run(full, ["a"]))


# --- cores ------------------------------------------------------------------------------------------------------------

V1 = "4:cpu,cpuacct:/docker/abc\n3:memory:/docker/abc\n"
V2 = "0::/machine/box\n"


@linux
@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        (V2, {"machine/box/cpu.max": "200000 100000"}, 2),
        (V2, {"machine/box/cpu.max": "max 100000", "machine/cpu.max": "150000 100000"}, 2),  # of the group that it lies in
        (V2, {"machine/box/cpu.max": "10000 100000"}, 1),
        (V2, {"machine/box/cpu.max": "max 100000"}, 8),
        (V2, {"machine/box/cpu.max": "900000 100000"}, 8),
        (V2, {"cpu.max": "300000 100000"}, 3),  # a container that sees the host's path
        (V1, {"cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "250000", "cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000"}, 3),
        (V1, {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "50000"}, 2),
        (V1, {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        (V1, {"memory/docker/abc/cpu.max": "100000 100000"}, 8),
        (V2, {"cpu.max": "not a number"}, 8),
        (None, {}, 8),
    ],
)
def test_quotas_of_containers_count(
    groups: str | None, files: dict[str, str], cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    for name, text in {f"sys/fs/cgroup/{name}": text for name, text in files.items()}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")
    if groups is not None:
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text(groups)
    assert core_count(tmp_path) == cores


def test_as_many_workers_as_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fvpipe.execution.workers.core_count", lambda: 3)
    assert Workers(WorkerSettings()).count == 3
    assert Workers(WorkerSettings(5)).count == 5
