"""Run all benchmarks, or the named ones; print each report and write it to ``NAME.md`` in the scratch folder."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
import traceback
from pathlib import Path

from benchmarks.measure import ROOT, Report, Setup, machine

PIXELS = ("pixels", "steps", "antialiased", "segment_cost", "warp_cost", "decoders")
NAMES = (*PIXELS, "builds", "steady", "memory", "incremental", "repro", "store", "soak", "index", "cost", "compare", "checks")


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(NAMES)}")
    parser.add_argument("--full", action="store_true", help="the sizes and runs of docs/performance.md (40 minutes)")
    parser.add_argument("--runs", type=int, default=0, help="interleaved runs of each contender (3; with --full 5)")
    parser.add_argument("--scratch", type=Path, default=ROOT / "cache" / "bench", help="folder of reports and cohorts")
    parser.add_argument("--breasts", type=int, default=0, help="breasts of `soak` (200; with --full 5000)")
    parser.add_argument(
        "--before", type=Path, help="an older checkout, measured beside this one by `index`, `segment_cost` and `checks`"
    )
    chosen = parser.parse_args()
    if unknown := set(chosen.names) - set(NAMES):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; known: {', '.join(NAMES)}")
    runs = chosen.runs or (5 if chosen.full else 3)
    setup = Setup(chosen.scratch.absolute(), runs, chosen.full, breasts=chosen.breasts, before=chosen.before)
    setup.scratch.mkdir(parents=True, exist_ok=True)
    reports, failed = [], []
    for name in chosen.names or NAMES:
        setup.say(name)
        begun = time.perf_counter()
        try:
            report: Report = importlib.import_module(f"benchmarks.{name}").run(setup)
        except Exception:  # the others still run
            traceback.print_exc()
            failed.append(name)
            continue
        reports.append(report)
        text = f"{report}\n{'Full' if setup.full else 'Quick'} size, {setup.runs} interleaved runs. {machine()}.\n"
        (setup.scratch / f"{name}.md").write_text(text, encoding="utf-8")
        print(text, flush=True)
        setup.say(f"{name}: {time.perf_counter() - begun:.0f} s")
    bounds = [bound for report in reports for bound in report.bounds]
    print(f"{sum(bound.held for bound in bounds)} of {len(bounds)} bounds held; reports: {setup.scratch}/NAME.md")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
