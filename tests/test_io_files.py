"""Files are read whole, and a header as from a file."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from fvpipe.dicom.reader import stream
from fvpipe.io import read as files
from fvpipe.io.read import file_state, read_contents


def state(path: Path) -> str:
    return file_state(os.stat(path))


@pytest.mark.parametrize("size", [0, 1, 35])
def test_a_file_is_read_whole(size: int, tmp_path: Path) -> None:
    data, path = os.urandom(size), tmp_path / "file"
    path.write_bytes(data)
    for expected in (state(path), "another"):
        read = read_contents(path, expected)
        assert bytes(read.data) == data
        assert read.digest == blake3(data).hexdigest()
        assert read.unchanged is (expected == state(path))


def test_a_file_that_changes_while_it_is_read_is_not_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")

    def appending(data: bytes) -> Any:
        with path.open("ab") as file:
            file.write(b" and after")
        return blake3(data)

    monkeypatch.setattr(files, "blake3", appending)
    read = read_contents(path, state(path))
    assert not read.unchanged
    assert read.digest == blake3(b"before").hexdigest()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(-1, 2**32)),
        st.tuples(st.just("seek"), st.integers(0, 40), st.just(0)),
        st.tuples(st.just("seek"), st.integers(0, 10), st.just(1)),
        st.tuples(st.just("seek"), st.integers(-5, 5), st.just(2)),
        st.tuples(st.just("tell")),
    ),
    max_size=20,
)


@given(st.binary(max_size=30), STEPS)
def test_memory_reads_as_a_file_does(data: bytes, steps: list[tuple[object, ...]]) -> None:
    """With a length that a broken header claims, too: no more is reserved than there is."""
    ours, theirs = stream(memoryview(data)), io.BytesIO(data)
    for name, *arguments in steps:
        assert getattr(ours, str(name))(*arguments) == getattr(theirs, str(name))(*arguments)
