"""Shard folders that are damaged: receipts, shards and tables that are not as a build wrote them."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from fvpipe.errors import (
    ChecksumError,
    MissingShardError,
    ReceiptError,
    ShardError,
    SwappedShardError,
    TruncatedShardError,
)
from fvpipe.shards.format import RECEIPT, read_receipt, shard_name
from fvpipe.shards.reader import open_shards
from fvpipe.shards.verification import verify
from tests.support.shard_folder import commit, entry_of, stored


@pytest.fixture
def own(whole: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(whole, tmp_path / "own"))


RECEIPT_FAULTS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "schema version": (lambda data: data.update(schema_version=99), "schema version is 99"),
    "no schema version": (lambda data: data.pop("schema_version"), "schema version is None"),
    "fewer samples": (lambda data: data.update(samples=8), "contradict"),
    "samples of a shard": (lambda data: entry_of(data, samples=3), "contradict"),
    "labels": (lambda data: data["labels"].update(benign=0), "contradict"),
    "a shard forgotten": (lambda data: data["shards"].pop(), "contradict"),
    "a shard twice": (lambda data: data.update(shards=data["shards"][:1] * 2, samples=8), "contradict"),
    "shards out of order": (lambda data: data["shards"].reverse(), "contradict"),
    "another folder's file": (lambda data: entry_of(data, file="../shard-00000.h5"), "contradict"),
    "another index": (lambda data: entry_of(data, index=7), "contradict"),
    "a key missing": (lambda data: data.pop("license"), "missing, unknown or of the wrong type"),
    "a key of a shard missing": (lambda data: data["shards"][0].pop("rest"), "missing, unknown or of the wrong type"),
    "an unknown key": (lambda data: data.update(colour="red"), "missing, unknown or of the wrong type"),
    "no list of shards": (lambda data: data.update(shards=5), "missing, unknown or of the wrong type"),
    "no shard": (lambda data: data.update(shards=["x"]), "missing, unknown or of the wrong type"),
    "text for a number": (lambda data: entry_of(data, index="0"), "missing, unknown or of the wrong type"),
    "text for an offset": (lambda data: entry_of(data, image_offset="0"), "missing, unknown or of the wrong type"),
    "labels no mapping": (lambda data: data.update(labels=[9]), "missing, unknown or of the wrong type"),
    "a negative count": (lambda data: data["labels"].update(benign=-1, malignant=7, unlabelled=3), "contradict"),
    "a count that is none": (lambda data: data["rejections"].update(mlo_missing="1"), "contradict"),
    "an unknown label": (lambda data: data["labels"].update(other=0), "contradict"),
    "a shard without samples": (
        lambda data: (entry_of(data, samples=0), data.update(samples=5, labels={"malignant": 5, "benign": 0, "unlabelled": 0})),
        "contradict",
    ),
    "a negative offset": (lambda data: entry_of(data, image_offset=-1), "contradict"),
    "images beyond the file": (lambda data: entry_of(data, image_bytes=1 << 40), "contradict"),
    "columns of terabytes": (
        lambda data: entry_of(data, bytes=1 << 41, image_offset=0, image_bytes=1 << 40),
        "of them outside the images",
    ),
    "images of petabytes": (lambda data: entry_of(data, bytes=1 << 50, image_offset=0, image_bytes=1 << 50), "lists shards of"),
    "an index beyond the shards": (lambda data: data.update(shard_count=1), "contradict"),
    "a table elsewhere": (lambda data: data["tables"].update({"../../etc/passwd": "0"}), "contradict"),
    "a table without digest": (lambda data: data["tables"].update({"breasts.csv": 5}), "contradict"),
    "control characters": (lambda data: data.update(license="CC0\x1b[31m"), "control characters"),
    "half a character": (lambda data: data["rejections"].update({"\ud800": 1}), "control characters"),
    "a long schema version": (lambda data: data.update(schema_version="x" * 9999), r"is 'x{39};"),
    "null": (lambda data: data.update(tables=None), "missing, unknown or of the wrong type"),
}


@pytest.mark.fault(12, 51)
@pytest.mark.parametrize("fault", RECEIPT_FAULTS)
def test_receipt_that_contradicts_itself(fault: str, own: Path) -> None:
    change, message = RECEIPT_FAULTS[fault]
    data = json.loads((own / RECEIPT).read_text())
    change(data)
    (own / RECEIPT).write_text(json.dumps(data))
    for read in (open_shards, verify, read_receipt):
        with pytest.raises(ReceiptError, match=message) as error:
            read(own)
        assert str(own / RECEIPT) in str(error.value)


@pytest.mark.fault(12)
@pytest.mark.parametrize(
    "data", [b"", b"{", b"\xff\xfe\0", b"[]", b"null", b"1", b'"x"', b"[" * 100_000, b"{}", b"\0" * 4096], ids=lambda d: d[:8]
)
def test_receipt_that_is_none(data: bytes, own: Path) -> None:
    (own / RECEIPT).write_bytes(data)
    with pytest.raises(ReceiptError, match=r"not readable as JSON|schema version is"):
        open_shards(own)


@pytest.mark.fault(12)
def test_receipt_or_folder_missing(own: Path) -> None:
    (own / RECEIPT).unlink()
    with pytest.raises(ReceiptError, match="its build was interrupted"):
        open_shards(own)
    with pytest.raises(ReceiptError, match="the folder does not exist"):
        open_shards(own / "nowhere")


def flip(file: Path, byte: int, bit: int = 0) -> None:
    """Flip one bit in place."""
    with open(file, "r+b") as handle:
        handle.seek(byte)
        value = handle.read(1)[0]
        handle.seek(byte)
        handle.write(bytes([value ^ 1 << bit]))


def place(file: Path, dataset: str) -> int:
    """Where a dataset begins in the file."""
    with h5py.File(file) as opened:
        return int(opened[dataset].id.get_offset())


def exchange(first: Path, second: Path) -> None:
    first.rename(first.with_suffix(".x"))
    second.rename(first)
    first.with_suffix(".x").rename(second)


def other_pipeline(folder: Path) -> None:
    commit(folder.parent / "other", pipeline="direct")
    shutil.copy(folder.parent / "other" / shard_name(0), folder)


def other_data_set(folder: Path) -> None:
    commit(folder.parent / "other", (4, 4), dataset="elsewhere")
    shutil.copy(folder.parent / "other" / shard_name(0), folder)


def older_build(folder: Path) -> None:
    commit(folder.parent / "other", seed=9)
    shutil.copy(folder.parent / "other" / shard_name(0), folder)


SHARD_FAULTS: dict[str, tuple[Callable[[Path], Any], type[ShardError], str]] = {
    "missing": (lambda f: (f / shard_name(1)).unlink(), MissingShardError, "shard-00001.h5: the receipt lists this shard"),
    "truncated": (lambda f: os.truncate(f / shard_name(1), 3000), TruncatedShardError, "shard-00001.h5: 3000 bytes"),
    "one byte short": (
        lambda f: os.truncate(f / shard_name(0), (f / shard_name(0)).stat().st_size - 1), TruncatedShardError, "00000",
    ),
    "empty": (lambda f: os.truncate(f / shard_name(0), 0), TruncatedShardError, "shard-00000.h5: 0 bytes"),
    "longer": (lambda f: (f / shard_name(0)).open("ab").write(b"x"), TruncatedShardError, "shard-00000.h5"),
    "exchanged": (lambda f: exchange(f / shard_name(0), f / shard_name(1)), SwappedShardError, "lists as shard-00001.h5"),
    "another's copy": (lambda f: shutil.copy(f / shard_name(0), f / shard_name(1)), SwappedShardError, "shard-00000.h5"),
    "of another pipeline": (other_pipeline, SwappedShardError, "another data set or pipeline"),
    "of another data set": (other_data_set, SwappedShardError, "another data set or pipeline"),
    "of an older build": (older_build, ChecksumError, "shard-00000.h5"),
    "a label": (lambda f: flip(f / shard_name(1), place(f / shard_name(1), "label")), ChecksumError, "shard-00001.h5: labels"),
    "an id": (lambda f: flip(f / shard_name(0), place(f / shard_name(0), "breast_id")), ChecksumError, "shard-00000.h5"),
    "no HDF5": (lambda f: flip(f / shard_name(0), 1), ChecksumError, "shard-00000.h5"),
    "a folder": (lambda f: ((f / shard_name(0)).unlink(), (f / shard_name(0)).mkdir()), ShardError, "shard-00000.h5"),
}  # fmt: skip


@pytest.mark.fault(11)
@pytest.mark.parametrize("fault", SHARD_FAULTS)
def test_shard_that_is_not_as_written(fault: str, own: Path) -> None:
    """Never a shorter epoch: the folder does not open, and `verify` says why."""
    change, kind, message = SHARD_FAULTS[fault]
    change(own)
    with pytest.raises(kind, match=message):
        open_shards(own)
    assert any(message in problem for problem in verify(own))


@pytest.mark.fault(11)
def test_exchanged_shards_of_equal_size_are_told_apart(tmp_path: Path) -> None:
    commit(tmp_path, (4, 4))
    exchange(tmp_path / shard_name(0), tmp_path / shard_name(1))
    with pytest.raises(SwappedShardError, match=r"holds what the receipt lists as shard-00001\.h5"):
        open_shards(tmp_path)


@pytest.mark.fault(10)
@pytest.mark.parametrize("sample", [0, 2, 4])
def test_bit_flip_in_an_image_names_shard_and_sample(sample: int, own: Path) -> None:
    file = own / shard_name(1)
    flip(file, place(file, "image") + sample * 9 * 7 * 2 + 40, bit=6)
    shards = open_shards(own)
    ids = shards.breast_ids.tolist()
    message = rf"shard-00001.h5: sample {sample} \({ids[4 + sample]}\) is damaged"
    for read in (lambda: shards[4 + sample], lambda: shards.images([0, 4 + sample]), shards.images, lambda: list(shards)):
        for _ in range(2):  # and not only the first time
            with pytest.raises(ChecksumError, match=message):
                read()
    others = [i for i in range(9) if i != 4 + sample]
    np.testing.assert_array_equal(shards.images(others), np.concatenate([stored(4, 0), stored(5, 1)])[others])
    assert verify(own) == [f"{file}: sample {sample} ({ids[4 + sample]}) is damaged"]


@pytest.mark.fault(10)
def test_bit_flip_anywhere_else_is_found_before_hdf5_sees_it(own: Path) -> None:
    """One flipped bit of its structure can make the HDF5 library crash, or swap the bytes of every pixel."""
    file = own / shard_name(0)
    start = place(file, "image")
    outside = [i for i in range(file.stat().st_size) if not start <= i < start + 4 * 9 * 7 * 2]
    rng = random.Random(0)
    for byte in rng.sample(outside, 300):
        bit = rng.randrange(8)
        flip(file, byte, bit)
        assert verify(own), (byte, bit)
        flip(file, byte, bit)
    assert verify(own) == []


@pytest.mark.fault(10)
def test_damage_done_while_open_is_not_served(own: Path) -> None:
    shards = open_shards(own)
    flip(own / shard_name(0), place(own / shard_name(0), "image"))
    with pytest.raises(ChecksumError, match=r"sample 0 \(P00_L\)"):
        shards.images()


@pytest.mark.fault(12)
def test_samples_that_no_shard_has(own: Path) -> None:
    """A receipt whose counts agree with each other and not with the shard."""
    data = json.loads((own / RECEIPT).read_text())
    entry_of(data, samples=5)
    data["samples"], data["labels"]["benign"] = 10, data["labels"]["benign"] + 1
    (own / RECEIPT).write_text(json.dumps(data))
    with pytest.raises(ReceiptError, match=r"shard-00000\.h5: 4 samples, the receipt lists 5"):
        open_shards(own)


@pytest.mark.fault(48)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / shard_name(7)).write_bytes(b"x"), "shard-00007.h5: a shard that the receipt does not list"),
        (
            lambda f: (f / "breasts.csv").unlink(),
            "breasts.csv: the receipt lists this table and it is not there; build the shards again",
        ),
        (
            lambda f: (f / "breasts.csv").write_bytes(b"breast_Id\n"),
            "breasts.csv: its bytes differ from what was written; build the shards again",
        ),
    ],
)
def test_verify_finds_what_a_reader_need_not_see(change: Callable[[Path], Any], message: str, own: Path) -> None:
    change(own)
    assert verify(own) == [f"{own}/{message}"]
    assert len(open_shards(own)) == 9


def labels_exchanged(data: dict[str, Any]) -> None:
    labels = data["labels"]
    labels["malignant"], labels["benign"] = labels["malignant"] + 1, labels["benign"] - 1


@pytest.mark.fault(47)
@pytest.mark.parametrize(
    ("change", "what"),
    [
        (labels_exchanged, "lists among the labels "),
        (lambda data: data["flags"].update(implant=1), "lists among the flags 1 implant; the files hold 0"),
        (lambda data: entry_of(data, flags={"implant": 1}), "lists among the flags of shard-00000.h5 1 implant"),
        (lambda data: data["rejections"].update(cc_missing=2), "lists among the rejections 2 cc_missing; the files hold 1"),
        (lambda data: data.update(license="MIT"), "license differs from that of shard-00000.h5"),
        (lambda data: data.update(pipeline_yaml="voi: lut\n"), "pipeline_yaml differs from that of shard-00000.h5"),
    ],
)
def test_verify_compares_the_receipt_with_the_files(change: Callable[[dict[str, Any]], Any], what: str, own: Path) -> None:
    data, table = json.loads((own / RECEIPT).read_text()), b"what,reason,detail\nx,cc_missing,none\n"
    (own / "rejected.csv").write_bytes(table)
    data["tables"]["rejected.csv"], data["rejections"] = hashlib.sha256(table).hexdigest(), {"cc_missing": 1}
    (own / RECEIPT).write_text(json.dumps(data))
    assert verify(own) == []
    change(data)
    (own / RECEIPT).write_text(json.dumps(data))
    assert verify(own)[0].startswith(f"{own / RECEIPT}: {what}")


def test_verify_names_every_problem(own: Path) -> None:
    for sample in (0, 3):
        flip(own / shard_name(0), place(own / shard_name(0), "image") + sample * 9 * 7 * 2)
    (own / shard_name(1)).unlink()
    assert [problem.partition(": ")[2][:8] for problem in verify(own)] == ["sample 0", "sample 3", "the rece"]


@pytest.mark.fault(4)
def test_full_disk_leaves_no_file_and_no_crash(tmp_path: Path) -> None:
    """Whichever byte does not fit. In a child, since the limit holds for the whole process and HDF5 may end it."""
    script = f"""
import errno, resource
from pathlib import Path
from fvpipe.errors import StorageError
from fvpipe.shards.writer import _DeferredErrorFile
from fvpipe.shards.writer import write_shard
from tests.support.shard_folder import fused, rows
file = Path({str(tmp_path / "x.h5")!r})
def write():
    return write_shard(file, rows(3), map(fused, range(3)), {{"shard_index": 0, "pipeline_yaml": "x" * 200}}, "c")
size, hard = write().bytes, resource.getrlimit(resource.RLIMIT_FSIZE)[1]
for limit in [*range(0, size, 499), size - 1]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        print(limit, write())
    except StorageError as error:
        assert str(error).startswith(f"{{file}}: cannot be written (File too large)"), error
        assert not file.exists()
resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
assert write().bytes == size
with _DeferredErrorFile(file, "w+") as target:  # the system writes what fits, and says how much: that is not a success
    assert target.write(bytes(size + 1)) == size + 1
    try:
        print(target.check())
    except OSError as error:
        assert error.errno == errno.EFBIG
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[2])
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
