"""A contender is a process that does one pass over a folder when it is told to, and says what that took.

Imports and start-up are over before the first pass, so that they are measured apart; contenders take turns, so that they
meet the same machine. Only the standard library is used here: contenders run in environments of their own.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


def serve(pairs: int, work: Callable[[], None], reset: Callable[[], None]) -> None:
    """Say that all is ready; then, for each number on standard input, `reset` (not timed) and `work` for so many seconds."""
    print(json.dumps({"pairs": pairs}), flush=True)
    for line in sys.stdin:
        cpu = wall = 0.0
        passes = 0
        while not passes or wall < float(line):
            reset()
            before, begun = _processor(), time.perf_counter()
            work()
            wall += time.perf_counter() - begun
            cpu += _processor() - before
            passes += 1
        print(json.dumps({"cpu": cpu / passes / pairs, "wall": wall / passes / pairs}), flush=True)


def _processor() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


@dataclass(frozen=True, slots=True)
class Pass:
    """Seconds a pair of images."""

    cpu: float
    wall: float


class Contender:
    """A process that serves passes.

    Parameters
    ----------
    python : str
        Whose environment.
    module : str
        Of this package.
    arguments : sequence of str
    environment : dict of str to str

    Raises
    ------
    RuntimeError
        It did not start; its own words.
    """

    def __init__(self, python: str, module: str, arguments: Sequence[object], environment: dict[str, str]) -> None:
        begun = time.perf_counter()
        self._process = subprocess.Popen(
            [python, "-m", f"benchmarks.{module}", *map(str, arguments)],
            cwd=Path(__file__).parents[1],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.pairs = int(self._answer()["pairs"])
        self.start_up = time.perf_counter() - begun

    def go(self, seconds: float = 0.4) -> Pass:
        """One turn of so many seconds at least, by repeating the pass: clocks of processors are coarse."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()
        return Pass(**self._answer())

    def _answer(self) -> dict[str, float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.startswith("{"):
            _, said = self._process.communicate()
            raise RuntimeError((said or line).strip()[-1500:])
        found: dict[str, float] = json.loads(line)
        return found

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()
