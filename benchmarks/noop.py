"""What a run costs when there is nothing to do: `python benchmarks/noop.py`, after `make demo`.

Medians of five, beside the named baseline of each: starting the interpreter for the command line and the build, and
`dvc status` (DVC's own look at the same DAG) for `dvc repro`.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parents[1]
COMMANDS = {
    "python -c pass": ([sys.executable, "-c", "pass"], None),
    "fvpipe --help": ([BIN / "fvpipe", "--help"], "python -c pass"),
    "fvpipe build-shards (6 shard folders, nothing changed)": ([BIN / "fvpipe", "build-shards"], "python -c pass"),
    "dvc status": ([BIN / "dvc", "status", "-q"], None),
    "dvc repro (nothing changed)": ([BIN / "dvc", "repro", "-q"], "dvc status"),
}


def seconds(command: list[object]) -> float:
    """Wall-clock time of one run."""
    begun = time.perf_counter()
    path = f"{BIN}:/usr/bin:/bin"
    subprocess.run(
        [str(part) for part in command], cwd=ROOT, capture_output=True, check=True, env={"PATH": path, "HOME": str(Path.home())}
    )
    return time.perf_counter() - begun


def main() -> None:
    """Interleave the runs, so that a busy moment does not fall on one of them."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(5):
        for name, (command, _baseline) in COMMANDS.items():
            times[name].append(seconds(command))
    medians = {name: statistics.median(found) for name, found in times.items()}
    for name, (_, baseline) in COMMANDS.items():
        ratio = f"  {medians[name] / medians[baseline]:5.1f} x {baseline}" if baseline else ""
        print(f"{name:56} {medians[name]:6.2f} s  ({min(times[name]):.2f} to {max(times[name]):.2f}){ratio}")


if __name__ == "__main__":
    main()
