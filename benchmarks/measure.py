"""How anything is measured here: medians and spread of interleaved runs, and results that print themselves."""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fvpipe.execution.cluster import MALLOC_ENVIRONMENT

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {
    **os.environ,
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    "PYTHONPATH": str(ROOT),
    "FVPIPE_ID_KEY": "an identifier key of the benchmarks",
    # Per core means one thread: of OpenCV, OpenMP, and of OpenBLAS under SciPy.
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"), "1"),
}
FVPIPE = [sys.executable, "-m", "fvpipe"]


@dataclass(frozen=True, slots=True)
class Spread:
    """A median and its range."""

    median: float
    low: float
    high: float
    runs: int

    def __str__(self) -> str:
        digits = _digits(self.median)
        return f"{self.median:,.{digits}f} ({self.low:,.{digits}f} to {self.high:,.{digits}f})"


def short(value: float) -> str:
    """About three digits, never an exponent."""
    return f"{value:,.{_digits(value)}f}"


def _digits(value: float) -> int:
    return 0 if value >= 100 else 1 if value >= 10 else 2


def spread(values: Sequence[float]) -> Spread:
    """Median, least and most of `values`."""
    return Spread(statistics.median(values), min(values), max(values), len(values))


@dataclass(frozen=True, slots=True)
class Claim:
    """A bound that the project is held to."""

    what: str
    measured: str
    bound: str
    held: bool


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under headings."""

    title: str
    columns: list[str]
    rows: list[list[str]]


@dataclass(slots=True)
class Section:
    """What one benchmark found.

    Attributes
    ----------
    notes : list of str
        What a reader must know, and whatever could not be measured and why.
    figures : dict of str to float
        Numbers by name: for the plot, and for the cost model.
    taken : str
        Size and runs.
    """

    name: str
    title: str
    notes: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    taken: str = ""

    def at_least(self, what: str, measured: float, bound: float, unit: str = " x") -> None:
        """Claim that `measured` reaches `bound`."""
        self.claims.append(Claim(what, f"{short(measured)}{unit}", f">= {bound:g}{unit}", measured >= bound))

    def at_most(self, what: str, measured: float, bound: float, unit: str = " x") -> None:
        """Claim that `measured` stays within `bound`."""
        self.claims.append(Claim(what, f"{short(measured)}{unit}", f"<= {bound:g}{unit}", measured <= bound))

    def true(self, what: str, measured: str, held: bool) -> None:
        """Claim that `what` is so."""
        self.claims.append(Claim(what, measured, "is so", held))


@dataclass(frozen=True, slots=True)
class Setup:
    """How to measure.

    Attributes
    ----------
    scratch : Path
        Where cohorts, outputs and the others' environment lie; outside git.
    runs : int
        Interleaved runs of each contender.
    full : bool
        Sizes that the published numbers are of.
    tiny : bool
        Sizes of the tests: everything runs, the numbers mean nothing.
    """

    scratch: Path
    runs: int
    full: bool = False
    tiny: bool = False

    def size(self, tiny: int, quick: int, full: int) -> int:
        """One of three, by how much is to be measured."""
        return tiny if self.tiny else full if self.full else quick

    def say(self, text: str) -> None:
        """Progress, on standard error."""
        print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)

    @contextmanager
    def folder(self, name: str) -> Iterator[Path]:
        """An empty folder of the scratch, removed afterwards."""
        folder = self.scratch / "work" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Ran:
    """A finished command: seconds on the clock, seconds of processors (its children's too), what it printed and said."""

    wall: float
    cpu: float
    code: int
    output: str
    said: str


def command(arguments: Sequence[object], folder: Path, *, check: bool = True, environment: dict[str, str] | None = None) -> Ran:
    """Run a command and wait for it.

    Raises
    ------
    RuntimeError
        It failed, and `check`.
    """
    words = [str(argument) for argument in arguments]
    with tempfile.TemporaryFile("w+") as errors:
        begun = time.perf_counter()
        process = subprocess.Popen(
            words, cwd=folder, env=environment or ENVIRONMENT, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)  # the one call that also counts the processors of its children
        wall, process.returncode = time.perf_counter() - begun, os.waitstatus_to_exitcode(status)
        errors.seek(0)
        said = errors.read()
    if check and process.returncode:
        raise RuntimeError(f"{' '.join(words)} ended with {process.returncode}: {(said or output)[-2000:]}")
    return Ran(wall, used.ru_utime + used.ru_stime, process.returncode, output, said)


def answer_of(module: str, *arguments: object) -> Any:
    """What a module of this package prints last, as JSON, run in a process of its own with the workers' memory settings."""
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)],
        cwd=ROOT,
        env={**ENVIRONMENT, **MALLOC_ENVIRONMENT},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


_WEIGH = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
with open(sys.argv[1], "w") as file:
    file.write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024))
sys.exit(code)
"""


def weighed(arguments: Sequence[object], folder: Path) -> tuple[Ran, float]:
    """A command, and the most memory in MB that it or any one of its children took.

    A process counts what it was before it became another program, so it is started by a small one and not by this.
    """
    with tempfile.NamedTemporaryFile("r") as file:
        ran = command([sys.executable, "-S", "-E", "-c", _WEIGH, file.name, *arguments], folder)
        return ran, float(file.read())


def interleaved(runs: int, contenders: dict[str, Callable[[], float]]) -> dict[str, Spread]:
    """Each contender in turn, again and again: a busy moment does not fall on one of them alone."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(runs):
        for name, measured in contenders.items():
            times[name].append(measured())
    return {name: spread(found) for name, found in times.items()}


def machine() -> dict[str, str]:
    """What the numbers were taken on."""
    information = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").is_file() else ""
    models = [line.partition(":")[2].strip() for line in information.splitlines() if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    names = (
        "fvpipe",
        "numpy",
        "opencv-python-headless",
        "imagecodecs",
        "pillow",
        "pydicom",
        "blake3",
        "h5py",
        "distributed",
        "dvc",
    )
    return {
        "processor": models[0] if models else platform.processor(),
        "cores": str(cores),
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load before": f"{os.getloadavg()[0]:.2f}",
        **{name: _version(name) for name in names},
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
