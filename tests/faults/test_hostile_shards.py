"""Shard folders that somebody else made, with a receipt that fits: nothing of them is read, opened or waited for."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fvpipe.comparison.pipelines import compare
from fvpipe.errors import ChecksumError, ParameterError, ReceiptError, ShardError
from fvpipe.printable import CONTROL
from fvpipe.report.finding_boxes import read_findings
from fvpipe.shards import reader
from fvpipe.shards.coordinates import WARP_COLUMNS
from fvpipe.shards.format import RECEIPT, sha256_outside_images, shard_name
from fvpipe.shards.reader import open_shards
from fvpipe.shards.verification import verify
from tests.support.hostile_shards import ATTRIBUTE_KINDS, KINDS, WARP_KINDS, change_shard, fit_receipt, outcome, put
from tests.support.shard_folder import commit, entry_of


@pytest.fixture
def own(whole: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(whole, tmp_path / "own"))


@pytest.mark.fault(50)
@pytest.mark.parametrize("kind", KINDS)
def test_shard_that_the_format_does_not_have(kind: str, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it is read: no other file, no filter, no memory but that of its own bytes."""
    monkeypatch.setattr(reader, "COMMIT_SECONDS", 0)
    change, message = KINDS[kind]
    change_shard(own, change)
    with pytest.raises(ShardError, match=message) as error:
        open_shards(own)
    assert "shard-0000" in str(error.value)
    problems = verify(own)
    assert any(re.search(message, problem) for problem in problems)
    assert not any(CONTROL.search(problem) for problem in problems)


@pytest.mark.parametrize("kind", WARP_KINDS)
def test_warp_that_the_format_does_not_have(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A map that cannot be inverted, or leads out of the image."""
    monkeypatch.setattr(reader, "COMMIT_SECONDS", 0)
    commit(tmp_path, (4,), warps=True)
    assert not verify(tmp_path)
    change, message = WARP_KINDS[kind]
    change_shard(tmp_path, change)
    with pytest.raises(ShardError, match=message):
        open_shards(tmp_path)
    assert any(re.search(message, problem) for problem in verify(tmp_path))


def test_shards_of_one_folder_are_all_warped_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "COMMIT_SECONDS", 0)
    commit(tmp_path, (4, 3), warps=True)
    change_shard(tmp_path, lambda file: [file.__delitem__(name) for name in WARP_COLUMNS], 1)
    with pytest.raises(ShardError, match="another size or type"):
        open_shards(tmp_path)


@pytest.mark.fault(50)
@pytest.mark.parametrize("kind", ATTRIBUTE_KINDS)
def test_attributes_that_the_format_does_not_have(kind: str, own: Path) -> None:
    change, message = ATTRIBUTE_KINDS[kind]
    change_shard(own, change)
    assert any(re.search(message, problem) for problem in verify(own))


def test_a_folder_that_was_only_written_again_is_read(own: Path) -> None:
    """What the tests of hostile shards do is not what makes them fail."""
    change_shard(own, put("label"))
    assert len(open_shards(own)) == 9
    assert verify(own) == []


@pytest.mark.fault(51)
@pytest.mark.parametrize("name", [RECEIPT, shard_name(0), "breasts.csv"])
@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "link to a device"])
def test_what_is_no_file_is_named_and_not_waited_for(name: str, kind: str, own: Path) -> None:
    (own / name).unlink()
    match kind:
        case "fifo":
            os.mkfifo(own / name)
        case "folder":
            (own / name).mkdir()
        case _:
            (own / name).symlink_to("/dev/zero" if kind == "device" else "/dev/tty")
    if name == "breasts.csv":
        assert verify(own) == [f"{own / name}: cannot be read (is not a regular file); build or download the shards again"]
        return
    with pytest.raises(ShardError, match=rf"{name}: cannot be read \(is not a regular file\)"):
        open_shards(own)
    with pytest.raises(ShardError, match=r"is not a regular file"):
        raise ShardError("; ".join(verify(own)))


@pytest.mark.fault(50)
@pytest.mark.parametrize("change", [{"image_offset": 1}, {"image_bytes": -126}], ids=str)
def test_images_that_lie_elsewhere(change: dict[str, int], own: Path) -> None:
    """Another part of the file is not served as images, and no other number of them."""
    data = json.loads((own / RECEIPT).read_text())
    entry = data["shards"][0]
    entry |= {name: entry[name] + by for name, by in change.items()}
    with open(own / shard_name(0), "rb") as file:
        entry["rest"] = sha256_outside_images(file, entry["image_offset"], entry["image_bytes"])
    (own / RECEIPT).write_text(json.dumps(data))
    with pytest.raises(ReceiptError, match=r"shard-00000\.h5: its images do not lie where the receipt lists them"):
        open_shards(own)


@pytest.mark.fault(50)
def test_heaps_that_take_long_to_check(own: Path) -> None:
    with open(own / shard_name(0), "ab") as file:
        file.write(b"GCOL\x01\0\0\0".ljust(16, b"\0") * 20)
    fit_receipt(own)
    assert any("more than 16 global heaps" in problem for problem in verify(own))


@pytest.mark.fault(50)
@pytest.mark.parametrize("size", [0, 8, 1 << 40])
def test_heap_that_hdf5_reads_for_ever(size: int, own: Path) -> None:
    """Found by fuzzing: free space of no size in the heap of the attributes' texts."""
    data = bytearray((own / shard_name(0)).read_bytes())
    at = start = data.index(b"GCOL\x01\0\0\0")
    at += 16
    while any(data[at : at + 2]):
        at += 16 + (int.from_bytes(data[at + 8 : at + 16], "little") + 7) // 8 * 8
    assert at < start + 4096
    data[at + 8 : at + 16] = size.to_bytes(8, "little")
    (own / shard_name(0)).write_bytes(data)
    fit_receipt(own)
    assert any("an object of a global heap does not lie within it" in problem for problem in verify(own))


@pytest.mark.fault(51)
def test_a_huge_receipt_is_not_read(own: Path) -> None:
    os.truncate(own / RECEIPT, 1 << 40)
    with pytest.raises(ReceiptError, match="bytes, more than"):
        open_shards(own)


@pytest.mark.fault(50, 51)
def test_a_huge_shard_is_not_held_in_memory(own: Path) -> None:
    """A file with holes, which its receipt describes: read in parts, and named."""
    data = json.loads((own / RECEIPT).read_text())
    os.truncate(own / shard_name(0), 1 << 28)
    entry_of(data, bytes=1 << 28)
    (own / RECEIPT).write_text(json.dumps(data))
    tracemalloc.start()
    with pytest.raises(ChecksumError):
        open_shards(own)
    assert tracemalloc.get_traced_memory()[1] < 1 << 24
    tracemalloc.stop()


@pytest.mark.fault(51)
def test_a_huge_table_is_not_read(own: Path) -> None:
    os.truncate(own / "breasts.csv", 1 << 40)
    assert verify(own) == [f"{own / 'breasts.csv'}: has {1 << 40} bytes; expected at most {1 << 32}. Build the shards again"]


def put_table(folder: Path, name: str, table: bytes, **changes: object) -> None:
    """Put a table into a folder, whose receipt lists it."""
    (folder / name).write_bytes(table)
    data = json.loads((folder / RECEIPT).read_text()) | changes
    data["tables"][name] = hashlib.sha256(table).hexdigest()
    (folder / RECEIPT).write_text(json.dumps(data))


@pytest.mark.parametrize(
    "table",
    [
        b"a\n1\n", b"\xff\xfe\n", b"reason\n" + b"x" * 200_000, b"reason\n\0\n",
        b"what,reason\nx\ny,z\n", b"what,reason\nx,\x1b[31mred\n",
    ],
    ids=range(6),
)  # fmt: skip
def test_table_of_rejections_that_is_none(table: bytes, own: Path) -> None:
    put_table(own, "rejected.csv", table)
    problems = verify(own)
    assert any("rejected.csv" in problem or "rejections" in problem for problem in problems)
    assert not any("\x1b" in problem for problem in problems)


def test_findings_are_those_that_the_receipt_lists(own: Path) -> None:
    """They are what readers measure by: a box that somebody moved is not used."""
    sides = ("top", "bottom", "left", "right")
    heading = ",".join(["breast_id", "view", *sides, *(f"image_{side}" for side in sides)])
    put_table(own, "findings.csv", f"{heading}\nx,CC,1,2,3,4,1,2,3,4\n".encode())
    assert [finding.box for finding in read_findings(open_shards(own))["x"]] == [(1, 2, 3, 4)]
    shards = open_shards(own)
    (own / "findings.csv").write_text(f"{heading}\nx,CC,1,2,3,4,1,2,3,5\n")
    with pytest.raises(ChecksumError, match=r"findings\.csv: its bytes differ"):
        read_findings(shards)
    put_table(own, "findings.csv", heading.encode() + b',"x"y\n')
    with pytest.raises(ShardError, match=r"findings\.csv: cannot be read"):
        read_findings(open_shards(own))


@pytest.mark.fault(50, 51)
@settings(max_examples=150, deadline=None)
@given(number=st.integers(0, 1 << 32))
def test_hostile_folders(number: int) -> None:
    """An answer or a ShardError; `python -m tests.support.fuzz_run` runs many more, each in a process that may crash."""
    with tempfile.TemporaryDirectory() as name:
        outcome(number, Path(name) / "x", crashing=False)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("[]", "the pipeline of "),
        ("fuse: 1\n", "'fuse'"),
        ("fuse: {layout: [1]}\n", "'fuse.layout'"),
        ("nothing: 1\n", "unknown key"),
        ("!!python/name:os.system\n", "could not determine a constructor"),
        ("size: [32, 32]\n", r"makes images of \(1, 32, 32\)"),
    ],
    ids=range(6),
)
def test_a_pipeline_that_is_none_or_makes_other_images_is_named(settings: str, said: str, own: Path) -> None:
    """Of a comparison, which would set one sample of 9 x 7 pixels beside another."""
    data = json.loads((own / RECEIPT).read_text()) | {"pipeline_yaml": settings}
    (own / RECEIPT).write_text(json.dumps(data))
    shards = open_shards(own)
    with pytest.raises(ParameterError, match=said):
        compare(shards, shards, noise=0.1, replicates=10)
