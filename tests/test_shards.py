"""Shards: what is written, how it is read back, and every way in which a shard folder can be broken."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import random
import shutil
import subprocess
import sys
import tempfile
import time
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
    ParameterError,
    ShardError,
    StorageError,
)
from fvpipe.reasons import NO_FLAG, Flag
from fvpipe.shards.format import RECEIPT, flag_names, shard_index, shard_name
from fvpipe.shards.reader import Sample, open_shards
from fvpipe.shards.verification import verify
from fvpipe.shards.writer import ShardRow, write_shard
from fvpipe.types import LABEL_NAMES, SCALES, Laterality, View
from tests.support.shard_folder import attributes, commit, fused, rows, stored

DTYPES = ("uint16", "uint8", "float32")
TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)


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


@pytest.mark.fault(42)
def test_an_open_reader_keeps_its_version(own: Path) -> None:
    shards = open_shards(own)
    first = shards.images([0])  # the others are read for the first time after the build
    before = np.concatenate([stored(4, 0), stored(5, 1)])
    commit(own, (2,), seed=50)
    (own / shard_name(1)).unlink()
    np.testing.assert_array_equal(first[0], before[0])
    np.testing.assert_array_equal(shards.images(), before)
    assert len(open_shards(own)) == 2


@pytest.mark.fault(42)
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


# --- a folder ---------------------------------------------------------------------------------------------------------


def test_a_folder_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be written") as error:
        write_shard(tmp_path / "nowhere" / "x.h5", rows(1), [fused()], {"shard_index": 0}, "c")
    assert "\n" not in str(error.value)


# --- torch ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_data_loader(workers: int, whole: Path) -> None:
    torch = pytest.importorskip("torch")
    shards = open_shards(whole)
    data = fvpipe.torch.ShardDataset(shards)
    labelled = np.flatnonzero(shards.labels >= 0)
    assert len(data) == len(labelled) == 7  # -1 is not a class
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


def test_positions_of_a_data_set_are_whole_numbers_or_a_mask(whole: Path) -> None:
    pytest.importorskip("torch")
    shards = open_shards(whole)
    data = fvpipe.torch.ShardDataset(shards, [[5, 2], [8, 0]])
    assert (data.indices.tolist(), data.labels.shape) == ([5, 2, 8, 0], (4,))
    wanted = np.array([False, True, False, True])
    for positions in (wanted, wanted.tolist(), [1, 3], np.array([[1], [3]])):
        np.testing.assert_array_equal(data.images(positions)[:, 0].numpy(), shards.images([2, 0]))
    for wrong in ([1.7], [True], ["1"], [4], slice(0, 2)):
        with pytest.raises(IndexError):
            data.images(wrong)
    for one in (1.0, True, "1", None, slice(0, 2), [1, 2]):
        with pytest.raises(TypeError, match="expected one integer"):
            data[one]


def test_folders_of_a_data_set_are_open_and_of_one_pipeline(whole: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    shards = open_shards(whole)
    for folders, got in (([], "none"), (str(whole), "str"), ([shards, whole], "Path")):
        with pytest.raises(ParameterError, match=rf"opened, got \w*{got}"):
            fvpipe.torch.ShardDataset(folders)
    commit(tmp_path, (2,), pipeline="direct")
    with pytest.raises(ParameterError, match=r"different pipelines .*\(cropped .* direct "):
        fvpipe.torch.ShardDataset([shards, open_shards(tmp_path)])


def test_data_set_of_several_folders(whole: Path, tmp_path: Path) -> None:
    """In any order, also across an empty folder; a batch is one gather a folder."""
    torch = pytest.importorskip("torch")
    commit(tmp_path / "empty", ())
    commit(tmp_path / "small", (2,))
    folders = [open_shards(folder) for folder in (whole, tmp_path / "empty", tmp_path / "small")]
    assert folders[1].columns.keys() == folders[0].columns.keys()
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
