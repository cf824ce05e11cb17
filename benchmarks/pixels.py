"""fvpipe beside the floor, the naive script and medip: processor time and wall time of a pair of images, by syntax.

All in one process and one thread each, in turns; whatever else a build costs (workers, index, shards) is in
`benchmarks/builds.py`.
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from importlib.util import find_spec

from benchmarks.cohort import FORMS, UNCOMPRESSED, Form, cohort
from benchmarks.measure import ENVIRONMENT, ROOT, Section, Setup, Spread, Table, short, spread
from benchmarks.serve import Contender
from fvpipe.execution.cluster import MALLOC_ENVIRONMENT

PIPELINES = ("direct", "cropped", "antialiased")
OTHERS = {
    "naive": "naive script",
    "naive-integers": "the same on integers",
    "medip": "medip, 16-bit PNG",
    "medip-npy": "medip, .npy",
}
PEERS = ("medip[cli,jpeg]==0.2.0", "scikit-image")
"""The others' environment. `pylibjpeg-libjpeg`, which medip's extra brings for JPEG Lossless, is under the GPL: it is in that
environment alone, and pydicom in the naive script uses what is there."""


def run(setup: Setup) -> Section:
    """Measure every form."""
    section = Section("pixels", "Beside the floor, the naive script and medip")
    python = peers(setup, section)
    forms = [FORMS["cmmd-raw"]] if setup.tiny else list(FORMS.values())
    processor = Table("CPU ms a pair (two images), median (least to most)", ["form", "floor", *PIPELINES, *OTHERS.values()], [])
    wall = Table("Wall ms a pair, one process", processor.columns, [])
    starts: dict[str, list[float]] = {}
    for form in forms:
        setup.say(f"pixels: {form.title}")
        measured = _measure(setup, form, python, section, starts)
        names = ["floor", *PIPELINES, *OTHERS]
        processor.rows.append([form.title, *(str(measured[n][0]) if n in measured else "-" for n in names)])
        wall.rows.append([form.title, *(short(measured[n][1].median) if n in measured else "-" for n in names)])
        for name, (cpu, _) in measured.items():
            section.figures[f"{form.name} {name}"] = cpu.median
    rows = [[name, str(spread(seconds))] for name, seconds in starts.items()]
    start_up = Table("Start-up, imports and headers, seconds (not in the above)", ["contender", "median"], rows)
    section.tables += [processor, _ratios(section, forms), wall, start_up]
    _claim(section, forms)
    return section


def peers(setup: Setup, section: Section) -> str:
    """The interpreter of the others' environment, made once; empty, with a note, where it cannot be had."""
    folder = setup.scratch / "peers"
    python = folder / "bin" / "python"
    if setup.tiny:  # the tests install nothing
        return sys.executable if find_spec("skimage") else ""
    if not (folder / ".made").is_file():
        setup.say(f"making the environment of {', '.join(PEERS)}")
        constraints = ["--constraint", str(ROOT / "constraints.txt")]
        try:
            subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True, capture_output=True, text=True)
            install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *constraints, *PEERS]
            subprocess.run(install, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", "") or str(error)
            section.notes.append(
                f"Not measured: the naive script and medip; their environment could not be made: {said[-600:]}"
            )
            return ""
        (folder / ".made").touch()
    listed = subprocess.run([python, "-m", "pip", "freeze"], check=True, capture_output=True, text=True).stdout
    wanted = ("medip", "scikit-image", "pydicom", "pylibjpeg", "opencv", "numpy")
    section.notes.append("The others' environment: " + ", ".join(v for v in listed.split() if v.startswith(wanted)) + ".")
    return str(python)


def _measure(
    setup: Setup, form: Form, python: str, section: Section, starts: dict[str, list[float]]
) -> dict[str, tuple[Spread, Spread]]:
    """CPU and wall milliseconds a pair, by contender."""
    folder = cohort(setup.scratch, form, 2, 2, (640, 512) if setup.tiny else None)
    warm = {**ENVIRONMENT, **MALLOC_ENVIRONMENT}  # the floor too, so that both read into warm memory
    with ExitStack() as stack, setup.folder("pixels") as work:

        def start(name: str, interpreter: str, module: str, *arguments: object) -> None:
            environment = warm if interpreter == sys.executable and module != "naive" else ENVIRONMENT
            try:
                contender = Contender(interpreter, module, [folder, *arguments], environment)
                stack.callback(contender.close)
                contender.go(0.0)  # warm
            except RuntimeError as error:
                section.notes.append(f"Not measured: {name} on {form.title}: {str(error)[-400:]}")
                return
            contenders[name] = contender
            starts.setdefault(name, []).append(contender.start_up)

        contenders: dict[str, Contender] = {}
        start("floor", sys.executable, "floor")
        for pipeline in PIPELINES:
            start(pipeline, sys.executable, "samples", "table" if form.syntax else "cbis", pipeline, work / pipeline)
        if python:
            start("naive", python, "naive", work / "naive", "floats")
            start("naive-integers", python, "naive", work / "naive-integers", "integers")
        if python and not setup.tiny:
            start("medip", python, "peer", work / "medip", "png16")
            start("medip-npy", python, "peer", work / "medip-npy", "npy")
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
        for _ in range(setup.runs):
            for name, contender in contenders.items():
                once = contender.go(0.0 if setup.tiny else 0.4)
                found[name].append((once.cpu * 1000, once.wall * 1000))
    return {name: (spread([c for c, _ in times]), spread([w for _, w in times])) for name, times in found.items()}


def _ratios(section: Section, forms: list[Form]) -> Table:
    columns = [
        "form",
        *(f"{p} / floor" for p in PIPELINES),
        *(f"{title} / {p}" for title in OTHERS.values() for p in PIPELINES[1:]),
    ]
    table = Table("Ratios of the medians of CPU time", columns, [])
    for form in forms:
        row = [form.title]
        row += [_quotient(section, form, p, "floor") for p in PIPELINES]
        row += [_quotient(section, form, other, p) for other in OTHERS for p in PIPELINES[1:]]
        table.rows.append(row)
    return table


def _quotient(section: Section, form: Form, above: str, below: str) -> str:
    ratio = _ratio(section, form.name, above, below)
    return short(ratio) if ratio else "-"


def _ratio(section: Section, form: str, above: str, below: str) -> float | None:
    figures = section.figures
    pair = figures.get(f"{form} {above}"), figures.get(f"{form} {below}")
    return pair[0] / pair[1] if pair[0] and pair[1] else None


def _claim(section: Section, forms: list[Form]) -> None:
    """The issue's bounds, where both sides were measured. Against medip its faster form counts."""
    names = [form.name for form in forms]

    def ratio(form: str, above: str, below: str) -> float | None:
        return _ratio(section, form, above, below) if form in names else None

    if found := ratio("vindr-j2k", "cropped", "floor"):
        section.at_most("cropped on JPEG 2000 against the floor", found, 1.10)
    for form in UNCOMPRESSED:
        if found := ratio(form, "cropped", "floor"):
            section.at_most(f"cropped on {form} against the floor", found, 2.0)
        if found := ratio(form, "naive", "cropped"):
            section.at_least(f"naive script against cropped on {form}, per core", found, 50)
    for form in ("vindr-rle", "vindr-jpegll", "cbis"):
        if found := ratio(form, "naive", "cropped"):
            section.at_least(f"naive script against cropped on {form}, per core", found, 5)
    for form, pipeline, bound in (("vindr-j2k", "antialiased", 3), *((form, "cropped", 5) for form in UNCOMPRESSED)):
        found = min(filter(None, (ratio(form, peer, pipeline) for peer in ("medip", "medip-npy"))), default=None)
        if found:
            section.at_least(f"medip against {pipeline} on {form}, per core", found, bound)
    if found := ratio("vindr-j2k", "cropped", "antialiased"):
        section.at_least("cropped against antialiased on JPEG 2000", found, 8)
