"""Time and price of a million exams on 10 to 1,000 workers: a model from measured numbers, described in docs/cost.md.

An exam is four images, two breasts. The time of a build is

    start-up + the longest of (work / workers, bytes / storage, batches x scheduler) + work of one process alone
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.measure import Report, Setup, short

EXAMS = 1_000_000
WORKERS = (10, 30, 100, 300, 1000)
# Assumed:
STORAGES = (2e9, 20e9)  # bytes a second that all workers together read: a modest and a large parallel file system
PRICE = 0.04  # dollars a core-hour, between spot and on demand
START_UP = 60.0  # seconds until all workers stand
BATCH_SECONDS = 2.0  # of work in a batch
J2K_MEGABYTES = 4.0  # of a 3518 x 2800 image as JPEG 2000; real ones are 2 to 6
# Measured (docs/performance.md): renew them with its tables.
SCHEDULER_SECONDS = 0.00012  # a batch, in the scheduler and the calling process: `steady`
ALONE_SECONDS = 0.00077  # a breast, for index, look-ups and shards in one process: `incremental`, shards removed
# A full lossless decode, fitted on 29 real and simulated images (R2 0.998): simulated ones alone compress too well.
MEGAPIXELS = 3518 * 2800 / 1e6
J2K_SECONDS = 2 * (0.0073 * MEGAPIXELS + 0.103 * J2K_MEGABYTES)  # a pair
RAW_BYTES, J2K_BYTES, SAMPLE_BYTES = 2 * 2 * MEGAPIXELS * 1e6, 2 * J2K_MEGABYTES * 1e6, 2 * 256 * 256


@dataclass(frozen=True, slots=True)
class Kind:
    """Form and pipeline: CPU seconds a breast, bytes to read a breast."""

    title: str
    seconds: float
    bytes_read: float


KINDS = (  # seconds of `pixels`; of JPEG 2000 by `cropped` the fitted decode and what `pixels` has above the floor
    Kind("3518 x 2800, uncompressed, `cropped`", 0.0247, RAW_BYTES),
    Kind("3518 x 2800, uncompressed, `antialiased`", 0.0453, RAW_BYTES),
    Kind("3518 x 2800, JPEG 2000 lossless, `cropped`", J2K_SECONDS + 0.014, J2K_BYTES),
    Kind("3518 x 2800, JPEG 2000 lossless, `antialiased`", 0.0631, J2K_BYTES),
)


def run(_: Setup) -> Report:
    """Compute the tables of docs/cost.md."""
    report = Report("A million exams")
    columns = ["form and pipeline", "CPU ms a breast", "core-hours", *(f"{count:,} workers" for count in WORKERS)]
    for storage in STORAGES:
        table = report.table(f"Hours, dollars, and the limit, with storage of {storage / 1e9:g} GB a second", *columns)
        for kind in KINDS:
            row = [kind.title, short(kind.seconds * 1000), short(2 * EXAMS * kind.seconds / 3600)]
            for workers in WORKERS:
                seconds, limit = time_of(kind, workers, storage)
                row.append(f"{short(seconds / 3600)} h, {short(seconds / 3600 * workers * PRICE)} $ ({limit})")
            table.add_row(*row)
    return report


def time_of(kind: Kind, workers: int, storage: float) -> tuple[float, str]:
    """Seconds of a build of all exams, and what limits it."""
    breasts = 2 * EXAMS
    work, alone = breasts * kind.seconds, breasts * ALONE_SECONDS
    parallel = {
        "cores": work / workers,
        "storage": breasts * (kind.bytes_read + SAMPLE_BYTES) / storage,
        "scheduler": work / BATCH_SECONDS * SCHEDULER_SECONDS,
    }
    limit = max(parallel, key=lambda name: parallel[name])
    return START_UP + parallel[limit] + alone, "one process" if alone > parallel[limit] else limit
