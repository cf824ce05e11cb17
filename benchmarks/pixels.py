"""fvpipe beside the floor, the naive script and medip: CPU time and wall time of a pair of images, by form.

Each contender is one process with one thread; they take turns. `builds` measures the whole command.
"""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from contextlib import ExitStack, closing
from importlib.util import find_spec

from benchmarks.cohort import FORMS, Form, cohort
from benchmarks.contenders import Contender
from benchmarks.measure import ENVIRONMENT, ROOT, WARM, Report, Runs, Setup, short

PIPELINES = ("direct", "cropped", "antialiased")
PEERS = ("medip[cli,jpeg]==0.2.0", "scikit-image")
"""The others' environment. `pylibjpeg-libjpeg`, which medip's extra brings for JPEG Lossless, is under the GPL: it is in that
environment alone, and pydicom in the naive script uses what is there."""
BOUNDS = (  # form, slower, faster, relation, times
    ("vindr-j2k", "cropped", "floor", "<=", 1.1),
    ("cmmd-raw", "cropped", "floor", "<=", 2),
    ("vindr-raw", "cropped", "floor", "<=", 2),
    ("cmmd-raw", "naive", "cropped", ">=", 50),
    ("vindr-raw", "naive", "cropped", ">=", 50),
    ("vindr-rle", "naive", "cropped", ">=", 5),
    ("vindr-jpegll", "naive", "cropped", ">=", 5),
    ("cbis", "naive", "cropped", ">=", 5),
    ("vindr-j2k", "medip", "antialiased", ">=", 3),  # by the faster one of its formats
    ("cmmd-raw", "medip", "cropped", ">=", 5),
    ("vindr-raw", "medip", "cropped", ">=", 5),
    ("vindr-j2k", "cropped", "antialiased", ">=", 8),
)


def run(setup: Setup) -> Report:
    """Measure every form."""
    report = Report("A pair of images beside the floor, the naive script and medip")
    columns = ["form", "contender", "CPU ms", "wall ms", "CPU / floor", "CPU / cropped", "CPU / antialiased"]
    table = report.table("A pair of two images, median (least to most)", *columns)
    python, starts = peers(setup, report), defaultdict[str, Runs](Runs)
    for form in [FORMS["cmmd-raw"]] if setup.tiny else FORMS.values():
        setup.say(f"pixels: {form.title}")
        passes = _passes(setup, form, python, report, starts)
        baselines = [passes[name][0].median for name in ("floor", *PIPELINES[1:])]
        for name, (cpu, wall) in passes.items():
            report.values[f"{form.name} {name}"] = cpu.median
            ratios = (short(cpu.median / baseline) for baseline in baselines)
            table.add_row(form.title, name, str(cpu), short(wall.median), *ratios)
        if medip := [passes[name][0].median for name in ("medip-png", "medip-npy") if name in passes]:
            report.values[f"{form.name} medip"] = min(medip)
    start_up = report.table("Start-up, imports and headers, not in the above", "contender", "seconds")
    for name, seconds in starts.items():
        start_up.add_row(name, str(seconds))
    for form_name, slower, faster, relation, times in BOUNDS:
        both = [report.values.get(f"{form_name} {name}") for name in (slower, faster)]
        if both[0] and both[1] and not setup.tiny:
            report.bound(f"{slower} / {faster}, {form_name}", both[0] / both[1], relation, times)
    return report


def peers(setup: Setup, report: Report) -> str:
    """Make or find the others' environment; return its interpreter, or, with a note, nothing where it cannot be had."""
    folder = setup.scratch / "peers"
    python, made = folder / "bin" / "python", folder / ".made"
    if setup.tiny:  # the tests install nothing
        return sys.executable if find_spec("skimage") else ""

    def say(*words: object) -> str:
        return subprocess.run([*map(str, words)], check=True, capture_output=True, text=True).stdout

    if not made.is_file():
        setup.say(f"making the environment of {', '.join(PEERS)}")
        try:
            say(sys.executable, "-m", "venv", "--clear", folder)
            say(python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", *PEERS)
        except (OSError, subprocess.CalledProcessError) as error:
            reason = getattr(error, "stderr", "") or str(error)
            report.notes.append(f"Not measured: the naive script and medip; no environment for them: {reason[-600:]}")
            return ""
        made.touch()
    wanted = ("medip", "scikit-image", "pydicom", "pylibjpeg", "opencv", "numpy")
    installed = ", ".join(package for package in say(python, "-m", "pip", "freeze").split() if package.startswith(wanted))
    report.notes.append(f"The others' environment: {installed}.")
    return str(python)


def _passes(setup: Setup, form: Form, python: str, report: Report, starts: dict[str, Runs]) -> dict[str, tuple[Runs, Runs]]:
    """CPU and wall milliseconds a pair, by contender."""
    folder = cohort(setup, form, tiny=(640, 512))
    with ExitStack() as stack, setup.folder("pixels") as work:
        # The floor has a worker's memory settings too, so that both read into memory that is kept.
        wanted = {"floor": (sys.executable, "floor", [], WARM)}
        wanted |= {p: (sys.executable, "samples", [form.adapter, p, work / p], WARM) for p in PIPELINES}
        if python:
            wanted["naive"] = (python, "naive", [work / "naive", "floats"], ENVIRONMENT)
            wanted["naive-integers"] = (python, "naive", [work / "integers", "integers"], ENVIRONMENT)
        if python and not setup.tiny:
            wanted["medip-png"] = (python, "medip", [work / "medip", "png16"], ENVIRONMENT)
            wanted["medip-npy"] = (python, "medip", [work / "medip-npy", "npy"], ENVIRONMENT)
        contenders = {}
        for name, (interpreter, contender, arguments, environment) in wanted.items():
            try:
                one = stack.enter_context(closing(Contender(interpreter, contender, [folder, *arguments], environment)))
            except RuntimeError as error:
                report.notes.append(f"Not measured: {name} on {form.title}: {str(error)[-400:]}")
                continue
            contenders[name] = one
            starts[name].append(one.start_up)
        found = {name: (Runs(), Runs()) for name in contenders}
        for _ in range(setup.runs):
            for name, one in contenders.items():
                for runs, seconds in zip(found[name], one.go(0.0 if setup.tiny else 0.4), strict=True):
                    runs.append(seconds * 1000)
    return found
