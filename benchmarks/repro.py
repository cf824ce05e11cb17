"""The first `dvc repro` of a data set against `fvpipe build-shards` alone, from nothing.

`project` makes a throw-away DVC project out of the repository's own dvc.yaml and params.yaml; `incremental` uses it too.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import yaml

from benchmarks.cohort import FORMS, cohort
from benchmarks.measure import ENVIRONMENT, FVPIPE, ROOT, Report, Setup, command, interleaved

NAME = "many"
BUILD = [*FVPIPE, "build-shards", "--max-fallback", "100", "--json"]


def run(setup: Setup) -> Report:
    """Measure with the files in the page cache, and read from the disk."""
    report = Report("First `dvc repro` of a data set")
    breasts = setup.size(2, 20, 100)
    images = cohort(setup, FORMS["vindr-raw"], breasts, 2)
    table = report.table(f"Seconds, {breasts} breasts of {FORMS['vindr-raw'].title}", "files", "command", "median", "ratio")

    def once(cached: bool, dvc: bool) -> float:
        with setup.folder("repro") as folder:
            environment = project(folder)
            (folder / "data" / NAME).symlink_to(images)
            alone = [*BUILD, "--pipeline", "cropped", "--dicom", images, "--out", folder / "alone"]
            visit(images, cached)
            ran = command(["dvc", "repro"] if dvc else alone, folder, environment)
            record = folder / "cache" / "shards" / "cropped" / f"{NAME}.build.json"
            computed = json.loads(record.read_text())["samples_computed"] if dvc else json.loads(ran.output)[0]["computed"]
            assert computed == breasts, computed
            return ran.wall

    for cached, files in ((True, "in the page cache"), (False, "on the disk")):
        contenders = {"build-shards alone": lambda c=cached: once(c, False), "dvc repro": lambda c=cached: once(c, True)}
        found = interleaved(setup.runs, contenders)
        ratio = found["dvc repro"].median / found["build-shards alone"].median
        for name, runs in found.items():
            table.add_row(files, name, str(runs), f"{runs.median / found['build-shards alone'].median:.2f}")
        report.values[files] = ratio
        report.bound(f"first dvc repro / build-shards alone, files {files}", ratio, "<=", 1.3)
    return report


def visit(images: Path, cached: bool) -> None:
    """Read every file into the page cache, or drop it from there."""
    for path in images.rglob("*.dicom"):
        with open(path, "rb") as file:
            if cached:
                file.read()
            else:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def project(folder: Path) -> dict[str, str]:
    """Make a project with one data set, `data/many`, whose DAG is the stages index and shards; return its environment."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    stages = {name: stages[name] for name in ("index", "shards")}
    stages["shards"]["cmd"] += " --max-fallback 100"  # small simulated breasts are not always found
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params = {"datasets": {NAME: {"adapter": "table"}}, "pipelines": ["cropped"], "shards": params["shards"]}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    for name in ("pipelines", "fvpipe"):  # the stages depend on them
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, folder)
    (folder / "data").mkdir()
    # DVC keeps the digests of files that it has seen outside the project too.
    environment = ENVIRONMENT | {"DVC_NO_ANALYTICS": "true", "DVC_SITE_CACHE_DIR": str(folder / ".dvc" / "site")}
    for line in ("git init -q", "dvc init -q", "dvc config core.check_update false"):
        command(line.split(), folder, environment)
    return environment
