"""How long a million exams take and what they cost, on 10 to 1,000 workers: a model from what was measured here.

An exam is four images, two breasts. The time of a build is

    start-up + the longest of (work / workers, bytes / storage, batches x scheduler) + what one process does alone

and each of these is a number of the latest run (`results.json` of the scratch folder, else docs/performance.json) or an
assumption that the page states.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.measure import ROOT, Section, Setup, Table, short

EXAMS = 1_000_000
WORKERS = (10, 30, 100, 300, 1000)
J2K_SECONDS_A_MEGAPIXEL, J2K_SECONDS_A_MEGABYTE = 0.0073, 0.103
"""Of a full lossless decode by OpenJPEG on one core: fitted on 29 real and simulated images, R2 0.998."""
J2K_MEGABYTES = 4.0  # of a 3518 x 2800 image: assumed, real ones are 2 to 6
MEGAPIXELS = 3518 * 2800 / 1e6
STORAGES = (2e9, 20e9)  # bytes a second that all workers together read: assumed, a modest and a large parallel file system
PRICE = 0.04  # dollars a core-hour: assumed, between spot and on demand
START_UP = 60.0  # seconds until all workers stand: assumed
SECONDS_A_BATCH = 2.0  # of work that a batch holds, so that the scheduler costs little
SAMPLE_BYTES = 2 * 256 * 256


@dataclass(frozen=True, slots=True)
class Kind:
    """What a breast of some form costs by some pipeline: seconds of a core, bytes to read."""

    title: str
    seconds: float
    bytes_read: float


@dataclass(frozen=True, slots=True)
class Serial:
    """What does not get faster by more workers: seconds a batch in the scheduler, seconds a breast in one process."""

    batch: float
    breast: float


def run(setup: Setup) -> Section:
    """Compute from the latest numbers."""
    section = Section("cost", "A million exams")
    figures = latest(setup)
    kinds, serial = constants(figures)
    if not kinds:
        section.notes.append("Not computed: the benchmark `pixels` has not been run.")
        return section
    columns = ["form and pipeline", "CPU ms a breast", "core-hours", *(f"{count:,} workers" for count in WORKERS)]
    for storage in STORAGES:
        table = Table(f"Hours, dollars of cores, and what bounds it; storage of {storage / 1e9:g} GB a second", columns, [])
        for kind in kinds:
            core_hours = 2 * EXAMS * kind.seconds / 3600
            row = [kind.title, short(kind.seconds * 1000), short(core_hours)]
            for workers in WORKERS:
                seconds, bound = time_of(kind, serial, workers, storage)
                row.append(f"{short(seconds / 3600)} h, {short(seconds / 3600 * workers * PRICE)} $ ({bound})")
            table.rows.append(row)
        section.tables.append(table)
    law = f"{J2K_SECONDS_A_MEGAPIXEL} a megapixel + {J2K_SECONDS_A_MEGABYTE} a MB"
    known = {"steady": "batch", "incremental": "assembled"}
    source = {name: "measured" if key in figures.get(name, {}) else "assumed" for name, key in known.items()}
    used = [
        ["exams; breasts; images", f"{EXAMS:,}; {2 * EXAMS:,}; {4 * EXAMS:,}", "chosen"],
        ["J2K lossless, seconds of a core", law, "measured"],
        ["a J2K image of 3518 x 2800", f"{J2K_MEGABYTES:g} MB", "assumed"],
        ["scheduler and calling process, seconds a batch", f"{serial.batch:.2g}", source["steady"]],
        ["work in a batch", f"{SECONDS_A_BATCH:g} s", "chosen"],
        ["index, look-ups, shards: seconds a breast in one process", f"{serial.breast:.2g}", source["incremental"]],
        ["start-up of the workers", f"{START_UP:g} s", "assumed"],
        ["a core-hour", f"{PRICE:g} dollars", "assumed"],
    ]
    section.tables.append(Table("Constants", ["what", "value", ""], used))
    return section


def latest(setup: Setup) -> dict[str, Mapping[str, float]]:
    """The figures of the latest run, by benchmark."""
    for file in (setup.scratch / "results.json", ROOT / "docs" / "performance.json"):
        if file.is_file():
            sections = json.loads(file.read_text(encoding="utf-8"))["sections"]
            return {name: section["figures"] for name, section in sections.items()}
    return {}


def constants(figures: Mapping[str, Mapping[str, float]]) -> tuple[list[Kind], Serial]:
    """What the model is made of."""
    pixels, steady, incremental = (figures.get(name, {}) for name in ("pixels", "steady", "incremental"))
    kinds = []
    for form, title in (("vindr-raw", "uncompressed"), ("vindr-j2k", "JPEG 2000 lossless")):
        for pipeline in ("cropped", "antialiased"):
            milliseconds, floor = pixels.get(f"{form} {pipeline}"), pixels.get(f"{form} floor")
            if milliseconds is None or floor is None:
                continue
            seconds, size = milliseconds / 1000, 2 * 2 * MEGAPIXELS * 1e6
            if form == "vindr-j2k":
                size = 2 * J2K_MEGABYTES * 1e6
                if pipeline == "cropped":  # simulated images compress better than real ones: the law, and the rest as measured
                    law = 2 * (J2K_SECONDS_A_MEGAPIXEL * MEGAPIXELS + J2K_SECONDS_A_MEGABYTE * J2K_MEGABYTES)
                    seconds = law + max(milliseconds - floor, 0) / 1000
            kinds.append(Kind(f"3518 x 2800, {title}, `{pipeline}`", seconds, size))
    alone = incremental["assembled"] / incremental["breasts"] if "assembled" in incremental else 0.001
    return kinds, Serial(steady.get("batch", 0.002), alone)


def time_of(kind: Kind, serial: Serial, workers: int, storage: float) -> tuple[float, str]:
    """Seconds of a build of all exams, and what the parallel part waits for."""
    breasts = 2 * EXAMS
    work = breasts * kind.seconds
    parallel = {
        "cores": work / workers,
        "storage": breasts * (kind.bytes_read + SAMPLE_BYTES) / storage,
        "scheduler": work / SECONDS_A_BATCH * serial.batch,
    }
    bound = max(parallel, key=lambda name: parallel[name])
    alone = breasts * serial.breast
    return START_UP + parallel[bound] + alone, "one process" if alone > parallel[bound] else bound
