"""What a run costs when there is nothing to do, after `make demo`; beside the named baseline of each.

The baselines: starting the interpreter, for the command line and the build; `dvc status`, DVC's own look at the same DAG,
for `dvc repro`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.measure import ROOT, Section, Setup, Table, command, interleaved

BIN = Path(sys.executable).parent
COMMANDS: dict[str, tuple[list[object], str]] = {
    "python -c pass": ([sys.executable, "-c", "pass"], ""),
    "fvpipe --help": ([BIN / "fvpipe", "--help"], "python -c pass"),
    "fvpipe build-shards (6 shard folders, nothing changed)": ([BIN / "fvpipe", "build-shards"], "python -c pass"),
    "dvc status": ([BIN / "dvc", "status", "-q"], ""),
    "dvc repro (nothing changed)": ([BIN / "dvc", "repro", "-q"], "dvc status"),
}


def run(setup: Setup) -> Section:
    """In the project's own folder; only the command line where `make demo` has not been run."""
    section = Section("noop", "Nothing to do")
    built = (ROOT / "cache" / "shards").is_dir() and not setup.tiny
    chosen = {name: words for name, (words, _) in COMMANDS.items() if built or ("shards" not in name and "dvc" not in name)}
    if not built:
        section.notes.append("Not measured: the build and DVC; `make demo` comes first.")
    took = interleaved(setup.runs, {n: lambda words=words: command(words, ROOT).wall for n, words in chosen.items()})
    table = Table("Seconds, median (least to most)", ["command", "seconds", "against"], [])
    for name, found in took.items():
        baseline = COMMANDS[name][1]
        against = f"{found.median / took[baseline].median:.1f} x {baseline}" if baseline else ""
        table.rows.append([name, str(found), against])
        section.figures[name] = found.median
    section.tables.append(table)
    return section
