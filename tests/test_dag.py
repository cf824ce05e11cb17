"""The DAG: its code dependencies are what its commands import, and it sees what it must and nothing else."""

from __future__ import annotations

import ast
import json
import os
import shutil
import stat
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import grimp
import pytest
import yaml

ROOT = Path(__file__).parents[1]
STAGES: dict[str, Any] = {
    name: stage.get("do", stage) for name, stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].items()
}

PLUMBING = {"errors", "execution", "flow", "printable", "regular_files", "progress", "reasons", "types"}
"""Packages and modules that run the work or name its values, and decide no output: no stage lists them."""

VERSIONED = {"dicom": "versions", "imaging": "versions"}
"""Packages whose output only changes with a version (golden digests hold that): `fvpipe/versions.py` stands for them."""


@cache
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("fvpipe", exclude_type_checking_imports=True)


def imported_by(command: str) -> set[str]:
    """Modules that a command imports when it runs, with all that those import."""
    for file in (ROOT / "fvpipe" / "cli").glob("*.py"):
        functions = {n.name: n for n in ast.parse(file.read_text()).body if isinstance(n, ast.FunctionDef)}
        if command in functions and any("command" in ast.unparse(d) for d in functions[command].decorator_list):
            break
    else:
        raise AssertionError(f"no command {command}")
    starts, todo, seen = set[str](), [command], set[str]()
    while todo:
        name = todo.pop()
        if name in seen or name not in functions:
            continue
        seen.add(name)
        for node in ast.walk(functions[name]):
            if isinstance(node, ast.Name):
                todo.append(node.id)  # a helper beside it
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fvpipe"):
                names = {f"{node.module}.{alias.name}" for alias in node.names}
                starts |= names & graph().modules or {str(node.module)}
    return starts.union(*(graph().find_upstream_modules(start) for start in starts))


def packages(command: str) -> set[str]:
    """The packages, and modules of the root, that decide the output of a command."""
    found = {module.split(".")[1] for module in imported_by(command) if "." in module}
    return {VERSIONED.get(name, name) for name in found - PLUMBING}


@pytest.mark.parametrize("stage", STAGES)
def test_code_dependencies_are_the_imports_of_the_command(stage: str) -> None:
    settings = STAGES[stage]
    command = settings["cmd"].split()[1].replace("-", "_")
    listed = {dep.removeprefix("fvpipe/").removesuffix(".py") for dep in settings.get("deps", ()) if dep.startswith("fvpipe/")}
    if settings.get("always_changed"):
        assert not listed
    elif command in ("fetch", "phantom"):  # what they write has versions of its own
        assert listed == packages(command) - {"versions"}
    else:
        assert listed == packages(command)


def test_code_dependencies_are_packages() -> None:
    for stage, settings in STAGES.items():
        for dep in settings.get("deps", ()):
            assert not dep.startswith("fvpipe/") or dep.count("/") == 1, (stage, dep)
            assert "${" in dep or (ROOT / dep).exists() or dep.startswith("cache/"), (stage, dep)


def test_metrics_can_be_compared() -> None:
    """DVC keeps them: `dvc metrics diff` and `dvc exp show` find those of other commits."""
    metrics = [metric for settings in STAGES.values() for metric in settings.get("metrics", ())]
    assert len(metrics) == 3
    assert all(isinstance(metric, str) for metric in metrics)


WATCH = """
import json, os, sys

def watch(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        written = isinstance(path, str) and (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    else:
        path, written = arguments[0], event in ("os.mkdir", "os.rename", "os.link", "os.symlink", "os.chmod", "sqlite3.connect")
    if written:
        where = os.path.realpath(path)
        with os.fdopen(os.open(os.environ["WRITES"], LOG), "w") as file:
            file.write(json.dumps(where) + "\\n")

LOG = os.O_WRONLY | os.O_CREAT | os.O_APPEND
busy = []

def guarded(event, arguments):
    if not busy:
        busy.append(1)
        try:
            watch(event, arguments)
        finally:
            busy.pop()

sys.addaudithook(guarded)
"""
"""Run by every Python process at its start: notes each path that is written or made."""


@pytest.mark.process
@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_dvc_writes_nothing_outside_the_project(tmp_path: Path) -> None:
    """Its own place is one in /var/tmp that everybody may read and write; `make demo` gives it another."""
    project, site, home = tmp_path / "project", tmp_path / "site", tmp_path / "home"
    for folder in (project / ".dvc", project / "below", site, home):
        folder.mkdir(parents=True)
    (site / "sitecustomize.py").write_text(WATCH)
    for name in (".dvc/config", ".dvc/.gitignore", ".dvcignore", "Makefile"):
        shutil.copy(ROOT / name, project / name)
    (project / "dvc.yaml").write_text("stages:\n  a:\n    cmd: cat in > out\n    deps: [in]\n    outs: [out]\n")
    (project / "in").write_text("x")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "XDG_", "VENV"))},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1", "WRITES": str(tmp_path / "writes"),
        "HOME": str(home), "TMPDIR": str(home),
    }  # fmt: skip

    def shell(command: str, folder: Path = project) -> None:
        done = subprocess.run(command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (command, done.stdout, done.stderr)

    shell("git init -q . && make -o .venv/.demo .dvc/tmp/site && dvc repro && dvc status")
    shell("dvc status", project / "below")
    written = {json.loads(line) for line in (tmp_path / "writes").read_text().splitlines()} - {os.devnull}
    # A module that is imported for the first time: PYTHONDONTWRITEBYTECODE is not heeded below `make`, which unexports it.
    environments = {os.path.realpath(prefix) + os.sep for prefix in (sys.prefix, sys.base_prefix)}
    written = {path for path in written if not (path.startswith(tuple(environments)) and "__pycache__" in Path(path).parts)}
    assert str(project / "dvc.lock") in " ".join(written)
    assert [path for path in written if not path.startswith(str(project))] == []
    assert list(home.iterdir()) == list((project / "below").iterdir()) == []
    private = project / ".dvc" / "tmp" / "site"
    assert list(private.rglob("cache.db"))
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
