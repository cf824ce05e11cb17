"""Thousands of breasts of small files: a no-op, and what one change decodes and writes; by the command, then under DVC."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from benchmarks.cohort import SMALL, add, change, cohort
from benchmarks.measure import BIN, FVPIPE, Report, Runs, Setup, command, interleaved, short
from benchmarks.repro import BUILD, NAME, project

DVC_STATUS_BEFORE = 2.22  # seconds, of the same 10,000 breasts with the raw folder as a dependency


def run(setup: Setup) -> Report:
    """Change one thing after another."""
    breasts = setup.size(24, 1000, 10_000)
    report = Report(f"What a change costs, {breasts:,} breasts")
    original = cohort(setup, SMALL, breasts, setup.size(2, 8, 8), (160, 128))
    with setup.folder("incremental") as folder:
        environment = project(folder)
        setup.say("incremental: copying the files")
        shutil.copytree(original, folder / "data" / NAME)
        _steps(setup, report, folder, breasts)
        _under_dvc(setup, report, folder, environment)
    return report


def _steps(setup: Setup, report: Report, folder: Path, breasts: int) -> None:
    """Run the command outside a project, which indexes and builds in one go; a new process each time."""
    images, out, settings = folder / "data" / NAME, folder / "alone", folder / "pipelines" / "cropped.yaml"
    columns = ["step", "seconds, start-up included", "breasts decoded", "shards written"]
    table = report.table("`fvpipe build-shards --dicom`", *columns)
    options = ["--pipeline", settings, "--dicom", images, "--out", out, "--samples", folder / "cache" / "samples"]
    options += ["--workers", setup.size(0, 2, 2)]

    def step(what: str, decoded: int, written: int | None = None, runs: int = 1) -> None:
        setup.say(f"incremental: {what}")
        seconds, found = Runs(), (0, 0)
        for _ in range(runs):
            ran = command([*BUILD, *options], folder)
            seconds.append(ran.wall)
            (result,) = json.loads(ran.output)
            found = result["computed"], result["written"]
        table.add_row(what, str(seconds) if runs > 1 else short(ran.wall), *map(str, found))
        report.values[what] = seconds.median
        shards = len(list(out.glob("shard-*.h5")))
        expected = decoded, shards if written is None else written
        report.bound(f"{what}: breasts decoded, shards written", found, "==", expected, "")

    step("first build", breasts)
    step("nothing changed", 0, 0, setup.runs)
    min(images.rglob("*.dicom")).touch()
    step("one file touched, its bytes as they were", 0, 0)
    change(min(images.rglob("*.dicom")))
    step("one changed file", 1, 1)
    add(images, SMALL, range(breasts, breasts + 2))
    step("one added patient (two breasts)", 2, 1)
    before = settings.read_text()
    settings.write_text(before.replace("margin: 0.01", "margin: 0.02"))
    assert settings.read_text() != before
    step("one changed parameter (margin)", breasts + 2)
    settings.write_text(before)
    step("the parameter as it was", 0)
    shutil.rmtree(out)
    step("shards removed, as DVC does before a run", 0)


def _under_dvc(setup: Setup, report: Report, folder: Path, environment: dict[str, str]) -> None:
    """The same under DVC; the baseline of a no-op is `dvc status`, which looks at the same DAG."""
    fvpipe, seconds = BIN / "fvpipe", {}
    setup.say("incremental: dvc repro")
    seconds["dvc repro, first; the samples are cached"] = command(["dvc", "repro"], folder, environment).wall
    commands: dict[str, list[object]] = {
        "fvpipe --help": [fvpipe, "--help"],
        "fvpipe build-shards": [fvpipe, "build-shards", "--max-fallback", "100"],
        "dvc status": ["dvc", "status"],
        "dvc repro": ["dvc", "repro"],
    }
    run_all = {name: lambda words=words: command(words, folder, environment).wall for name, words in commands.items()}
    idle = interleaved(setup.runs, run_all)
    table = report.table("Nothing changed: seconds, median (least to most)", "command", "seconds", "/ dvc status")
    for name, runs in idle.items():
        table.add_row(name, str(runs), short(runs.median / idle["dvc status"].median))
        report.values[f"{name}, nothing changed"] = runs.median
    report.bound("no-op dvc repro", idle["dvc repro"].median, "<=", 8, "s")
    report.bound("no-op build-shards", idle["fvpipe build-shards"].median, "<=", 2 * DVC_STATUS_BEFORE, "s")
    said = command(["dvc", "repro"], folder, environment).output
    report.bound("no-op dvc repro builds shards", "Running stage 'shards" in said, "==", False, "")
    images = folder / "data" / NAME
    change(min(images.rglob("*.dicom")))
    seconds["dvc repro, one changed file"] = command(["dvc", "repro"], folder, environment).wall
    record = json.loads((folder / "cache" / "shards" / "cropped" / f"{NAME}.build.json").read_text())
    report.bound("one changed file under dvc repro: breasts decoded", record["samples_computed"], "==", 1, "")
    change(min(images.rglob("*.dicom")))
    shutil.rmtree(folder / "cache" / "shards")
    walls = [command(words, folder, environment).wall for words in ([*FVPIPE, "index"], BUILD)]
    seconds["its two commands alone, shards removed before"] = sum(walls)
    for name, wall in seconds.items():
        table.add_row(f"{name} (once)", short(wall), "")
