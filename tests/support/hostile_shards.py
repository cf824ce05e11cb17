"""Shard folders that somebody else made: valid HDF5 that the format does not have, with a receipt that fits it.

`fault(number)` names and makes one of many thousand: faults of the structure of HDF5, of the receipt, of values, and single
bytes. `tests.support.fuzz_run` runs them.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import random
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from fvpipe.errors import ShardError
from fvpipe.shards import reader
from fvpipe.shards.format import RECEIPT, sha256_outside_images, shard_name
from fvpipe.shards.verification import verify
from tests.support.shard_folder import commit

Change = Callable[[h5py.File], Any]


def fit_receipt(folder: Path, index: int = 0) -> None:
    """Make the receipt that of the shard as it is now, images too."""
    data, file = json.loads((folder / RECEIPT).read_text()), folder / shard_name(index)
    entry = data["shards"][index]
    with suppress(Exception), h5py.File(file) as opened:
        image = opened["image"]
        if image.id.get_offset() is not None:
            entry["image_offset"], entry["image_bytes"] = image.id.get_offset(), image.nbytes
    entry["bytes"], entry["sha256"] = file.stat().st_size, hashlib.sha256(file.read_bytes()).hexdigest()
    with open(file, "rb") as raw:
        entry["rest"] = sha256_outside_images(raw, entry["image_offset"], entry["image_bytes"])
    (folder / RECEIPT).write_text(json.dumps(data))


def change_shard(folder: Path, change: Change, index: int = 0) -> None:
    """Change a shard with h5py, and fit the receipt."""
    with h5py.File(folder / shard_name(index), "r+") as file:
        change(file)
    fit_receipt(folder, index)


def put(name: str, data: Any = None, **how: Any) -> Change:
    """Replace a dataset, with the same data where none are given."""

    def change(file: h5py.File) -> None:
        stored, kind = file[name][()], file[name].dtype
        del file[name]
        new = stored if data is None else data(stored) if callable(data) else data
        how.setdefault("dtype", kind if np.asarray(new).dtype == stored.dtype else None)
        file.create_dataset(name, data=new, **how)

    return change


def link(name: str, to: Any) -> Change:
    """Replace a dataset by a link."""

    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = to(file) if callable(to) else to

    return change


def empty(name: str, shape: Any, kind: Any, **how: Any) -> Change:
    """Replace a dataset by one without data."""

    def change(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, shape, kind, **how)

    return change


def compact(name: str) -> Change:
    """Store a dataset in its header."""

    def change(file: h5py.File) -> None:
        data, plan = file[name][()], h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        space, kind = file[name].id.get_space().copy(), file[name].id.get_type()
        del file[name]
        plan.set_layout(h5py.h5d.COMPACT)
        made = h5py.h5d.create(file.id, name.encode(), kind, space, plan)
        made.write(h5py.h5s.ALL, h5py.h5s.ALL, np.ascontiguousarray(data))

    return change


def virtual(name: str) -> Change:
    """Map a dataset on another file."""

    def change(file: h5py.File) -> None:
        shape, kind = file[name].shape, file[name].dtype
        del file[name]
        layout = h5py.VirtualLayout(shape, kind)
        layout[...] = h5py.VirtualSource("/etc/passwd", "x", shape)
        file.create_virtual_dataset(name, layout)

    return change


def text(name: str, value: bytes, size: int = 0) -> Change:
    """Set the first text of a column."""

    def change(file: h5py.File) -> None:
        column = file[name][()].astype(f"S{size or max(len(value), 1)}")
        column.flat[0] = value
        put(name, column.astype(h5py.string_dtype("utf-8", column.dtype.itemsize)))(file)

    return change


def value(name: str, new: Any, at: int = 0) -> Change:
    """Set a number of a column, the first or that `at` a place."""

    def change(file: h5py.File) -> None:
        column = file[name][()]
        column.flat[at] = new
        file[name][...] = column

    return change


def attribute(name: str, new: Any) -> Change:
    """Set a root attribute."""
    return lambda file: file.attrs.__setitem__(name, new)


KINDS: dict[str, tuple[Change, str]] = {
    "external link": (link("label", h5py.ExternalLink("/etc/passwd", "/x")), "label is a link to another place"),
    "external link for the images": (link("image", h5py.ExternalLink("/dev/stdin", "/x")), "image is a link"),
    "soft link": (link("flags", h5py.SoftLink("/image_crc32")), "flags is a link to another place"),
    "soft link to itself": (link("flags", h5py.SoftLink("/flags")), "flags is a link to another place"),
    "external storage": (put("label", external=[("/etc/passwd", 0, 4)]), "label is not stored in one piece"),
    "virtual dataset": (virtual("crop_box"), "crop_box is not stored in one piece"),
    "filter": (put("label", compression="gzip"), "label is not stored in one piece"),
    "filter on the images": (put("image", compression="gzip", chunks=(1, 9, 7)), "image is not stored in one piece"),
    "chunks": (put("placement", chunks=(1, 2, 4)), "placement is not stored in one piece"),
    "compact": (compact("label"), "label is not stored in one piece"),
    "bomb": (empty("label", (4,), "i1", chunks=(4,), compression="gzip", maxshape=(None,)), "label is not stored in one piece"),
    "no bytes": (empty("source_shape", (4, 2, 2), "<i4"), "source_shape does not lie within the file"),
    "images without bytes": (empty("image", (4, 9, 7), "<u2"), "image does not lie within the file"),
    "huge": (empty("label", (1 << 40,), "i1"), "1099511627776 samples, the receipt lists 4"),
    "another length": (put("label", np.zeros(3, "i1")), r"3 samples, the receipt lists 4 \(label\)"),
    "scalar": (put("label", np.int8(1)), r"label has the shape \(\)"),
    "no shape": (link("label", lambda _: h5py.Empty("i1")), r"label has the shape \(\)"),
    "another shape": (put("crop_box", np.zeros((4, 4, 2), "<i4")), r"crop_box has the shape \(4, 4, 2\)"),
    "images of one row": (put("image", lambda old: old.reshape(4, 63)), r"image has the shape \(4, 63\)"),
    "images without an end": (empty("image", (4, 1, 8193), "<u2"), r"image has the shape \(4, 1, 8193\)"),
    "float labels": (put("label", np.zeros(4, "f4")), "label has a type"),
    "other byte order": (put("image", lambda old: old.astype(">u2")), "image has a type"),
    "signed images": (put("image", lambda old: old.astype("<i2")), "image has a type"),
    "compound": (put("flags", np.zeros(4, [("a", "<u2"), ("b", "<u2")])), "flags has a type"),
    "enumeration": (empty("label", (4,), h5py.enum_dtype({"A": 1}, "i1")), "label has a type"),
    "reference": (empty("flags", (4,), h5py.ref_dtype), "flags has a type"),
    "text of any length": (put("breast_id", np.array(["a"] * 4, object), dtype=h5py.string_dtype()), "breast_id has a type"),
    "text not UTF-8": (put("breast_id", np.array([b"a"] * 4)), "breast_id has a type"),
    "long text": (text("patient_id", b"a", 1025), "patient_id has a type"),
    "group": (
        link("label", lambda file: file.create_group("other")),
        "dataset 'other', which the format does not know|has no dataset label",
    ),
    "group in its place": (lambda file: (file.__delitem__("label"), file.create_group("label")), "label is not a dataset"),
    "type in its place": (link("label", np.dtype("i1")), "label is not a dataset"),
    "missing": (lambda file: file.__delitem__("mm_per_pixel"), "has no dataset mm_per_pixel"),
    "unknown": (lambda file: file.create_dataset("more\x1b", data=[1]), r"dataset 'more\\x1b', which the format does not know"),
    "label": (value("label", 7), "label is 7, expected one of 1, 0, -1"),
    "side": (text("laterality", b"X"), "laterality is b'X', expected one of"),
    "control character": (text("breast_id", b"a\x1b[31m"), r"breast_id has the control character '\\x1b'"),
    "direction of text": (text("breast_id", "a\u202eb".encode()), r"breast_id has the control character '\\u202e'"),
    "bytes that are not text": (text("patient_id", b"\xff\xfe"), "patient_id has bytes that are not UTF-8"),
    "view without height": (value("placement", 0.0, 1), "placement of a view is not in its image"),
    "view beyond the image": (value("placement", 7.1, 3), "placement of a view is not in its image"),
    "view at no number": (value("placement", np.nan, 2), "placement of a view is not in its image"),
    "view without end": (value("placement", np.inf, 5), "placement of a view is not in its image"),
    "crop without width": (value("crop_box", -1, 3), "crop_box of a view that is in the image is empty"),
    "source without pixels": (value("source_shape", 0), "source_shape is 0, expected at least 1"),
    "images of another size": (
        put("image", np.zeros((4, 9, 8), "<u2")),
        "another size or type than those of the shards before",
    ),
}
"""Change of a shard -> what a reader says."""

WARP_KINDS: dict[str, tuple[Change, str]] = {
    "one of three": (lambda file: file.__delitem__("warp_widths"), "has no dataset warp_widths"),
    "another type": (put("warp_rows", lambda old: old.astype("f4"), dtype="<f4"), "warp_rows has a type"),
    "one view": (put("warp_rows", lambda old: old[:, :1]), r"warp_rows has the shape \(4, 1, 10\)"),
    "one edge": (put("warp_columns", lambda old: old[:, :, :1]), r"warp_columns has the shape \(4, 2, 1\)"),
    "too many": (put("warp_widths", np.ones((4, 2, 8194))), r"warp_widths has the shape \(4, 2, 8194\)"),
    "in pieces": (put("warp_rows", chunks=(1, 2, 10)), "warp_rows is not stored in one piece"),
    "not a number": (value("warp_rows", np.nan, 5), "warp_rows is finite in a part of a view"),
    "infinite": (value("warp_widths", np.inf, 5), "warp_widths is finite in a part of a view"),
    "rows that turn back": (value("warp_rows", 0.0, 5), "warp_rows does not increase within the crop box"),
    "rows above the crop": (value("warp_rows", 9.0), "warp_rows does not increase within the crop box"),
    "rows below the crop": (value("warp_rows", 1e9, 9), "warp_rows does not increase within the crop box"),
    "columns that stand": (value("warp_columns", 0.3, 2), "warp_columns does not go from 0 to 1"),
    "columns beyond": (value("warp_columns", 1.5, 3), "warp_columns does not go from 0 to 1"),
    "no width": (value("warp_widths", 0.0, 5), "warp_widths is not above 0 and within the crop box"),
    "too wide": (value("warp_widths", 91.0, 5), "warp_widths is not above 0 and within the crop box"),
    "nowhere": (value("placement", -1.0), "a warped view is not in the image"),
    "crop beyond the image": (value("crop_box", 101, 3), "crop_box of a warped view does not lie in its image"),
}
"""The same, of a shard whose samples are warped."""

ATTRIBUTE_KINDS: dict[str, tuple[Change, str]] = {
    "missing": (lambda file: file.attrs.__delitem__("license"), "has no attribute license"),
    "unknown": (attribute("more", 1), "attribute 'more', which the format does not know"),
    "array": (attribute("dataset", ["made"] * 3), "attribute dataset is not a single number or text"),
    "float": (attribute("shard_count", 16.0), "attribute shard_count is not a single number or text"),
    "bytes": (attribute("dataset", np.bytes_(b"\xff")), "dataset differs from that of"),
    "another": (attribute("shard_index", 3), "shard_index differs from that of"),
    "scale": (lambda file: file["image"].attrs.__setitem__("scale", 1.0), "scale differs from that of"),
    "scales": (lambda file: file["image"].attrs.__setitem__("scale", [1.0, 2.0]), "scale differs from that of"),
}
"""Change of a shard's attributes -> what `verify` says."""

# --- fuzzing ----------------------------------------------------------------------------------------------------------

ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 5, 255, 1 << 31, 1 << 63, 1 << 64, -(1 << 63), 10**4000, 0.5, float("nan"), 4.0,
    "", "x", "\x1b[2J", "\ud800", "../index.json", "/etc/passwd", "shard-00001.h5", "a" * 70_000, [], [1], {}, {"x": 1}, [[[]]],
)  # fmt: skip


@cache
def sound() -> Path:
    """A folder that is as it should be, made once a process."""
    folder = Path(tempfile.mkdtemp(prefix="fvpipe-sound-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    commit(folder, (4, 3))
    return folder


def _break_receipt(rng: random.Random, data: dict[str, Any]) -> str:
    place: Any = data
    while True:
        key = rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
        if not (isinstance(place[key], dict | list) and place[key]) or rng.random() < 0.2:
            break
        place = place[key]
    match rng.randrange(5):
        case 0:
            del place[key]
        case 1 if isinstance(place, dict):
            place[str(rng.choice(ODD))] = place[key]
        case 2 if isinstance(place[key], int):
            place[key] += rng.choice((-1, 1, 4, -4, 1 << 40))
        case 3 if isinstance(place, list):
            place.append(rng.choice(place))
        case _:
            place[key] = rng.choice(ODD)
    return "receipt"


def _break_structure(rng: random.Random, file: h5py.File) -> str:
    """Exchange a dataset for one of any type, shape and layout, with any values."""
    name = rng.choice(sorted(file))
    if rng.random() < 0.3:
        kind = rng.choice(sorted(KINDS))
        KINDS[kind][0](file)
        return kind
    old, count = file[name][()], rng.choice((4, 4, 4, 4, 0, 1, 3, 1000))
    shape = rng.choice((old.shape, old.shape, old.shape, (count,), (count, *old.shape[1:]), (), (count, 2, 2)))
    dtype = rng.choice(
        (file[name].dtype, file[name].dtype, *map(np.dtype, ("i1", "<i4", ">i4", "<f4", "<f8", "<u2", "S3", "<u8")))
    )
    data = np.frombuffer(rng.randbytes(int(np.prod(shape)) * dtype.itemsize), dtype.base).reshape(shape)
    how: dict[str, Any] = {}
    if shape and 0 not in shape:
        how = rng.choice(
            ({}, {}, {}, {"chunks": True}, {"compression": "gzip"}, {"maxshape": (None, *shape[1:]), "chunks": True})
        )
    del file[name]
    file.create_dataset(rng.choice((name, name, name, name + "x")), data=data, dtype=dtype, **how)
    return "dataset"


def fault(number: int, folder: Path, crashing: bool = True) -> str:
    """Make the hostile folder of this number, and name its kind. On single bytes the HDF5 library may crash."""
    rng = random.Random(number)
    shutil.copytree(sound(), folder, dirs_exist_ok=True)
    kind = rng.choice(("receipt", "structure", "structure", "attribute", "image offset", "bytes")[: 6 if crashing else 5])
    shard = folder / shard_name(0)
    match kind:
        case "receipt":
            data = json.loads((folder / RECEIPT).read_text())
            for _ in range(rng.choice((1, 1, 2, 3))):
                if data:
                    _break_receipt(rng, data)
            (folder / RECEIPT).write_text(json.dumps(data))
        case "structure":
            change_shard(folder, lambda file: _break_structure(rng, file))
        case "attribute":
            name = rng.choice(("dataset", "license", "shard_index", "schema_version", "pipeline_yaml", "more"))
            new = rng.choice(
                (1, -1, 1.5, "x", "\x1b", [1, 2], ["a", "b"], np.bytes_(b"\xff"), np.zeros((2, 2)), h5py.Empty("f4"))
            )
            place = rng.choice((lambda file: file, lambda file: file["image"], lambda file: file["label"]))
            change_shard(folder, lambda file: place(file).attrs.__setitem__(rng.choice((name, "scale")), new))
        case "bytes":  # the images lie where they did, so that the receipt fits whatever HDF5 makes of the rest
            data, entry = bytearray(shard.read_bytes()), json.loads((folder / RECEIPT).read_text())["shards"][0]
            for _ in range(rng.choice((1, 1, 2, 8))):
                at = rng.randrange(len(data) - entry["image_bytes"])
                data[at if at < entry["image_offset"] else at + entry["image_bytes"]] = rng.choice(
                    (0, 1, 255, rng.randrange(256))
                )
            shard.write_bytes(data[: rng.choice((len(data), len(data), len(data), rng.randrange(len(data))))])
            fit_receipt(folder)
        case _:
            data = json.loads((folder / RECEIPT).read_text())
            entry = data["shards"][0]
            entry["image_offset"] = rng.randrange(entry["bytes"])
            entry["image_bytes"] = rng.choice((entry["image_bytes"], rng.randrange(entry["bytes"])))
            if entry["image_offset"] + entry["image_bytes"] <= entry["bytes"]:
                with open(shard, "rb") as raw:
                    entry["rest"] = sha256_outside_images(raw, entry["image_offset"], entry["image_bytes"])
            (folder / RECEIPT).write_text(json.dumps(data))
    return kind


def outcome(number: int, folder: Path, crashing: bool = True) -> str:
    """What readers and `verify` make of a hostile folder; anything but an answer or a ShardError is raised."""
    shutil.rmtree(folder, ignore_errors=True)
    kind = fault(number, folder, crashing)
    reader.COMMIT_SECONDS = 0  # nobody builds meanwhile
    found = []
    for read in (lambda: _read_all(folder), lambda: verify(folder)):
        try:
            problems = read()
            found.append("problems" if problems else "read")
            if any("\x1b" in problem for problem in problems):
                raise AssertionError(problems)
        except ShardError as error:
            found.append(type(error).__name__)
            if "\x1b" in str(error) or len(str(error)) > 1000 + 2 * len(os.fspath(folder)):
                raise AssertionError(str(error)[:1000]) from error
    return f"{kind}: {', '.join(found)}"


def _read_all(folder: Path) -> list[str]:
    for sample in reader.open_shards(folder):
        assert sample.label in (1, 0, -1)
    return []
