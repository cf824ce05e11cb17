"""Mutated headers and files: a small run, and the long one of tests/support/fuzz_run.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fvpipe.reasons import Reason
from tests.support.fuzzing import SYNTAXES, files, made, outcome

ROOT = Path(__file__).parents[1]
CODES = {"read", "pixels", *(reason.value for reason in Reason)}


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@settings(max_examples=400, deadline=None, database=None)
@given(kind=st.sampled_from(["headers", "files"]), number=st.integers(10**6, 10**9))
def test_mutated_headers_and_files_end_in_a_code(scratch: Path, kind: str, number: int) -> None:
    header, pixels = outcome(made(kind, number), scratch, number).split(", ")
    assert {header, pixels} <= CODES


def test_items_are_made_again_and_reach_every_decoder(scratch: Path) -> None:
    """A failure's number is worth nothing if the next process makes other bytes of it."""
    script = (
        "from tests.support.fuzzing import made; print([made(k, n)[:4000] for k in ('headers', 'files') for n in range(40)])"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", script],
            cwd=ROOT, env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(runs) == 1
    assert len(files()) == 2 * len(SYNTAXES)
    assert {outcome(data, scratch, 0) for data, _ in files()} == {"read, pixels"}


@pytest.mark.fuzz
@pytest.mark.timeout(3600)
def test_a_hundred_thousand_headers_and_four_thousand_files() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.fuzz_run"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
