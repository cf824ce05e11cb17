"""Shared by the benchmarks: interleaved runs and their medians, commands with their seconds and memory, and the report."""

from __future__ import annotations

import io
import multiprocessing
import operator
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from unittest.mock import patch

from fvpipe.execution.dask_client import MALLOC_ENVIRONMENT

if TYPE_CHECKING:
    from rich.table import Table

T = TypeVar("T")
ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
FVPIPE = [sys.executable, "-m", "fvpipe"]
ENVIRONMENT = {
    **os.environ,
    "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}",
    "PYTHONPATH": str(ROOT),
    "FVPIPE_ID_KEY": "an identifier key of the benchmarks",
    # Times per core need one thread: of OpenCV, OpenMP, and of OpenBLAS under SciPy.
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"), "1"),
}
WARM = ENVIRONMENT | MALLOC_ENVIRONMENT
"""Environment of a process that does the work of a worker, with a worker's memory settings."""


def environment_of(checkout: Path) -> dict[str, str]:
    """Environment in which fvpipe is that of a checkout."""
    return ENVIRONMENT | {"PYTHONPATH": str(checkout)}


# --- runs and what they took ------------------------------------------------------------------------------------------


class Runs(list[float]):
    """Values of repeated runs, printed as median (least to most)."""

    @property
    def median(self) -> float:
        """Their median."""
        return statistics.median(self)

    def __str__(self) -> str:
        return f"{short(self.median)} ({short(min(self))} to {short(max(self))})"


def short(value: float) -> str:
    """A number with about three digits and no exponent."""
    return f"{value:,.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def interleaved(runs: int, contenders: dict[str, Callable[[], float]]) -> dict[str, Runs]:
    """Measure each contender in turn, `runs` times, so that a busy moment of the machine does not fall on one alone."""
    found = {name: Runs() for name in contenders}
    for _ in range(runs):
        for name, measure in contenders.items():
            found[name].append(measure())
    return found


class Ran(NamedTuple):
    """A finished command: seconds by the clock, CPU seconds with those of its children, standard output."""

    wall: float
    cpu: float
    output: str


def command(arguments: Sequence[object], folder: Path, environment: dict[str, str] = ENVIRONMENT) -> Ran:
    """Run a command and wait for it; a RuntimeError says what it printed where it failed."""
    words = [str(argument) for argument in arguments]
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)} ended with {done.returncode}: {(done.stderr or done.stdout)[-2000:]}")
    return Ran(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout)


# A process starts with the peak memory of the one that started it, so a small one stands between.
_SMALL_PARENT = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
open(sys.argv[1], "w").write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024))
sys.exit(code)
"""


def weighed(arguments: Sequence[object], folder: Path, environment: dict[str, str] = ENVIRONMENT) -> tuple[Ran, float]:
    """Run a command; return it and the peak memory, in MB, of the largest one of its processes."""
    with tempfile.NamedTemporaryFile("r") as file:
        ran = command([sys.executable, "-S", "-E", "-c", _SMALL_PARENT, file.name, *arguments], folder, environment)
        return ran, float(file.read())


def in_new_process(function: Callable[..., T], *arguments: object) -> T:
    """Call a function in a new process that has a worker's memory settings."""
    with patch.dict(os.environ, WARM), ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


@dataclass(frozen=True, slots=True)
class Setup:
    """Sizes, runs and folders of a measurement."""

    scratch: Path  # of cohorts, outputs, reports and the other tools' environment; outside git
    runs: int  # interleaved runs of each contender
    full: bool = False  # the sizes of the published numbers
    tiny: bool = False  # the sizes of the tests: everything runs, the numbers mean nothing
    breasts: int = 0  # of `soak`; 0: those of the size
    before: Path | None = None  # an older checkout to compare with

    @property
    def checkouts(self) -> dict[str, Path]:
        """Checkouts to compare, by name: this one, and the older one if there is one."""
        return {"now": ROOT} | ({"before": self.before.absolute()} if self.before else {})

    def size(self, tiny: T, quick: T, full: T) -> T:
        """Choose one of three."""
        return tiny if self.tiny else full if self.full else quick

    def say(self, text: str) -> None:
        """Print progress on standard error."""
        print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)

    @contextmanager
    def folder(self, name: str) -> Iterator[Path]:
        """Give an empty folder below the scratch folder; remove it afterwards."""
        with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=self.scratch, ignore_cleanup_errors=True) as folder:
            yield Path(folder)


# --- the report -------------------------------------------------------------------------------------------------------


class Bound(NamedTuple):
    """A bound that was asked for, and whether it is held."""

    what: str
    measured: str
    asked: str
    held: bool


class Report:
    """Tables, bounds, notes and medians by name of one benchmark, printed as Markdown."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.tables: list[tuple[str, Table]] = []
        self.bounds: list[Bound] = []
        self.notes: list[str] = []
        self.values: dict[str, float] = {}

    def table(self, title: str, *columns: str) -> Table:
        """Add an empty table; fill it by `add_row`."""
        self.tables.append((title, _table(*columns)))
        return self.tables[-1][1]

    def bound(self, what: str, measured: T, relation: str, asked: T, unit: str = "x") -> None:
        """Compare a value with its bound; `relation` is ``<=``, ``>=`` or ``==``."""
        held = {"<=": operator.le, ">=": operator.ge, "==": operator.eq}[relation](measured, asked)
        text, limit = (short(measured), f"{asked:g}") if isinstance(measured, float) else (str(measured), str(asked))
        self.bounds.append(Bound(what, f"{text} {unit}".rstrip(), f"{relation} {limit} {unit}".rstrip(), held))

    def __str__(self) -> str:
        from rich.console import Console

        bounds = _table("bound", "measured", "asked", "held")
        for bound in self.bounds:
            bounds.add_row(*bound[:3], "yes" if bound.held else "**no**")
        console = Console(file=io.StringIO(), width=1000, markup=False, emoji=False, highlight=False)
        console.print(f"## {self.title}")
        for title, table in [*self.tables, *([("Bounds", bounds)] if self.bounds else [])]:
            console.print(f"\n{title}:", table, sep="\n")
        for note in self.notes:
            console.print(f"\n{note}")
        assert isinstance(console.file, io.StringIO)
        return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"


def _table(*columns: str) -> Table:
    # Imported here, so that a process that measures its own memory does not load it.
    from rich import box
    from rich.table import Table

    return Table(*columns, box=box.MARKDOWN)


def machine() -> str:
    """Describe the computer, its load, and the packages that the numbers depend on."""
    models = [line.split(": ")[1] for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = ("numpy", "opencv-python-headless", "imagecodecs", "pydicom", "blake3", "h5py", "distributed")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    computer = f"{models[0] if models else platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB"
    return f"{computer}; load {os.getloadavg()[0]:.1f}; Python {platform.python_version()}, {versions}"
