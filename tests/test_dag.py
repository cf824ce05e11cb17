"""The DAG: its code dependencies are what its commands import, and it sees what it must and nothing else."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import Any

import grimp
import pytest
import yaml

ROOT = Path(__file__).parents[1]
STAGES: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]

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
