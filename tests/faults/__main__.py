"""Run the tests of faults, and write what they found to `docs/reliability.md`: fault, promise, tests, last result.

`python -m tests.faults` runs every test with the mark `fault`. `python -m tests.faults RESULTS.xml` takes the results of a run
with ``--junitxml`` instead, and keeps those of other tests; `python -m tests.faults --page` runs nothing. Results and figures
are kept in `docs/reliability.json`.
"""

from __future__ import annotations

import ast
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path
from typing import Any

from tests.faults.rows import ROWS

ROOT = Path(__file__).parents[2]
PAGE, KEPT = ROOT / "docs" / "reliability.md", ROOT / "docs" / "reliability.json"


def marked_tests() -> dict[int, list[str]]:
    """Name of every marked test, as ``FILE::FUNCTION``, by row."""
    found: dict[int, list[str]] = {}
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            name, decorators = (node.name, node.decorator_list) if isinstance(node, ast.FunctionDef) else ("", [])
            for mark in decorators:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.fault":
                    for row in map(ast.literal_eval, mark.args):
                        found.setdefault(row, []).append(f"{file.relative_to(ROOT).as_posix()}::{name}")
    return found


def outcomes(results: Path) -> dict[str, Counter[str]]:
    """Number of cases passed, failed and skipped of every test in a JUnit file."""
    found: dict[str, Counter[str]] = {}
    for case in ET.parse(results).iter("testcase"):
        name = f"{case.attrib['classname'].replace('.', '/')}.py::{case.attrib['name'].partition('[')[0]}"
        kinds = {child.tag for child in case}
        outcome = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        found.setdefault(name, Counter())[outcome] += 1
    return found


def page(kept: dict[str, Any]) -> str:
    """The page of all rows with kept results and figures."""
    rows = marked_tests()
    lines = [
        "# What goes wrong, and what happens then",
        "",
        "Written by `make reliability` from `tests/faults/rows.py` and the tests with the mark `fault`. Each makes its fault",
        "for real: a process is killed, a disk is full, a bit is flipped. The last column counts the cases of the last run.",
        "",
        f"{kept['run']}",
        "",
        "| | fault | promise | tests | last result |",
        "|---|---|---|---|---|",
    ]
    for number, row in ROWS.items():
        tests = rows.get(number, [])
        links = [f"[`{test.partition('::')[2]}`](../{test.partition('::')[0]})" for test in tests]
        lines.append(f"| {number} | {row.fault} | {row.promise} | {', '.join(links)} | {_result(tests, kept['tests'])} |")
    for title, text in kept["figures"].items():
        lines += ["", f"## {title}", "", *text]
    return "\n".join(lines) + "\n"


def _result(tests: list[str], kept: dict[str, dict[str, int]]) -> str:
    total = sum((Counter(kept.get(test, {"not run": 1})) for test in tests), Counter[str]())
    return ", ".join(f"{total[kind]} {kind}" for kind in ("failed", "not run", "skipped", "passed") if total[kind]) or "no test"


def _measured() -> Path:
    """Run the marked tests, and return their JUnit file."""
    results = Path(tempfile.mkdtemp()) / "results.xml"
    marks = "fault and not fuzz"
    options = ["-m", marks, f"--junitxml={results}", "--numprocesses", os.environ.get("JOBS", "auto"), "--dist", "loadfile"]
    subprocess.run([sys.executable, "-m", "pytest", *options], cwd=ROOT, check=False)
    return results


def main() -> None:
    """Parse the command line, and write the page."""
    kept = json.loads(KEPT.read_text(encoding="utf-8"))
    if sys.argv[1:] != ["--page"]:
        results = Path(sys.argv[1]) if sys.argv[1:] else _measured()
        found, names = outcomes(results), {name for names in marked_tests().values() for name in names}
        merged = kept["tests"] | {name: dict(sorted(counts.items())) for name, counts in found.items()}
        kept["tests"] = {name: merged[name] for name in sorted(names & merged.keys())}
        user = "root" if os.geteuid() == 0 else "a user without privileges"
        kept["run"] = (
            f"Last run on {datetime.datetime.now(datetime.UTC):%Y-%m-%d}, Python {platform.python_version()}, "
            f"{platform.system()}, as {user}."
        )
        KEPT.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    PAGE.write_text(page(kept), encoding="utf-8")


if __name__ == "__main__":
    main()
