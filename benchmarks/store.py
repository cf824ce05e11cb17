"""The sample store with a million entries: start-up and look-ups beside those of a small one.

The entries are empty files under the store's own names (a look-up only asks whether one is there), made in the scratch
folder and removed again.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from blake3 import blake3

from benchmarks.measure import ENVIRONMENT, ROOT, Section, Setup, Table, spread
from fvpipe.cache.sample_store import SampleStore
from fvpipe.types import Digest

LOOKUPS = 20_000
STATEMENT = """
import sys, time
from pathlib import Path
from fvpipe.cache.sample_store import SampleStore
begun = time.perf_counter()
SampleStore(Path(sys.argv[1])).has("0" * 64)
print(time.perf_counter() - begun)
"""


def run(setup: Setup) -> Section:
    """Measure a small and a large store."""
    section = Section("store", "The sample store")
    large = setup.size(400, 100_000, 1_000_000)
    small = min(1000, large // 4)
    lookups = min(LOOKUPS, 10 * large)
    table = Table("Medians (least to most)", ["entries", "made in s", "first look ms", "found, us each", "absent, us each"], [])
    found = {}
    for count in (small, large):
        with setup.folder("store") as folder:
            setup.say(f"store: {count} entries")
            store = SampleStore(folder)
            begun = time.perf_counter()
            fill(store, count)
            made = time.perf_counter() - begun
            present = [key(number * 7919 % count) for number in range(lookups)]
            absent = [key(number) for number in range(count, count + lookups)]
            hits = spread([_microseconds(store, present, True) for _ in range(setup.runs)])
            misses = spread([_microseconds(store, absent, False) for _ in range(setup.runs)])
            first = spread([_first_look(folder) for _ in range(setup.runs)])
            begun = time.perf_counter()
            shutil.rmtree(folder)
            folder.mkdir()
            table.rows.append([f"{count:,}", f"{made:.1f}", str(first), str(hits), str(misses)])
            found[count] = first.median, hits.median
            section.figures[f"{count} found"] = hits.median
    section.tables.append(table)
    section.at_most(f"first look into {large:,} entries, in a new process", found[large][0], 50, " ms")
    section.at_most(f"look-up in {large:,} entries against {small:,}", found[large][1] / found[small][1], 3)
    return section


def key(number: int) -> Digest:
    """A key like any other."""
    return Digest(blake3(number.to_bytes(8, "big")).hexdigest())


def fill(store: SampleStore, count: int) -> None:
    """Make `count` empty entries."""
    made = set()
    for number in range(count):
        path = store.path(key(number))
        if path.parent not in made:
            path.parent.mkdir()
            made.add(path.parent)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY))


def _microseconds(store: SampleStore, keys: list[Digest], expected: bool) -> float:
    begun = time.perf_counter()
    answers = [store.has(one) for one in keys]
    seconds = time.perf_counter() - begun
    assert set(answers) == {expected}
    return seconds / len(keys) * 1e6


def _first_look(folder: Path) -> float:
    arguments = [sys.executable, "-c", STATEMENT, str(folder)]
    done = subprocess.run(arguments, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    return float(done.stdout) * 1000
