"""The benchmarks run, in small, so that they do not rot; and the recipes of docs/cluster.md are tried as far as they can be."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from benchmarks import (
    antialiased,
    builds,
    cost,
    decoders,
    incremental,
    index,
    kills,
    memory,
    page,
    pixels,
    steady,
    steps,
    store,
)
from benchmarks.cohort import FORMS, cohort
from benchmarks.measure import Claim, Section, Setup, Table, spread
from fvpipe.execution.workers import KEEP_MEMORY
from tests.conftest import build
from tests.support import factory
from tests.test_flow import tree

ROOT = Path(__file__).parents[1]
TINY: dict[str, Any] = {"runs": 1, "tiny": True}


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


def figures(section: Section) -> dict[str, float]:
    """What was measured: nothing left out, nothing of nothing."""
    assert section.tables
    assert all(len(row) == len(table.columns) for table in section.tables for row in table.rows)
    assert page.section_text(section).startswith(f"### {section.title}\n")
    assert all(value >= 0 for value in section.figures.values())
    return section.figures


# --- each of them, in small -------------------------------------------------------------------------------------------


def test_contenders(scratch: Path, tmp_path: Path) -> None:
    section = pixels.run(Setup(scratch, **TINY))
    found = figures(section)
    expected = {"floor", "direct", "cropped", "naive", "naive-integers"}
    assert {name.removeprefix("cmmd-raw ") for name in found} >= expected, section.notes
    assert found["cmmd-raw floor"] < found["cmmd-raw cropped"]  # it does a part of the same
    assert page.plot(section, tmp_path / "plot.svg")
    assert "CMMD form" in (tmp_path / "plot.svg").read_text()


def test_steps(scratch: Path) -> None:
    section = steps.run(Setup(scratch, **TINY))
    found = figures(section)
    assert {f"cmmd-raw cropped {step}" for step in ("read", "decode", "segment", "fuse", "write")} <= found.keys()
    assert any(row[0] == "`imaging.segmentation.segment`" for row in section.tables[1].rows)


def test_memory_of_an_index(scratch: Path) -> None:
    section = index.run(Setup(scratch, **TINY))
    assert len(figures(section)) == 3
    for _, everything, one, recalled in section.tables[0].rows:
        assert 0 < float(recalled) < float(one) <= 1.5 * float(everything) < 600


def test_antialiased(scratch: Path) -> None:
    found = figures(antialiased.run(Setup(scratch, **TINY)))
    assert 0.9 < found["vindr ssim least"] <= 1


def test_structural_similarity() -> None:
    """Against the definition, window by window."""
    rng = np.random.default_rng(0)
    x, y = rng.random((24, 19)), rng.random((24, 19))
    y = 0.7 * x + 0.3 * y
    ramp = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    weights = np.outer(ramp, ramp) / np.outer(ramp, ramp).sum()
    found = []
    for i in range(24 - 10):
        for j in range(19 - 10):
            a, b = x[i : i + 11, j : j + 11], y[i : i + 11, j : j + 11]
            ma, mb = (weights * a).sum(), (weights * b).sum()
            va, vb = (weights * (a - ma) ** 2).sum(), (weights * (b - mb) ** 2).sum()
            both = (weights * (a - ma) * (b - mb)).sum()
            found.append((2 * ma * mb + 1e-4) * (2 * both + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4)))
    assert antialiased.ssim(x, y) == pytest.approx(np.mean(found), abs=1e-9)
    assert antialiased.ssim(x, x) == 1


def test_decoders_agree(scratch: Path) -> None:
    section = decoders.run(Setup(scratch, **TINY))
    figures(section)
    assert len(section.tables[0].rows) == 7, section.notes
    assert {row[-1] for row in section.tables[0].rows} == {"the same"}


def test_builds_and_memory(scratch: Path) -> None:
    assert figures(builds.run(Setup(scratch, **TINY)))["cmmd-raw cropped breasts a second 2"] > 0
    section = memory.run(Setup(scratch, **TINY))
    assert figures(section)["vindr-raw cropped peak"] > 20  # Python's libraries alone are more


def test_steady_state(scratch: Path) -> None:
    found = figures(steady.run(Setup(scratch, **TINY)))
    assert found["cmmd-raw cropped two workers"] > 0
    assert 0 < found["batch"] < 1


def test_one_change_at_a_time(scratch: Path) -> None:
    """Not only a benchmark: what is decoded and written after each change is so at any size."""
    section = incremental.run(Setup(scratch, **TINY))
    figures(section)
    kept = [claim for claim in section.claims if claim.bound == "is so"]
    assert len(kept) == 6
    assert [claim.what for claim in kept if not claim.held] == []


def test_store(scratch: Path) -> None:
    assert figures(store.run(Setup(scratch, **TINY)))["400 found"] > 0


def test_a_killed_worker(scratch: Path) -> None:
    """The build with a killed worker ends by itself, and its bytes are those of the undisturbed one."""
    section = kills.run(Setup(scratch, **TINY))
    assert [claim.held for claim in section.claims] == [True], section


def test_cohort_is_kept_and_made_anew(tmp_path: Path) -> None:
    folder = cohort(tmp_path, FORMS["cmmd-raw"], 2, 2, (160, 128))
    first = {path.name: path.stat().st_mtime_ns for path in folder.rglob("*.dicom")}
    assert len(first) == 4
    cohort(tmp_path, FORMS["cmmd-raw"], 2, 2, (160, 128))
    assert {path.name: path.stat().st_mtime_ns for path in folder.rglob("*.dicom")} == first
    folder.with_suffix(".json").write_text("[]")
    cohort(tmp_path, FORMS["cmmd-raw"], 2, 2, (160, 128))
    assert {path.name: path.stat().st_mtime_ns for path in folder.rglob("*.dicom")} != first


# --- what is made of the numbers --------------------------------------------------------------------------------------


def test_cost_of_a_million_exams() -> None:
    kind, serial = cost.Kind("", 0.5, 8e6), cost.Serial(0.002, 0.001)
    hours = {workers: cost.time_of(kind, serial, workers, 2e9)[0] / 3600 for workers in cost.WORKERS}
    alone = (cost.START_UP + 2e6 * 0.001) / 3600
    assert hours[10] == pytest.approx(2e6 * 0.5 / 10 / 3600 + alone)
    assert cost.time_of(kind, serial, 10, 2e9)[1] == "cores"
    assert hours[1000] == pytest.approx(2e6 * (8e6 + cost.SAMPLE_BYTES) / 2e9 / 3600 + alone)
    assert cost.time_of(kind, serial, 1000, 2e9)[1] == "storage"


def test_results_become_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PAGE", "COST", "PLOT", "RESULTS"):
        monkeypatch.setattr(page, name, tmp_path / name)
    for name in ("PAGE", "COST"):
        (tmp_path / name).write_text(f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n")
    section = Section("store", "The store", ["a note"], [Table("a table", ["a", "b"], [["1", "2"]])])
    section.at_most("a bound", 2.5, 2.0)
    section.at_least("another", 2.5, 2.0)
    assert [claim.held for claim in section.claims] == [False, True]
    from dataclasses import asdict

    results = {"machine": {"cores": "2"}, "sections": {"store": asdict(section)}}
    page.write(results)
    text = (tmp_path / "PAGE").read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "Held to: 1 of 2" in text
    assert "| a bound | 2.50 x | <= 2 x | **not held** |" in text
    sections: Any = results["sections"]
    assert page.section_of(sections["store"]).claims[0] == Claim("a bound", "2.50 x", "<= 2 x", False)
    assert str(spread([3.0, 1.0, 2.0])) == "2.00 (1.00 to 3.00)"


def test_pages_have_a_place_for_results() -> None:
    for file in (page.PAGE, page.COST):
        text = file.read_text()
        assert text.count(page.BEGIN) == text.count(page.END) == 1
        assert text.index(page.BEGIN) < text.index(page.END)


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
    for variable, value in KEEP_MEMORY.items():
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
