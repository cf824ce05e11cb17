"""Builds by the command line, their output as digests, and what a build leaves while it runs."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.conftest import run

PROGRAM = [sys.executable, "-m", "fvpipe"]


def tree(folder: Path) -> dict[str, str]:
    """Digest of every file of a shard folder that is part of the output."""
    names = [p for p in folder.iterdir() if p.is_file() and p.name != "build.json" and not p.name.startswith(".")]
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(names)}


def result(*arguments: object) -> dict[str, Any]:
    """The JSON result of one build."""
    (found,) = json.loads(run(*arguments, "--json").stdout)
    return found


def builds(folder: Path, out: Path, *options: object) -> dict[str, Any]:
    return result("build-shards", "--pipeline", "cropped", "--dicom", folder, "--out", out, "--workers", 0, *options)


KEY = "an identifier key of the tests"


def build_fails(folder: Path, out: Path, *options: object) -> str:
    """The message of a build that exits with 1."""
    done = run("build-shards", "--pipeline", "cropped", "--dicom", folder, "--out", out, "--workers", 0, *options, code=1)
    assert "Traceback" not in done.output
    assert len(done.output.strip().splitlines()) == 1
    return done.output


def start(own: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    command = [*PROGRAM, "build-shards", "--pipeline", "cropped", "--dicom", str(own), "--out", str(out), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def living(session: int) -> list[str]:
    """Command lines of what still runs in a session."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if folder.name.isdigit() and int(fields[3]) == session and fields[0] != "Z":
                found.append((folder / "cmdline").read_text())
        except (OSError, IndexError):
            continue
    return found


def finished_samples(out: Path) -> int:
    return len(list((out / ".samples").glob("*/*.sample")))
