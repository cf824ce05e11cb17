"""Every benchmark runs in tiny form; and the recipes of docs/cluster.md are tried as far as they can be."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from benchmarks import __main__ as command_line
from benchmarks import cost
from benchmarks.cohort import FORMS, cohort
from benchmarks.measure import Report, Runs, Setup
from fvpipe.execution.dask_client import MALLOC_ENVIRONMENT
from tests.conftest import build
from tests.support import factory
from tests.support.builds import tree

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    return Setup(tmp_path_factory.mktemp("bench"), runs=1, tiny=True)


def check(name: str, setup: Setup) -> Report:
    """Run a benchmark; nothing may be left out, and what is no matter of time must be as asked."""
    report: Report = importlib.import_module(f"benchmarks.{name}").run(setup)
    assert report.tables
    assert all(table.row_count for _, table in report.tables)
    assert not [note for note in report.notes if "Not measured" in note]
    assert all(value >= 0 for value in report.values.values())
    assert [bound for bound in report.bounds if bound.asked.startswith("==") and not bound.held] == []
    assert str(report).startswith(f"## {report.title}\n")
    return report


def column(report: Report, table: int, index: int) -> list[str]:
    return [str(cell) for cell in report.tables[table][1].columns[index].cells]


@pytest.mark.slow
def test_contenders(setup: Setup) -> None:
    found = check("pixels", setup).values
    expected = {"floor", "direct", "cropped", "antialiased", "naive", "naive-integers"}
    assert found.keys() == {f"cmmd-raw {name}" for name in expected}


@pytest.mark.slow
def test_steps(setup: Setup) -> None:
    report = check("steps", setup)
    assert {f"cmmd-raw cropped {step}" for step in ("read", "decode", "segment", "fuse", "write")} <= report.values.keys()
    assert "`imaging.segmentation.segment.trace_segmentation`" in column(report, 1, 0)


@pytest.mark.slow
def test_antialiased(setup: Setup) -> None:
    assert 0.9 < check("antialiased", setup).values["vindr ssim least"] <= 1


@pytest.mark.slow
def test_cost_of_the_segmentation(setup: Setup) -> None:
    report = check("segment_cost", replace(setup, before=ROOT))
    assert report.values.keys() == {"before", "now"}
    assert min(report.values.values()) > 0


def test_cost_of_the_warp(setup: Setup) -> None:
    assert check("warp_cost", setup).values.keys() == {f"vindr-j2k {name}" for name in ("antialiased", "each", "adaptive")}


def test_decoders_agree(setup: Setup) -> None:
    assert column(check("decoders", setup), 0, 3) == ["the same"] * 7


@pytest.mark.slow
def test_builds_and_memory(setup: Setup) -> None:
    assert check("builds", setup).values["cmmd-raw cropped breasts a second 2"] > 0
    assert check("memory", setup).values["vindr-raw cropped peak"] > 20  # Python's libraries alone are more


@pytest.mark.slow
def test_steady_state(setup: Setup) -> None:
    assert check("steady", setup).values.keys() == {"cmmd-raw cropped two workers", "batch"}


@pytest.mark.slow
def test_one_change_at_a_time(setup: Setup) -> None:
    """Not only a benchmark: what is decoded and written after each change is so at any size."""
    report = check("incremental", setup)
    assert sum(bound.asked.startswith("==") for bound in report.bounds) == 10
    assert "no-op dvc repro" in {bound.what for bound in report.bounds}


@pytest.mark.slow
def test_first_repro(setup: Setup) -> None:
    assert check("repro", setup).values.keys() == {"in the page cache", "on the disk"}


@pytest.mark.slow
def test_compare(setup: Setup) -> None:
    values = check("compare", setup).values
    assert values["0 breast in adaptive"] > values["0 breast in each"] > values["0 breast in direct"]
    assert values["0 lesion pixels in adaptive, zoom by oracle"] > 2 * values["0 lesion pixels in adaptive"]


@pytest.mark.slow
def test_checks(setup: Setup) -> None:
    found = check("checks", replace(setup, before=ROOT)).values
    assert found.keys() == {f"{what} {name}" for what in ("build", "read") for name in ("now", "before")}


def test_store(setup: Setup) -> None:
    assert check("store", setup).values["400 found"] > 0


@pytest.mark.slow  # its parts are tests of tests/faults
@pytest.mark.fault(4, 7)
def test_a_build_under_fire(setup: Setup) -> None:
    """A killed worker, a full disk, faulty files: it ends by itself, and its bytes are those of the calm build."""
    assert all(bound.held for bound in check("soak", setup).bounds)


@pytest.mark.slow
def test_index(setup: Setup) -> None:
    report = check("index", replace(setup, before=ROOT))
    assert column(report, 0, 2) == ["pydicom's dcmread", "first index, before", "first index", "nothing changed"]
    assert 0 < report.values["peak, one read, the others cached"] <= 1.5 * report.values["peak, all read"] < 600


def test_cohort_is_kept_and_made_anew(tmp_path: Path) -> None:
    def times() -> dict[str, int]:
        folder = cohort(Setup(tmp_path, 1, tiny=True), FORMS["cmmd-raw"], tiny=(160, 128))
        return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*.dicom")}

    first = times()
    assert len(first) == 4
    assert times() == first
    next((tmp_path / "cohorts").glob("*.json")).write_text("[]")
    assert times() != first


def test_cost_of_a_million_exams(setup: Setup) -> None:
    assert check("cost", setup)
    kind = cost.Kind("", 0.5, 8e6)
    alone = (cost.START_UP + 2e6 * cost.ALONE_SECONDS) / 3600
    seconds, limit = cost.time_of(kind, 10, 2e9)
    assert (seconds / 3600, limit) == (pytest.approx(2e6 * 0.5 / 10 / 3600 + alone), "cores")
    seconds, limit = cost.time_of(kind, 1000, 2e9)
    assert (seconds / 3600, limit) == (pytest.approx(2e6 * (8e6 + cost.SAMPLE_BYTES) / 2e9 / 3600 + alone), "storage")


def test_command_line_writes_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A benchmark that breaks does not take the others with it, and shows in the exit code."""
    monkeypatch.setattr(cost, "KINDS", (cost.Kind("a kind", 0.5, 8e6),))
    monkeypatch.setitem(sys.modules, "benchmarks.store", None)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "store", "cost", "--scratch", str(tmp_path)])
    with pytest.raises(SystemExit, match="failed: store"):
        command_line.main()
    assert "| a kind" in (tmp_path / "cost.md").read_text()
    assert not (tmp_path / "store.md").exists()


def test_every_benchmark_is_tested() -> None:
    tested = set(re.findall(r'check\("(\w+)"', Path(__file__).read_text()))
    assert tested == set(command_line.NAMES)


def test_report() -> None:
    report = Report("The store")
    report.table("a table", "a", "b").add_row("1", str(Runs([3.0, 1.0, 2.0])))
    report.notes.append("a note")
    report.bound("a bound", 2.5, "<=", 2)
    report.bound("another", 2.5, ">=", 2, "s")
    assert [bound.held for bound in report.bounds] == [False, True]
    assert str(report) == str(report)
    lines = [re.sub(" +", " ", line) for line in str(report).splitlines()]
    assert "| 1 | 2.00 (1.00 to 3.00) |" in lines
    assert "| a bound | 2.50 x | <= 2 x | **no** |" in lines
    assert "| another | 2.50 s | >= 2 s | yes |" in lines
    assert lines[-1] == "a note"


# --- docs/cluster.md --------------------------------------------------------------------------------------------------


def block(language: str) -> str:
    """The one code block of a language in docs/cluster.md."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs" / "cluster.md").read_text(), re.DOTALL)
    return found


def test_slurm_job_script(monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipe itself is run, and prints what would be submitted."""
    pytest.importorskip("dask_jobqueue")
    monkeypatch.setattr(sys, "argv", ["cluster.py", "--print"])
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), pytest.raises(SystemExit) as ended:
        exec(compile(block("python"), "cluster.py", "exec"), {"__name__": "__main__"})
    assert not ended.value.code
    script = printed.getvalue()
    for line in ("#SBATCH -p cpu", "#SBATCH --cpus-per-task=16", "#SBATCH -t 04:00:00"):
        assert line in script.splitlines()
    for variable, value in MALLOC_ENVIRONMENT.items():
        assert script.index(f"export {variable}={value}") < script.index("dask_worker")
        assert f'{{name: {variable}, value: "{value}"}}' in (ROOT / "docs" / "cluster.md").read_text()
    (command,) = [line for line in script.splitlines() if "dask_worker" in line]
    assert "--nthreads 1" in command
    assert "--nworkers 16" in command
    assert "--lifetime 225m" in command


def test_kubernetes_recipe() -> None:
    kinds = {}
    for document in yaml.safe_load_all(block("yaml")):
        kinds[document["kind"], document["metadata"]["name"]] = document
        pod = document["spec"].get("template", {}).get("spec", {})
        mounted = {mount["name"] for container in pod.get("containers", ()) for mount in container.get("volumeMounts", ())}
        assert mounted == {volume["name"] for volume in pod.get("volumes", ())}
    service = kinds["Service", "fvpipe-scheduler"]
    labels = kinds["Deployment", "fvpipe-scheduler"]["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == labels
    (worker,) = kinds["Deployment", "fvpipe-worker"]["spec"]["template"]["spec"]["containers"]
    assert f"tcp://{service['metadata']['name']}:{service['spec']['ports'][0]['port']}" in worker["args"]


@pytest.mark.slow
def test_two_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scheduler, two workers and the command, each in a folder of its own, with a store that they share; same bytes as one."""
    monkeypatch.setenv("FVPIPE_ID_KEY", "an identifier key of the tests")
    monkeypatch.chdir(tmp_path)
    for i in range(4):
        factory.patient(tmp_path / "shared" / "dicom" / f"case{i}", f"P{i}", "LR", seed=i)
    file = tmp_path / "shared" / "scheduler.json"
    network = ["--host", "127.0.0.1", "--no-dashboard"]
    started = []

    def start(name: str, *words: object, **variables: str) -> None:
        folder = tmp_path / name
        folder.mkdir()
        command = [sys.executable, "-m", "dask", *map(str, words), "--scheduler-file", str(file)]
        log = open(folder / "log", "w")  # noqa: SIM115
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
        started.append(subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log))
        log.close()

    try:
        start("host0", "scheduler", *network[:2], "--port", "0", "--no-dashboard")
        deadline = time.monotonic() + 60
        while not file.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        for host in ("host1", "host2"):
            start(host, "worker", *network, "--nthreads", "1", "--no-nanny", "--name", host)
        options = ("--scheduler-file", file, "--samples", Path("shared/store"))  # a relative path, seen from elsewhere
        build(Path("shared/dicom"), tmp_path / "shared" / "shards", *options, workers=1)
    finally:
        for process in started:
            process.kill()
            process.wait(20)
    build(tmp_path / "shared" / "dicom", tmp_path / "alone", workers=0)
    assert tree(tmp_path / "shared" / "shards") == tree(tmp_path / "alone")
    assert len(list((tmp_path / "shared" / "store").rglob("*.sample"))) == 8
