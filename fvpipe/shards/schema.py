"""Datasets of a shard as `docs/shards.md` lists them, and the check of an HDF5 file against them before anything is read.

A shard may come from anywhere, with a receipt that fits it. HDF5 would follow a link into another file, run a filter that
expands a few bytes to gigabytes, or fill a dataset that has no bytes: none of that is part of the format.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from fvpipe.errors import ReceiptError, ShardError
from fvpipe.printable import CONTROL
from fvpipe.shards.coordinates import WARP_COLUMNS
from fvpipe.shards.format import ShardEntry
from fvpipe.shards.targets import GROUP, TargetForm
from fvpipe.types import LABEL_NAMES, SCALES, Laterality

AGAIN = "build or download the shards again"
ABSENT = -1  # placement of a view that is not in the image
ROUNDING = 1e-3  # pixels, of float32
MAX_EDGES = 8193  # of a sample's rows or columns
MAX_TEXT_BYTES = 1024  # of one identifier: patients and exams have at most 64 characters each, of up to 4 bytes
MAX_ATTRIBUTE_BYTES = 1 << 16

# NumPy type, "S" for text, and the shapes of a sample that the format has.
_Form = tuple[str, tuple[tuple[int, ...], ...]]
_COLUMNS: dict[str, _Form] = {
    "label": ("i1", ((),)),
    "breast_id": ("S", ((),)),
    "patient_id": ("S", ((),)),
    "laterality": ("S", ((),)),
    "crop_box": ("<i4", ((2, 4),)),
    "source_shape": ("<i4", ((2, 2),)),
    "placement": ("<f4", ((2, 4),)),
    "intensity_range": ("<f4", ((2,), (2, 2))),
    "breast_area": ("<f4", ((2,),)),
    "breast_mean": ("<f4", ((2,),)),
    "mm_per_pixel": ("<f4", ((2, 2),)),
    "source_digest": ("S", ((2,),)),
    "pixel_digest": ("S", ((2,),)),
    "flags": ("<u4", ((),)),
    "image_crc32": ("<u4", ((),)),
}
_ATTRIBUTES = {
    "schema_version", "preprocessing_version", "dataset", "pipeline", "pipeline_digest", "pipeline_yaml", "license",
    "shard_index", "shard_count", "flag_names",
}  # fmt: skip
MAX_HEAPS, MAX_HEAP_BYTES = 16, 1 << 20  # of attributes' texts
_HEAP = b"GCOL\x01\0\0\0"
_TYPES = {
    name: h5py.h5t.py_create(np.dtype(name).newbyteorder("<"))
    for name in {*SCALES, "<f8", "<i2", *(kind for kind, _ in _COLUMNS.values() if kind != "S")}
}


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Open a shard with HDF5; whatever the library raises on a malformed file is a :class:`ShardError`."""
    try:
        with h5py.File(path, "r", locking=False) as file:  # committed shards never change
            yield file
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, OverflowError, AttributeError, MemoryError) as error:
        raise ShardError(f"{path}: HDF5 cannot read it ({type(error).__name__}); {AGAIN}") from None


def read_columns(
    file: h5py.File, path: Path, entry: ShardEntry, targets: Sequence[TargetForm] = ()
) -> tuple[tuple[int, ...], np.dtype[Any], dict[str, NDArray[Any]]]:
    """Check a shard against the format and its receipt entry, and read everything but the images.

    Parameters
    ----------
    file : h5py.File
        From :func:`opened`.
    path : Path
        For messages.
    entry : ShardEntry
        Its entry in the receipt; the size of the file is already that of the entry.
    targets : sequence of TargetForm
        Those of the receipt.

    Returns
    -------
    shape, dtype
        Of the images, which lie where the receipt says.
    columns : dict of str to array, first dimension n
        All other datasets.

    Raises
    ------
    ReceiptError
        The numbers of samples or the place of the images are not those of the receipt.
    ShardError
        A dataset is missing, unknown, or not as the format has it.
    """
    names = set(file)
    warps = set(WARP_COLUMNS) if names & set(WARP_COLUMNS) else set()  # of a pipeline that warps: all of them
    _check_names(path, "dataset", names, {"image", *_COLUMNS, *warps} | ({GROUP} if targets else set()))
    if targets:
        if file.id.links.get_info(GROUP.encode()).type != h5py.h5l.TYPE_HARD or not isinstance(file[GROUP], h5py.Group):
            raise _error(path, f"{GROUP} is not a group of its own")
        _check_names(path, "target", set(file[GROUP]), {form.name for form in targets})
    forms = _forms(targets)
    datasets = {name: _dataset(file, path, name, entry, forms.get(name)) for name in (*forms, *sorted(warps), "image")}
    image = datasets.pop("image")
    if (image.id.get_offset(), image.nbytes) != (entry.image_offset, entry.image_bytes):
        raise ReceiptError(f"{path}: its images do not lie where the receipt lists them; {AGAIN}")
    columns: dict[str, NDArray[Any]] = {name: dataset[()] for name, dataset in datasets.items()}
    _check_values(path, columns)
    _check_placements(path, columns["placement"], columns["crop_box"], image.shape[-2:])
    for form in targets:
        if wrong := form.wrong_value(columns[form.path]):
            raise _error(path, wrong)
    return image.shape, image.dtype, columns


def empty_columns(targets: Sequence[TargetForm]) -> dict[str, NDArray[Any]]:
    """Columns of a folder without samples."""
    forms = _forms(targets).items()
    return {name: np.zeros((0, *shapes[0]), "S1" if kind == "S" else kind) for name, (kind, shapes) in forms}


def _forms(targets: Sequence[TargetForm]) -> dict[str, _Form]:
    return _COLUMNS | {form.path: (form.dtype, ((),)) for form in targets}


def check_alike(path: Path, forms: set[object], image: NDArray[Any], columns: Mapping[str, NDArray[Any]]) -> None:
    """Check that the samples of a shard have the form of those before, and add theirs to `forms`."""
    forms.add((
        image.dtype,
        image.shape[1:],
        *(columns[name].shape[1:] for name in ("intensity_range", *WARP_COLUMNS) if name in columns),
    ))  # fmt: skip
    if len(forms) > 1:
        raise _error(path, "its samples are of another size or type than those of the shards before")


def differing_attributes(
    file: h5py.File, path: Path, expected: Mapping[str, object], targets: Sequence[TargetForm] = ()
) -> Iterator[str]:
    """Yield the name of each root attribute that is not as expected, ``scale`` if that of the images is not, and targets.

    Raises
    ------
    ShardError
        An attribute is missing, unknown, or no single number or text; such a one is not read.
    """
    _check_heaps(path)
    for name in sorted(set(file.attrs) | set(_ATTRIBUTES)):
        if name not in _ATTRIBUTES:
            raise _error(path, f"has an attribute {name[:40]!r}, which the format does not know")
        if name not in file.attrs:
            raise _error(path, f"has no attribute {name}")
        stored = file.attrs.get_id(name)
        if stored.shape != () or stored.get_type().get_class() not in (h5py.h5t.INTEGER, h5py.h5t.STRING):
            raise _error(path, f"attribute {name} is not a single number or text")
        if name in expected and file.attrs[name] != expected[name]:
            yield name
    scale = file["image"].attrs.get_id("scale") if "scale" in file["image"].attrs else None
    if scale is None or scale.shape != () or file["image"].attrs["scale"] != SCALES[file["image"].dtype.name]:
        yield "scale"
    for form in targets:
        attributes = file[form.path].attrs
        if set(attributes) != set(form.attributes) or not all(
            _is_text(stored.get_type(), MAX_ATTRIBUTE_BYTES) and stored.shape == () and stored_text(attributes, name) == text
            for name, text in form.attributes.items()
            for stored in [attributes.get_id(name)]
        ):
            yield form.path


def stored_text(attributes: h5py.AttributeManager, name: str) -> str:
    """Text of an attribute of fixed length."""
    return bytes(attributes[name]).decode("utf-8", "replace")


def _check_heaps(path: Path) -> None:
    """Check the global heaps, where texts of attributes lie: HDF5 2.0 reads one with an object of no size for ever."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start, heaps = data.find(_HEAP), 0
        while start >= 0:
            heaps += 1
            at = start + 16
            end = start + int.from_bytes(data[start + 8 : at], "little")
            if heaps > MAX_HEAPS or end - start > MAX_HEAP_BYTES:
                raise _error(path, f"has more than {MAX_HEAPS} global heaps, or one of more than {MAX_HEAP_BYTES} bytes")
            while end - at >= 16:
                size = int.from_bytes(data[at + 8 : at + 16], "little")
                step = 16 + (size + 7) // 8 * 8 if any(data[at : at + 2]) else size  # number 0 is free space, with its header
                at += step
                if step < 16 or at > min(end, len(data)):
                    raise _error(path, "an object of a global heap does not lie within it")
            start = data.find(_HEAP, start + 1)


def _check_names(path: Path, what: str, names: set[str], known: set[str]) -> None:
    if missing := known - names:
        raise _error(path, f"has no {what} {min(missing)}")
    if unknown := names - known:
        raise _error(path, f"has a {what} {min(unknown)[:40]!r}, which the format does not know")


def _dataset(file: h5py.File, path: Path, name: str, entry: ShardEntry, form: _Form | None) -> h5py.Dataset:
    """Open a dataset that lies in this file, in one piece, as the format has it; nothing of it is read yet."""
    if file.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
        raise _error(path, f"{name} is a link to another place")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise _error(path, f"{name} is not a dataset")
    plan = dataset.id.get_create_plist()
    if plan.get_layout() != h5py.h5d.CONTIGUOUS or plan.get_external_count() or plan.get_nfilters():
        raise _error(path, f"{name} is not stored in one piece, uncompressed, in the file itself")
    kind = dataset.id.get_type()
    shape: tuple[int, ...] = dataset.shape or ()
    if name in WARP_COLUMNS:
        fits = kind.equal(_TYPES["<f8"])
        fits_shape = len(shape) == 3 and shape[:2] == (entry.samples, 2) and 2 <= shape[2] <= MAX_EDGES
    elif form is None:  # the images
        fits = any(kind.equal(_TYPES[dtype]) for dtype in SCALES)
        fits_shape = len(shape) in (3, 4) and shape[0] == entry.samples and min(shape) > 0 and max(shape[1:]) < MAX_EDGES
    else:
        wanted, shapes = form
        fits = _is_text(kind) if wanted == "S" else kind.equal(_TYPES[wanted])
        fits_shape = shape in [(entry.samples, *each) for each in shapes]
    if not fits:
        raise _error(path, f"{name} has a type that the format does not have for it")
    if shape and shape[0] != entry.samples:
        raise ReceiptError(f"{path}: {shape[0]} samples, the receipt lists {entry.samples} ({name}); {AGAIN}")
    if not fits_shape:
        raise _error(path, f"{name} has the shape {shape}, which the format does not have for it")
    offset, size = dataset.id.get_offset(), math.prod(shape) * kind.get_size()
    if offset is None or dataset.id.get_storage_size() != size or offset + size > entry.bytes:
        raise _error(path, f"{name} does not lie within the file")
    return dataset


def _is_text(kind: h5py.h5t.TypeID, most: int = MAX_TEXT_BYTES) -> bool:
    return (
        isinstance(kind, h5py.h5t.TypeStringID)
        and not kind.is_variable_str()
        and kind.get_cset() == h5py.h5t.CSET_UTF8
        and 1 <= kind.get_size() <= most
    )


def _check_values(path: Path, columns: Mapping[str, NDArray[Any]]) -> None:
    for name, (kind, _) in _COLUMNS.items():
        if kind != "S":
            continue
        try:
            control = CONTROL.search("".join(np.char.decode(columns[name], "utf-8").ravel().tolist()))
        except UnicodeDecodeError:
            raise _error(path, f"{name} has bytes that are not UTF-8") from None
        if control:
            raise _error(path, f"{name} has the control character {control[0]!r}")
    for name, allowed in (("label", [*LABEL_NAMES]), ("laterality", [side.encode() for side in Laterality])):
        found = columns[name][~np.isin(columns[name], allowed)]
        if found.size:
            raise _error(path, f"{name} is {found.tolist()[0]!r}, expected one of {', '.join(map(repr, allowed))}")
    lacking = columns["source_digest"] == b""
    if np.any(lacking.all(axis=1)):
        raise _error(path, "source_digest names no file of a sample, expected one or two")
    for name, value in (("source_shape", 0), ("crop_box", 0), ("placement", ABSENT), ("pixel_digest", b"")):
        if np.any(columns[name][lacking] != value):
            raise _error(path, f"{name} of a view without a file is not {value!r}")
    if np.any(columns["source_shape"][~lacking] < 1):
        raise _error(path, f"source_shape is {columns['source_shape'][~lacking].min()}, expected at least 1")
    if WARP_COLUMNS[0] in columns:
        _check_warps(path, columns)


def _check_warps(path: Path, columns: Mapping[str, NDArray[Any]]) -> None:
    """Check that each view is warped by a map that can be inverted and lies in its crop box, or by none."""
    rows, across, widths = (columns[name] for name in WARP_COLUMNS)
    warped = np.isfinite(rows[:, :, 0])
    for name in WARP_COLUMNS:
        finite = np.isfinite(columns[name])
        if np.any(finite != warped[:, :, None]):
            raise _error(path, f"{name} is finite in a part of a view, or of a view whose other arrays are not")
    box, shape = (columns[name][warped] for name in ("crop_box", "source_shape"))
    rows, across, widths = rows[warped], across[warped], widths[warped]
    falling = across[:, 0] > across[:, -1]
    across = np.where(falling[:, None], across[:, ::-1], across)
    if np.any(np.diff(rows) <= 0) or np.any(rows[:, 0] < box[:, 0]) or np.any(rows[:, -1] > box[:, 1]):
        raise _error(path, "warp_rows does not increase within the crop box")
    if np.any(np.diff(across) <= 0) or np.any(across[:, 0] != 0) or np.any(across[:, -1] != 1):
        raise _error(path, "warp_columns does not go from 0 to 1, or from 1 to 0")
    if np.any(widths <= 0) or np.any(widths > (box[:, 3] - box[:, 2])[:, None]):
        raise _error(path, "warp_widths is not above 0 and within the crop box")
    if np.any((box[:, ::2] < 0) | (box[:, 1::2] > shape)):
        raise _error(path, "crop_box of a warped view does not lie in its image")
    if np.any(columns["placement"][warped] == ABSENT):
        raise _error(path, "a warped view is not in the image")


def _check_placements(path: Path, placement: NDArray[Any], box: NDArray[Any], shape: tuple[int, ...]) -> None:
    """Check that each view shows a part of its source, and lies in the image, or is absent from it."""
    shown = ~np.all(placement == ABSENT, axis=2)
    if np.any(box[shown][:, ::2] >= box[shown][:, 1::2]):
        raise _error(path, "crop_box of a view that is in the image is empty")
    top, bottom, *sides = placement[shown].T
    left, right = np.minimum(*sides), np.maximum(*sides)
    inside = (top >= 0) & (top < bottom) & (bottom <= shape[0] + ROUNDING) & (left >= 0) & (left < right)  # False for NaN
    if not np.all(inside & (right <= shape[1] + ROUNDING)):
        raise _error(path, "placement of a view is not in its image")


def _error(path: Path, found: str) -> ShardError:
    return ShardError(f"{path}: {found}; fvpipe did not write it so: {AGAIN}")
