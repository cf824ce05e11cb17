"""`python -m benchmarks [NAME ...] [--full] [--write]`: everything, or the benchmarks that are named; see `make bench`."""

from __future__ import annotations

import argparse
import importlib
import json
import time
import traceback
from dataclasses import asdict
from pathlib import Path

from benchmarks import page
from benchmarks.measure import ROOT, Section, Setup, machine

NAMES = (
    "pixels",
    "steps",
    "antialiased",
    "decoders",
    "builds",
    "steady",
    "memory",
    "incremental",
    "store",
    "kills",
    "noop",
    "index",
    "cost",
)


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(NAMES)}")
    parser.add_argument("--full", action="store_true", help="the sizes and runs of the published numbers (35 minutes)")
    parser.add_argument("--write", action="store_true", help="put the results into docs/performance.md and its plot")
    parser.add_argument("--runs", type=int, default=0, help="interleaved runs of each contender (3; with --full 5)")
    parser.add_argument("--scratch", type=Path, default=ROOT / "cache" / "bench", help="where cohorts are kept")
    chosen = parser.parse_args()
    if unknown := set(chosen.names) - set(NAMES):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; known: {', '.join(NAMES)}")
    setup = Setup(chosen.scratch.absolute(), chosen.runs or (5 if chosen.full else 3), chosen.full)
    setup.scratch.mkdir(parents=True, exist_ok=True)
    file = setup.scratch / "results.json"
    results = json.loads(file.read_text()) if chosen.names and file.is_file() else {"sections": {}}
    results["machine"] = machine()
    for name in chosen.names or NAMES:
        begun = time.perf_counter()
        setup.say(f"{name} ...")
        section = _measured(name, setup)
        section.taken = f"{'Full' if setup.full else 'Quick'} size, {setup.runs} interleaved runs."
        results["sections"][name] = asdict(section)
        file.write_text(json.dumps(results, indent=1) + "\n")
        print(page.section_text(section), flush=True)
        setup.say(f"{name}: {time.perf_counter() - begun:.0f} s")
    print(page.verdict({name: page.section_of(found) for name, found in results["sections"].items()}))
    print(f"\nAll numbers: {file}")
    if chosen.write:
        page.write(results)


def _measured(name: str, setup: Setup) -> Section:
    """A benchmark that breaks does not take the others with it; it is said where its numbers would stand."""
    try:
        found: Section = importlib.import_module(f"benchmarks.{name}").run(setup)
    except Exception as error:
        traceback.print_exc()
        return Section(name, name.capitalize(), [f"Not measured: {type(error).__name__}: {str(error)[-600:]}"])
    return found


if __name__ == "__main__":
    main()
