"""The CPU quota of a container: a real control group of the kernel, with the limit of one core."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fvpipe.execution.cores import core_count

pytestmark = pytest.mark.process

GROUPS = Path("/sys/fs/cgroup")
SCRIPT = """
from fvpipe.execution.cores import core_count
from fvpipe.execution.workers import Workers, WorkerSettings
print(core_count(), Workers(WorkerSettings()).count)
"""


@pytest.mark.fault(64)
def test_as_many_workers_as_the_quota_allows() -> None:
    if core_count() < 2:
        pytest.skip("there is one core anyway")
    group = (
        next((root for root in (GROUPS / "cpu", GROUPS) if (root / "cgroup.procs").exists()), GROUPS) / f"fvpipe-{os.getpid()}"
    )
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here ({error.strerror})")
    try:
        quota = next((file for file in (group / "cpu.max", group / "cpu.cfs_quota_us") if file.exists()), None)
        if quota is None:
            pytest.skip("control groups have no CPU quota here")
        quota.write_text("100000 100000" if quota.name == "cpu.max" else "100000")
        enter = f"echo $$ > {group / 'cgroup.procs'} && exec {sys.executable} -c '{SCRIPT}'"
        done = subprocess.run(["/bin/sh", "-c", enter], capture_output=True, text=True, timeout=100, check=False)
        assert (done.stdout, done.stderr) == ("1 1\n", "")
    finally:
        group.rmdir()
