"""Shards: what is written, how it is read back, and every way in which a shard folder can be broken."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import pickle
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fvpipe
from fvpipe.errors import (
    ChecksumError,
    MissingShardError,
    ReceiptError,
    ShardError,
    StorageError,
    SwappedShardError,
    TruncatedShardError,
)
from fvpipe.printable import CONTROL
from fvpipe.reasons import NO_FLAG, Flag
from fvpipe.shards import reader
from fvpipe.shards.format import RECEIPT, flag_names, read_receipt, sha256_outside_images, shard_index, shard_name
from fvpipe.shards.reader import Sample, open_shards
from fvpipe.shards.verification import verify
from fvpipe.shards.writer import ShardRow, write_shard
from fvpipe.types import LABEL_NAMES, SCALES, Laterality, View
from tests.support.hostile_shards import ATTRIBUTE_KINDS, KINDS, change_shard, fit_receipt, outcome, put
from tests.support.shard_folder import attributes, commit, fused, rows

DTYPES = ("uint16", "uint8", "float32")
TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)


def stored(count: int, shard: int, **how: Any) -> np.ndarray:
    """What `commit` wrote into a shard, as a reader should see it."""
    images = [fused(how.get("seed", 0) + 1000 * shard + j).image for j in range(count)]
    return np.array([image * np.float32(SCALES["uint16"]) for image in images])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound folder that no test changes: shards of 4 and 5 samples."""
    folder = tmp_path_factory.mktemp("shards") / "whole"
    commit(folder)
    return folder


@pytest.fixture
def own(whole: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(whole, tmp_path / "own"))


# --- round trip -------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_round_trip(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 5))
    side = st.integers(1, 9)
    shape = data.draw(st.tuples(side, side) | st.tuples(st.just(2), side, side))
    dtype = data.draw(st.sampled_from(DTYPES))
    flags = [Flag(data.draw(st.integers(0, sum(Flag)))) for _ in range(count)]
    members = [
        ShardRow(data.draw(TEXT), data.draw(TEXT), data.draw(st.sampled_from(Laterality)), data.draw(st.integers(-1, 1)))
        for _ in range(count)
    ]
    samples = [fused(i, shape, dtype, flags[i]) for i in range(count)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        entry = write_shard(folder / shard_name(3), members, iter(samples), {**attributes(), "shard_index": 3}, "c")
        labels = {name: [row.label for row in members].count(label) for label, name in LABEL_NAMES.items()}
        receipt = replace(commit(folder, ()), shards=(entry,), samples=count, labels=labels, flags=entry.flags)
        (folder / RECEIPT).write_text(receipt.to_json())
        shards = open_shards(folder)
        assert len(shards) == len(list(shards)) == count
        assert shards.image_shape == shape
        for i, (sample, row, fusion) in enumerate(zip(shards, members, samples, strict=True)):
            assert sample.image.dtype == np.float32
            assert sample.image.min() >= 0
            assert sample.image.max() <= 1
            np.testing.assert_array_equal(sample.image, fusion.image * np.float32(SCALES[dtype]))
            assert (sample.breast_id, sample.patient_id) == (row.breast_id, row.patient_id)
            assert (sample.laterality, sample.label, sample.flags) == (row.laterality, row.label, fusion.flags)
            np.testing.assert_array_equal(sample.crop_box, fusion.boxes)
            for field in ("source_shape", "placement", "intensity_range"):
                np.testing.assert_array_equal(getattr(sample, field), getattr(fusion, field))
            assert [d.decode() for d in shards.columns["source_digest"][i]] == list(fusion.source_digests)
            assert [d.decode() for d in shards.columns["pixel_digest"][i]] == list(fusion.pixel_digests)
        assert entry.flags == {
            name: carrying for name, bit in flag_names().items() if (carrying := sum(bool(f & bit) for f in flags))
        }
        assert verify(folder) == []


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_whole_range_reads_as_zero_to_one(dtype: str, tmp_path: Path) -> None:
    commit(tmp_path, (1,), dtype=dtype)
    image = open_shards(tmp_path)[0].image
    assert (image.min(), image.max()) == (0, 1)


def test_same_bytes_every_time(tmp_path: Path) -> None:
    first, second = commit(tmp_path / "a"), commit(tmp_path / "b")
    assert first == second
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name


@pytest.mark.parametrize(("wanted", "given_"), [(3, 2), (2, 3), (1, 0)])
def test_as_many_samples_as_rows(wanted: int, given_: int, tmp_path: Path) -> None:
    """A sample too few would be served as a black image."""
    with pytest.raises(ValueError, match="zip"):
        write_shard(tmp_path / "x.h5", rows(wanted), map(fused, range(given_)), {"shard_index": 0}, "c")


def test_identifiers_that_are_no_unicode_are_written_all_the_same(tmp_path: Path) -> None:
    row = ShardRow("P\udcff_L", "P\udcff", Laterality.LEFT, 0)
    write_shard(tmp_path / "x.h5", [row], [fused()], {"shard_index": 0}, "c")
    with h5py.File(tmp_path / "x.h5") as file:
        assert file["breast_id"].asstr()[0] == "P?_L"


def test_a_patient_stays_in_its_shard() -> None:
    """Pinned: another digest would move patients between shards, and with them every byte."""
    assert [shard_index(name, 16) for name in ("P1", "P2", "D1-0001", "Ünï")] == [2, 5, 7, 1]
    assert {shard_index(f"P{i}", 16) for i in range(500)} == set(range(16))


# --- what others rely on ----------------------------------------------------------------------------------------------


def test_millimeters_of_a_pixel_of_the_image(tmp_path: Path) -> None:
    """From the spacing of the source, the crop and its place; a mirrored crop has the same, an absent view or spacing none."""
    sample = replace(
        fused(),
        boxes=np.array([[0, 800, 100, 500], [0, 900, 0, 300]], np.int32),
        placement=np.array([[0, 8, 4, 0], [-1, -1, -1, -1]], np.float32),
    )
    made = [
        ShardRow("P_L", "P", Laterality.LEFT, 0, spacing=spacing)
        for spacing in (((0.1, 0.05), (0.1, 0.1)), ((None, None),) * 2)
    ]
    write_shard(tmp_path / "s.h5", made, [sample, sample], {**attributes(), "shard_index": 0}, "")
    with h5py.File(tmp_path / "s.h5") as file:
        first, second = file["mm_per_pixel"][:]
    assert first[0].tolist() == pytest.approx([0.1 * 800 / 8, 0.05 * 400 / 4])
    assert np.isnan(first[1]).all()
    assert np.isnan(second).all()


def test_plain_hdf5(whole: Path) -> None:
    """Any HDF5 reader can use a shard, without fvpipe."""
    shapes = {
        "image": (9, 7), "label": (), "breast_id": (), "patient_id": (), "laterality": (), "crop_box": (2, 4),
        "source_shape": (2, 2), "placement": (2, 4), "intensity_range": (2,), "source_digest": (2,), "pixel_digest": (2,),
        "breast_area": (2,), "breast_mean": (2,), "mm_per_pixel": (2, 2), "flags": (), "image_crc32": (),
    }  # fmt: skip
    types = {
        "image": "<u2", "label": "|i1", "crop_box": "<i4", "source_shape": "<i4", "placement": "<f4",
        "intensity_range": "<f4", "breast_area": "<f4", "breast_mean": "<f4", "mm_per_pixel": "<f4", "flags": "<u4",
        "image_crc32": "<u4",
    }  # fmt: skip
    with h5py.File(whole / shard_name(1)) as file:
        assert {name: dataset.shape for name, dataset in file.items()} == {n: (5, *shape) for n, shape in shapes.items()}
        assert {name: file[name].dtype.str for name in types} == types
        for name, dataset in file.items():
            assert dataset.chunks is None, name
            assert dataset.id.get_offset() is not None, name
        texts = {"breast_id", "patient_id", "laterality", "source_digest", "pixel_digest"}
        assert {h5py.check_string_dtype(file[name].dtype).encoding for name in texts} == {"utf-8"}
        assert file["image"].attrs["scale"] == 1 / 65535
        assert file["breast_id"].asstr()[:2].tolist() == ["P10_L", "P11_R"]
        root = dict(file.attrs)
        assert json.loads(root.pop("flag_names")) == flag_names()
        assert root == {**attributes(), "shard_index": 1}


def test_reading(whole: Path) -> None:
    expected = np.concatenate([stored(4, 0), stored(5, 1)])
    shards = fvpipe.open_shards(str(whole))
    assert len(shards) == 9
    assert shards[0].image.dtype == np.float32
    assert shards.labels.tolist() == [1, 0, -1, 1, 1, 0, -1, 1, 0]
    assert shards.patient_ids[4] == "P10"
    np.testing.assert_array_equal(shards.images(), expected)
    np.testing.assert_array_equal(shards[-1].image, expected[8])
    np.testing.assert_array_equal(shards[np.int64(5)].image, expected[5])
    assert "9 samples of (9, 7) in 2 files" in repr(shards)


INDICES: list[tuple[Any, list[int]]] = [
    ([0], [0]),
    ([8, 0, 4], [8, 0, 4]),
    ([-1, -9], [8, 0]),
    ([3, 3, 3, 5], [3, 3, 3, 5]),
    ([], []),
    (3, [3]),
    (range(3, 6), [3, 4, 5]),
    (np.array([1, 2], np.uint8), [1, 2]),
    (np.array([[1, 2], [3, 4]]), [1, 2, 3, 4]),
    (slice(2, 7), [2, 3, 4, 5, 6]),
    (slice(None, None, -4), [8, 4, 0]),
    (slice(5, 5), []),
    ([True, *[False] * 7, True], [0, 8]),  # a mask is a mask, and not samples 1 and 0
    (np.zeros(9, bool), []),
]


@pytest.mark.parametrize(("indices", "which"), INDICES, ids=lambda value: str(value).replace("\n", ""))
def test_several_images_in_the_order_asked(indices: Any, which: list[int], whole: Path) -> None:
    expected = np.concatenate([stored(4, 0), stored(5, 1)])
    found = open_shards(whole).images(indices)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected[np.array(which, int)])


@pytest.mark.parametrize("indices", [[9], [-10], [0, 100], [0.5], ["0"], [True]], ids=repr)
def test_indices_that_name_no_sample(indices: Any, whole: Path) -> None:
    with pytest.raises(IndexError):
        open_shards(whole).images(indices)


@pytest.mark.parametrize(("index", "error"), [(9, IndexError), (-10, IndexError), (slice(2), TypeError), ([0], TypeError)])
def test_one_sample_is_asked_for_by_one_number(index: Any, error: type[Exception], whole: Path) -> None:
    with pytest.raises(error):
        open_shards(whole)[index]


def test_no_sample_at_all(tmp_path: Path) -> None:
    commit(tmp_path, ())
    shards = open_shards(tmp_path)
    assert (len(shards), len(shards.images()), shards.labels.dtype, list(shards)) == (0, 0, np.int8, [])
    assert verify(tmp_path) == []


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_points_map_both_ways(data: st.DataObject) -> None:
    number = st.integers(0, 3000)
    boxes, placement = np.zeros((2, 4), np.int32), np.zeros((2, 4), np.float32)
    for i in range(2):
        top, left = data.draw(number), data.draw(number)
        boxes[i] = top, top + data.draw(st.integers(16, 3000)), left, left + data.draw(st.integers(16, 3000))
        placement[i] = 0, data.draw(st.integers(8, 512)), *data.draw(st.permutations([0, data.draw(st.integers(8, 512))]))
    view = data.draw(st.sampled_from(View))
    sample = Sample(
        np.zeros((8, 8), np.float32), 0, "", "", Laterality.LEFT, boxes, boxes[:, :2], placement, placement[:, 0], NO_FLAG
    )
    i = (View.CC, View.MLO).index(view)
    top, bottom, left, right = boxes[i].tolist()
    # The corners of the crop are the corners of its place, mirrored or not.
    assert sample.to_image(view, top, left) == pytest.approx((placement[i][0], placement[i][2]))
    assert sample.to_image(view, bottom, right) == pytest.approx((placement[i][1], placement[i][3]))
    point = data.draw(st.floats(top, bottom)), data.draw(st.floats(left, right))
    assert sample.to_source(view, *sample.to_image(view, *point)) == pytest.approx(point, abs=1e-6)


def test_a_view_that_is_not_in_the_image_has_no_points() -> None:
    place = np.array([[0, 8, 0, 8], [-1, -1, -1, -1]], np.float32)
    box = np.array([[0, 16, 0, 16]] * 2, np.int32)
    sample = Sample(np.zeros((8, 8), np.float32), 0, "", "", Laterality.LEFT, box, box[:, :2], place, place[:, 0], NO_FLAG)
    assert sample.to_image(View.CC, 16, 16) == (8, 8)
    for mapped in (sample.to_image, sample.to_source):
        with pytest.raises(ValueError, match="MLO is not in this image"):
            mapped(View.MLO, 0, 0)


# --- processes and threads --------------------------------------------------------------------------------------------


def total(shards: Any, indices: Any = slice(None)) -> float:
    """Runs in other processes."""
    return float(shards.images(indices).sum(dtype=np.float64))


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_other_processes_read_the_same(method: str, whole: Path) -> None:
    shards = open_shards(whole)
    with ProcessPoolExecutor(2, multiprocessing.get_context(method)) as pool:
        assert list(pool.map(total, [shards] * 4)) == [total(shards)] * 4


def test_a_forked_process_inherits_the_maps(whole: Path) -> None:
    """As a DataLoader's workers do: nothing is pickled and nothing opened again."""
    shards = open_shards(whole)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, repr(total(shards)).encode())
        os._exit(0)
    os.close(write)
    with open(read) as answer:
        assert float(answer.read()) == total(shards)
    assert os.waitpid(child, 0)[1] == 0


def test_threads_read_the_same(whole: Path) -> None:
    expected = np.concatenate([stored(4, 0), stored(5, 1)])
    shards = open_shards(whole)
    orders = [random.Random(i).choices(range(9), k=50) for i in range(40)]
    with ThreadPoolExecutor(8) as pool:
        for order, found in zip(orders, pool.map(shards.images, orders), strict=True):
            np.testing.assert_array_equal(found, expected[order])


def test_a_pickle_is_small_and_belongs_to_one_version(own: Path) -> None:
    shards = open_shards(own)
    packed = pickle.dumps(shards)
    assert len(packed) < 5000
    assert total(pickle.loads(packed)) == total(shards)
    commit(own, seed=7)
    with pytest.raises(ShardError, match="built again since it was opened"):
        pickle.loads(packed)


def test_reading_needs_numpy_and_h5py_alone(whole: Path) -> None:
    script = (
        "import sys, fvpipe.shards, fvpipe\n"
        f"fvpipe.shards.open_shards({str(whole)!r}).images(); fvpipe.verify({str(whole)!r})\n"
        "heavy = {'blake3', 'pydantic', 'yaml', 'pydicom', 'cv2', 'dask', 'distributed', 'click', 'torch', 'SimpleITK'}\n"
        "assert {'numpy', 'h5py'} <= set(sys.modules)\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]"


# --- a build meanwhile ------------------------------------------------------------------------------------------------


def test_an_open_reader_keeps_its_version(own: Path) -> None:
    shards = open_shards(own)
    first = shards.images([0])  # the others are read for the first time after the build
    before = np.concatenate([stored(4, 0), stored(5, 1)])
    commit(own, (2,), seed=50)
    (own / shard_name(1)).unlink()
    np.testing.assert_array_equal(first[0], before[0])
    np.testing.assert_array_equal(shards.images(), before)
    assert len(open_shards(own)) == 2


def test_a_reader_that_comes_during_the_commit_waits_for_the_receipt(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    receipt = commit(own, seed=50, receipt=False)  # new shards are in place, the receipt is still the old one
    waits = iter([lambda: None, lambda: (own / RECEIPT).write_text(receipt.to_json())][1:])
    monkeypatch.setattr(time, "sleep", lambda _: next(waits)())
    np.testing.assert_array_equal(open_shards(own).images([0])[0], stored(4, 0, seed=50)[0])


def test_new_shards_with_the_old_receipt_are_no_version(own: Path) -> None:
    commit(own, seed=50, receipt=False)
    with pytest.raises(ChecksumError):
        open_shards(own)
    assert len(verify(own)) == 2


# --- faults: the receipt ----------------------------------------------------------------------------------------------


def entry_of(data: dict[str, Any], **changes: Any) -> None:
    data["shards"][0] |= changes


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
    "an index beyond the shards": (lambda data: data.update(shard_count=1), "contradict"),
    "a table elsewhere": (lambda data: data["tables"].update({"../../etc/passwd": "0"}), "contradict"),
    "a table without digest": (lambda data: data["tables"].update({"breasts.csv": 5}), "contradict"),
    "control characters": (lambda data: data.update(license="CC0\x1b[31m"), "control characters"),
    "half a character": (lambda data: data["rejections"].update({"\ud800": 1}), "control characters"),
    "a long schema version": (lambda data: data.update(schema_version="x" * 9999), r"is 'x{39};"),
    "null": (lambda data: data.update(tables=None), "missing, unknown or of the wrong type"),
}


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


@pytest.mark.parametrize(
    "data", [b"", b"{", b"\xff\xfe\0", b"[]", b"null", b"1", b'"x"', b"[" * 100_000, b"{}", b"\0" * 4096], ids=lambda d: d[:8]
)
def test_receipt_that_is_none(data: bytes, own: Path) -> None:
    (own / RECEIPT).write_bytes(data)
    with pytest.raises(ReceiptError, match=r"not readable as JSON|schema version is"):
        open_shards(own)


def test_receipt_or_folder_missing(own: Path) -> None:
    (own / RECEIPT).unlink()
    with pytest.raises(ReceiptError, match="its build was interrupted"):
        open_shards(own)
    with pytest.raises(ReceiptError, match="the folder does not exist"):
        open_shards(own / "nowhere")


# --- faults: the shards -----------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("fault", SHARD_FAULTS)
def test_shard_that_is_not_as_written(fault: str, own: Path) -> None:
    """Never a shorter epoch: the folder does not open, and `verify` says why."""
    change, kind, message = SHARD_FAULTS[fault]
    change(own)
    with pytest.raises(kind, match=message):
        open_shards(own)
    assert any(message in problem for problem in verify(own))


def test_exchanged_shards_of_equal_size_are_told_apart(tmp_path: Path) -> None:
    commit(tmp_path, (4, 4))
    exchange(tmp_path / shard_name(0), tmp_path / shard_name(1))
    with pytest.raises(SwappedShardError, match=r"holds what the receipt lists as shard-00001\.h5"):
        open_shards(tmp_path)


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


def test_damage_done_while_open_is_not_served(own: Path) -> None:
    shards = open_shards(own)
    flip(own / shard_name(0), place(own / shard_name(0), "image"))
    with pytest.raises(ChecksumError, match=r"sample 0 \(P00_L\)"):
        shards.images()


def test_samples_that_no_shard_has(own: Path) -> None:
    """A receipt whose counts agree with each other and not with the shard."""
    data = json.loads((own / RECEIPT).read_text())
    entry_of(data, samples=5)
    data["samples"], data["labels"]["benign"] = 10, data["labels"]["benign"] + 1
    (own / RECEIPT).write_text(json.dumps(data))
    with pytest.raises(ReceiptError, match=r"shard-00000\.h5: 4 samples, the receipt lists 5"):
        open_shards(own)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / shard_name(7)).write_bytes(b"x"), "shard-00007.h5: a shard that the receipt does not list"),
        (lambda f: (f / "breasts.csv").unlink(), "breasts.csv: the receipt lists this table and it is not there"),
        (lambda f: (f / "breasts.csv").write_bytes(b"breast_Id\n"), "breasts.csv: its bytes differ from what was written"),
    ],
)
def test_verify_finds_what_a_reader_need_not_see(change: Callable[[Path], Any], message: str, own: Path) -> None:
    change(own)
    assert verify(own) == [f"{own}/{message}"]
    assert len(open_shards(own)) == 9


def labels_exchanged(data: dict[str, Any]) -> None:
    labels = data["labels"]
    labels["malignant"], labels["benign"] = labels["malignant"] + 1, labels["benign"] - 1


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


# --- a full disk ------------------------------------------------------------------------------------------------------


def test_full_disk_leaves_no_file_and_no_crash(tmp_path: Path) -> None:
    """Whichever byte does not fit. In a child, since the limit holds for the whole process and HDF5 may end it."""
    script = f"""
import errno, resource
from pathlib import Path
from fvpipe.errors import StorageError
from fvpipe.shards.writer import _DeferredErrorFile
from tests.test_shards import fused, rows, write_shard
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
with _DeferredErrorFile(file, "w+") as target:  # the system writes what fits, and says how much: that is no success
    assert target.write(bytes(size + 1)) == size + 1
    try:
        print(target.check())
    except OSError as error:
        assert error.errno == errno.EFBIG
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[1])
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_folder_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be written") as error:
        write_shard(tmp_path / "nowhere" / "x.h5", rows(1), [fused()], {"shard_index": 0}, "c")
    assert "\n" not in str(error.value)


# --- faults: made by somebody else, with a receipt that fits ----------------------------------------------------------


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
        assert verify(own) == [f"{own / name}: the receipt lists this table and it is not there"]
        return
    with pytest.raises(ShardError, match=rf"{name}: cannot be read \(is no regular file\)"):
        open_shards(own)
    with pytest.raises(ShardError, match=r"is no regular file"):
        raise ShardError("; ".join(verify(own)))


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


def test_heaps_that_take_long_to_check(own: Path) -> None:
    with open(own / shard_name(0), "ab") as file:
        file.write(b"GCOL\x01\0\0\0".ljust(16, b"\0") * 20)
    fit_receipt(own)
    assert any("more than 16 global heaps" in problem for problem in verify(own))


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


def test_a_huge_receipt_is_not_read(own: Path) -> None:
    os.truncate(own / RECEIPT, 1 << 40)
    with pytest.raises(ReceiptError, match="bytes, more than"):
        open_shards(own)


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


@pytest.mark.parametrize("table", [b"a\n1\n", b"\xff\xfe\n", b"reason\n" + b"x" * 200_000, b"reason\n\0\n"], ids=range(4))
def test_table_of_rejections_that_is_none(table: bytes, own: Path) -> None:
    (own / "rejected.csv").write_bytes(table)
    data = json.loads((own / RECEIPT).read_text())
    data["tables"]["rejected.csv"] = hashlib.sha256(table).hexdigest()
    (own / RECEIPT).write_text(json.dumps(data))
    assert any("rejected.csv" in problem or "rejections" in problem for problem in verify(own))


@settings(max_examples=150, deadline=None)
@given(number=st.integers(0, 1 << 32))
def test_hostile_folders(number: int) -> None:
    """An answer or a ShardError; `python -m tests.support.fuzz_run` runs many more, each in a process that may crash."""
    with tempfile.TemporaryDirectory() as name:
        outcome(number, Path(name) / "x", crashing=False)


# --- torch ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_data_loader(workers: int, whole: Path) -> None:
    torch = pytest.importorskip("torch")
    shards = open_shards(whole)
    data = fvpipe.torch.ShardDataset(shards)
    labelled = np.flatnonzero(shards.labels >= 0)
    assert len(data) == len(labelled) == 7  # -1 is no class
    batches = list(torch.utils.data.DataLoader(data, batch_size=3, num_workers=workers))
    images, labels = (torch.cat(part) for part in zip(*batches, strict=True))
    assert images.dtype == torch.float32
    assert images.shape == (7, 1, 9, 7)
    np.testing.assert_array_equal(images[:, 0].numpy(), shards.images(labelled))
    assert labels.tolist() == shards.labels[labelled].tolist()


def test_data_set_of_chosen_samples(whole: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    shards = open_shards(whole)
    for chosen in ([5, 2, -1], np.array([5, 2, 8])):
        data = fvpipe.torch.ShardDataset(shards, chosen, transform=lambda image: 1 - image)
        image, label = data[1]
        assert (len(data), label) == (3, -1)
        np.testing.assert_array_equal(image[0].numpy(), 1 - shards[2].image)
        assert [label for _, label in data] == shards.labels[[5, 2, 8]].tolist()
    malignant = fvpipe.torch.ShardDataset(shards, shards.labels == 1)
    assert malignant.indices.tolist() == [0, 3, 4, 7]
    assert len(fvpipe.torch.ShardDataset(shards, [])) == 0
    with pytest.raises(IndexError):
        fvpipe.torch.ShardDataset(shards, [9])
    commit(tmp_path, (2,), shape=(2, 9, 7))  # two channels stay two channels
    image, _ = fvpipe.torch.ShardDataset(open_shards(tmp_path))[0]
    assert image.shape == torch.Size([2, 9, 7])


def test_data_set_of_several_folders(whole: Path, tmp_path: Path) -> None:
    """In any order, also across an empty folder; a batch is one gather a folder."""
    torch = pytest.importorskip("torch")
    commit(tmp_path / "empty", ())
    commit(tmp_path / "small", (2,))
    folders = [open_shards(folder) for folder in (whole, tmp_path / "empty", tmp_path / "small")]
    data = fvpipe.torch.ShardDataset(folders, range(11))
    expected = np.concatenate([folder.images() for folder in (folders[0], folders[2])])
    for order in ([10, 0, 9, 3], [2, 1], [9], []):
        np.testing.assert_array_equal(data.images(order)[:, 0].numpy(), expected[order])
    labels = [label for _, label in torch.utils.data.Subset(data, [10, 0])]
    assert labels == [folders[2].labels[1], folders[0].labels[0]]
    assert len(fvpipe.torch.ShardDataset(folders)) == sum(int((folder.labels >= 0).sum()) for folder in folders)


def test_data_loader_of_spawned_workers(whole: Path) -> None:
    torch = pytest.importorskip("torch")
    data = fvpipe.torch.ShardDataset(open_shards(whole), range(9))
    loader = torch.utils.data.DataLoader(data, batch_size=9, num_workers=1, multiprocessing_context="spawn")
    (images, _), *rest = loader
    assert not rest
    np.testing.assert_array_equal(images[:, 0].numpy(), np.concatenate([stored(4, 0), stored(5, 1)]))
