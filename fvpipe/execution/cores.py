"""Number of cores that this process may use."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def core_count(system: Path = Path("/")) -> int:
    """Count the cores that affinity and the CPU quotas of control groups (a container's limit) leave to this process.

    Parameters
    ----------
    system : Path
        Folder in which ``proc`` and ``sys`` lie.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()  # macOS has no affinity
    return max(1, min([affinity or 1, *(math.ceil(quota) for quota in _quotas(system))]))


def _quotas(system: Path) -> Iterator[float]:
    """Quotas in cores of the process's control groups and of those that they lie in, versions 1 and 2."""
    try:
        groups = (system / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    mounts = system / "sys/fs/cgroup"
    for line in groups:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        # A container may see the path of the host, and its own group at the root: all folders up to there are looked at.
        parts = PurePosixPath(path).parts[1:]
        for root in (mounts / controllers, mounts / "cpu") if controllers else (mounts, mounts / "unified"):
            for count in range(len(parts) + 1):
                yield from _quota(root.joinpath(*parts[:count]), version=1 if controllers else 2)


def _quota(group: Path, version: int) -> Iterator[float]:
    """Quota of one control group; nothing where it has none."""
    files = ("cpu.max",) if version == 2 else ("cpu.cfs_quota_us", "cpu.cfs_period_us")
    try:
        quota, period = " ".join((group / file).read_text() for file in files).split()
        if int(quota) > 0:
            yield int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # no such group; "max": no quota
        return
