"""The processes below this one, from Linux's /proc: which they are, how much memory they took."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Self

PROC = Path("/proc")
WORKER = b"multiprocessing.spawn"  # how Dask starts a local worker


def descendants(root: int) -> list[int]:
    """Identifiers of all processes below `root`."""
    parents: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                after_name = (entry / "stat").read_text().rpartition(") ")[2]
                parents.setdefault(int(after_name.split()[1]), []).append(int(entry.name))
    found, waiting = [], [root]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


def workers(root: int) -> list[int]:
    """Those of them that are Dask's workers."""
    found = []
    for process in descendants(root):
        with suppress(OSError):
            if WORKER in (PROC / str(process) / "cmdline").read_bytes():
                found.append(process)
    return found


def memory(process: int, what: str) -> float:
    """`VmRSS` (now) or `VmHWM` (the most there was) of a process in MB; 0 where it is gone."""
    with suppress(OSError):
        for line in (PROC / str(process) / "status").read_text().splitlines():
            if line.startswith(what):
                return int(line.split()[1]) / 1024
    return 0.0


class Peak:
    """While it is entered: the peak memory of the largest process below this one, looked at ten times a second."""

    def __init__(self) -> None:
        self.largest_worker = 0.0
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._watcher.join()

    def _watch(self) -> None:
        while not self._over.wait(0.1):
            seen = [memory(process, "VmHWM") for process in workers(os.getpid()) or descendants(os.getpid())]
            self.largest_worker = max(self.largest_worker, *seen, 0.0)
