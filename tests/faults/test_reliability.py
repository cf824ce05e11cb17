"""Every row of the page of faults has a test, and the page is that of the tests as they are."""

from __future__ import annotations

import json
from pathlib import Path

from tests.faults.__main__ import KEPT, PAGE, marked_tests, outcomes, page
from tests.faults.rows import ROWS


def test_every_row_has_a_test() -> None:
    assert list(ROWS) == list(range(1, 67))
    assert marked_tests().keys() == ROWS.keys()


def test_the_page_is_up_to_date() -> None:
    """If not: `make reliability`, or `python -m tests.faults --page` to keep the results."""
    assert PAGE.read_text(encoding="utf-8") == page(json.loads(KEPT.read_text(encoding="utf-8")))


def test_results_are_counted_by_test(tmp_path: Path) -> None:
    (tmp_path / "r.xml").write_text(
        '<testsuites><testsuite><testcase classname="tests.test_a" name="test_b[1]"/>'
        '<testcase classname="tests.test_a" name="test_b[2[3]]"><failure/></testcase>'
        '<testcase classname="tests.test_a" name="test_c"><error/></testcase>'
        '<testcase classname="tests.faults.test_a" name="test_c"><skipped/></testcase></testsuite></testsuites>'
    )
    assert outcomes(tmp_path / "r.xml") == {
        "tests/test_a.py::test_b": {"passed": 1, "failed": 1},
        "tests/test_a.py::test_c": {"failed": 1},
        "tests/faults/test_a.py::test_c": {"skipped": 1},
    }
