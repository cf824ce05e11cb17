"""The sample store with a million entries: start-up and look-ups beside those of a small one.

The entries are empty files under the store's own names: a look-up only asks whether one is there.
"""

from __future__ import annotations

import time
from pathlib import Path

from blake3 import blake3

from benchmarks.measure import Report, Runs, Setup, in_new_process
from fvpipe.cache.sample_store import SampleStore
from fvpipe.types import Digest


def run(setup: Setup) -> Report:
    """Measure a small and a large store."""
    report = Report("The sample store")
    table = report.table("Medians (least to most)", "entries", "first look ms", "found, us each", "absent, us each")
    large = setup.size(400, 100_000, 1_000_000)
    small, lookups = min(1000, large // 4), min(20_000, 10 * large)
    found = {}
    for count in (small, large):
        with setup.folder("store") as folder:
            setup.say(f"store: {count} entries")
            store = SampleStore(folder)
            fill(store, count)
            present = [key(number * 7919 % count) for number in range(lookups)]
            absent = [key(number) for number in range(count, count + lookups)]
            hits = Runs(seconds_of_looks(folder, present, True) / lookups * 1e6 for _ in range(setup.runs))
            misses = Runs(seconds_of_looks(folder, absent, False) / lookups * 1e6 for _ in range(setup.runs))
            first = Runs(in_new_process(seconds_of_looks, folder, absent[:1], False) * 1e3 for _ in range(setup.runs))
        table.add_row(f"{count:,}", str(first), str(hits), str(misses))
        report.values[f"{count} found"] = hits.median
        found[count] = first.median, hits.median
    report.bound(f"first look into {large:,} entries, in a new process", found[large][0], "<=", 50, "ms")
    report.bound(f"look-up in {large:,} entries / in {small:,}", found[large][1] / found[small][1], "<=", 3)
    return report


def key(number: int) -> Digest:
    """A key like any other."""
    return Digest(blake3(number.to_bytes(8, "big")).hexdigest())


def fill(store: SampleStore, count: int) -> None:
    """Make `count` empty entries."""
    for number in range(count):
        path = store.path(key(number))
        path.parent.mkdir(exist_ok=True)
        path.touch()


def seconds_of_looks(folder: Path, keys: list[Digest], expected: bool) -> float:
    """Open a store and look for all keys."""
    begun = time.perf_counter()
    store = SampleStore(folder)
    answers = [store.has(one) for one in keys]
    seconds = time.perf_counter() - begun
    assert set(answers) == {expected}
    return seconds
