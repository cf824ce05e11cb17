"""Mutated headers, files and shard folders: no exception outside the error tree, no crash, bounded memory, bounded time.

`python -m tests.support.fuzz_run [HEADERS FILES SHARDS]` (100,000, 4,000 and 20,000 where not given) runs all of them in child
processes that may grow by 512 MB and take 30 s an item; 0 leaves a kind out. `python -m tests.support.fuzz_run headers:1234`
runs one again, here, and shows its traceback. A crash of the process, a hang, and an exception that no build would turn into a
reason, or that is no ShardError, are failures; each is
printed with the name that makes it again. Exit code 1 where there is one.

docs/reliability.md has the figures of one run.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

from tests.support import hostile_shards
from tests.support.fuzzing import files, headers, made, outcome

MEGABYTES, SECONDS, SLOW = 512, 30.0, 2.0


def become(kind: str, number: int, folder: Path) -> str:
    """Make an item, and name its outcome."""
    if kind == "shards":
        return hostile_shards.outcome(number, folder / "shards")
    return outcome(made(kind, number), folder, number)


def child(answers: Connection, kind: str, first: int, last: int) -> None:
    """Run items one after the other; send the seconds and the outcome of each."""
    (headers if kind == "headers" else files)()
    with tempfile.TemporaryDirectory() as name:
        outcome(files()[0][0], Path(name), 0)  # everything is imported before the bound is set
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + MEGABYTES * 2**20,) * 2)
        for number in range(first, last):
            begun = time.perf_counter()
            try:
                found = become(kind, number, Path(name))
            except BaseException as error:
                found = f"FAILED {type(error).__module__}.{type(error).__qualname__}"
            answers.send((time.perf_counter() - begun, found))
    print(f"  peak memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB", flush=True)


def outcomes(kind: str, count: int) -> Iterator[tuple[int, float, str]]:
    """Number, seconds and outcome of every item, whatever it does to its process."""
    context, number = multiprocessing.get_context("spawn"), 0
    while number < count:
        answers, sender = context.Pipe(duplex=False)
        process = context.Process(target=child, args=(sender, kind, number, count))
        process.start()
        sender.close()
        patience = SECONDS + 30  # for the imports
        try:
            while answers.poll(patience):
                yield number, *answers.recv()
                number, patience = number + 1, SECONDS
            failure = "hang"
        except EOFError:
            process.join()
            failure = f"crash, exit code {process.exitcode}"
        process.kill()
        process.join()
        if process.exitcode and process.exitcode > 0:
            sys.exit(f"the child ended by itself, with {process.exitcode}: see its traceback")
        if number < count:
            yield number, SECONDS, f"FAILED {failure}"
            number += 1


def run(kind: str, count: int) -> int:
    """Run so many items, print a summary, and return the number of failures."""
    begun, found, failures, slow = time.perf_counter(), Counter[str](), [], []
    for number, seconds, became in outcomes(kind, count):
        found[became] += 1
        if became.startswith("FAILED"):
            failures.append(f"{kind}:{number}  {became}")
        elif seconds > SLOW:
            slow.append(f"{seconds:.1f} s  {kind}:{number}  {became}")
    took = time.perf_counter() - begun
    print(f"{count} mutated {kind} in {took:.0f} s, {len(failures)} failures, {len(slow)} above {SLOW} s")
    for became, times in found.most_common():
        print(f"  {times:7}  {became}")
    for line in slow[:10]:
        print(f"  slow: {line}")
    for line in failures[:50]:
        print(f"  python -m tests.support.fuzz_run {line}")
    return len(failures)


def main() -> None:
    """Run all, or one again."""
    match sys.argv[1:]:
        case [one] if ":" in one:
            kind, number = one.split(":")
            with tempfile.TemporaryDirectory() as name:
                print(become(kind, int(number), Path(name)))
        case rest:
            counts = (int(n) for n in rest or (100_000, 4_000, 20_000))
            sys.exit(bool(sum(map(run, ("headers", "files", "shards"), counts))))


if __name__ == "__main__":
    main()
