"""Mutated headers and files: no exception outside the error tree, no crash, bounded memory, bounded time.

`python benchmarks/fuzz.py [HEADERS FILES]` (100,000 and 4,000 where not given) runs all of them in child processes that may
grow by 512 MB and take 30 s an item. `python benchmarks/fuzz.py headers:1234` runs one again, here, and shows its traceback.
A crash of the process, a hang, and an exception that no build would turn into a reason are failures; each is printed with
the name that makes it again. Exit code 1 where there is one.

Run once as it stands, on two cores that others used too: 100,000 headers in 122 s and 4,000 files in 11 s; no failure, no
crash, no hang, nothing above 2 s, peak memory 105 MB.
"""

from __future__ import annotations

import os
import resource
import select
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

MEGABYTES, SECONDS, SLOW = 512, 30.0, 2.0


def child(kind: str, first: int, last: int) -> None:
    """Run items one after the other, a line for each: its number, its seconds, what became of it."""
    from tests.support.fuzzing import files, headers, made, outcome

    (headers if kind == "headers" else files)()
    with tempfile.TemporaryDirectory() as name:
        outcome(files()[0][0], Path(name), 0)  # everything is imported before the bound is put
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + MEGABYTES * 2**20,) * 2)
        for number in range(first, last):
            data = made(kind, number)
            begun = time.perf_counter()
            try:
                found = outcome(data, Path(name), number)
            except BaseException as error:
                found = f"FAILED {type(error).__module__}.{type(error).__qualname__}"
            print(number, f"{time.perf_counter() - begun:.3f}", found, sep="\t", flush=True)
        print("end", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, "", sep="\t", flush=True)


def answers(kind: str, count: int) -> Iterator[tuple[int, float, str]]:
    """Number, seconds and outcome of every item, whatever it does to its process."""
    first = 0
    while first < count:
        command = [sys.executable, __file__, "child", kind, str(first), str(count)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)})
        assert process.stdout is not None
        buffer, ended = b"", False
        while not ended:
            ready, _, _ = select.select([process.stdout], [], [], SECONDS + (30 if not buffer and first == 0 else 0))
            chunk = os.read(process.stdout.fileno(), 1 << 16) if ready else b""
            if not chunk:
                break
            *lines, buffer = (buffer + chunk).split(b"\n")
            for line in lines:
                number, seconds, found = line.decode().split("\t")
                if number == "end":
                    print(f"  peak memory of the process: {seconds} MB")
                    ended = True
                    break
                yield int(number), float(seconds), found
                first = int(number) + 1
        if not ended:
            process.kill()
            code = process.wait()
            if code > 0:
                sys.exit(f"the child ended by itself, with {code}: see its traceback")
            yield first, SECONDS, "FAILED hang" if not ready else f"FAILED crash, signal {-code}"
            first += 1
        process.wait()
        if ended:
            return


def run(kind: str, count: int) -> int:
    """Run so many; returns the number of failures."""
    begun, outcomes, failures, slow = time.perf_counter(), Counter[str](), [], []
    for number, seconds, found in answers(kind, count):
        outcomes[found] += 1
        if found.startswith("FAILED"):
            failures.append(f"{kind}:{number}  {found}")
        elif seconds > SLOW:
            slow.append((seconds, f"{kind}:{number}  {found}"))
    print(
        f"{count} mutated {kind} in {time.perf_counter() - begun:.0f} s, {len(failures)} failures, {len(slow)} above {SLOW} s"
    )
    for found, times in outcomes.most_common():
        print(f"  {times:7}  {found}")
    for seconds, what in sorted(slow, reverse=True)[:10]:
        print(f"  slow: {seconds:.1f} s  {what}")
    for what in failures[:50]:
        print(f"  python benchmarks/fuzz.py {what}")
    return len(failures)


def main() -> None:
    """All, or one again."""
    match sys.argv[1:]:
        case ["child", kind, first, last]:
            child(kind, int(first), int(last))
        case [one] if ":" in one:
            from tests.support.fuzzing import made, outcome

            kind, number = one.split(":")
            with tempfile.TemporaryDirectory() as name:
                print(outcome(made(kind, int(number)), Path(name), int(number)))
        case rest:
            headers, files = (int(n) for n in rest or (100_000, 4_000))
            sys.exit(bool(run("headers", headers) + run("files", files)))


if __name__ == "__main__":
    main()
