"""Files are read into memory that is used again, in parts, and nothing of that shows."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from fvpipe.dicom.reader import stream
from fvpipe.io import read as files
from fvpipe.io.read import Buffer, file_state, read_contents


def state(path: Path) -> str:
    return file_state(os.stat(path))


@pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 20, 35])
def test_a_file_in_parts_is_the_file(size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "CHUNK_BYTES", 10)
    data, path = os.urandom(size), tmp_path / "file"
    path.write_bytes(data)
    buffer = Buffer()
    memory = buffer.view(25)
    memory[:] = b"x" * 25  # of a file before
    for expected in (state(path), "another"):
        read = read_contents(path, expected, buffer)
        assert bytes(read.data) == data
        assert read.digest == blake3(data).hexdigest()
        assert read.unchanged is (expected == state(path))


def test_a_file_that_changes_while_it_is_read_is_not_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")
    before = state(path)

    class Appends(Buffer):
        def view(self, size: int) -> memoryview:
            with path.open("ab") as file:
                file.write(b" and after")
            return super().view(size)

    read = read_contents(path, before, Appends())
    assert not read.unchanged
    assert read.digest == blake3(read.data).hexdigest()


def test_memory_is_used_again_and_grows() -> None:
    buffer = Buffer()
    small = buffer.view(4)
    small[:] = b"abcd"
    assert bytes(buffer.view(3)) == b"abc"
    large = buffer.view(4000)
    assert len(large) == 4000
    assert bytes(small) == b"abcd"  # whoever still looks at it is not disturbed


def test_memory_of_a_very_large_file_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_KEPT_BYTES", 10)
    buffer = Buffer()
    kept = buffer.view(10)
    kept[:] = b"0123456789"
    large = buffer.view(11)
    large[:] = b"x" * 11
    assert bytes(buffer.view(10)) == b"0123456789"


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
