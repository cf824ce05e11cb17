"""The shard folder's format: names, receipt, columns, and the way between source and image pixels."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

from numpy.typing import NDArray

from fvpipe.errors import ReceiptError
from fvpipe.reasons import Flag
from fvpipe.versions import SCHEMA_VERSION

RECEIPT = "index.json"
SCALES = {"uint16": 1 / 65535, "uint8": 1 / 255, "float32": 1.0}
"""Stored value x scale lies in [0, 1], by dtype."""


def shard_name(index: int) -> str:
    """The file name of shard `index`."""
    return f"shard-{index:05d}.h5"


def shard_index(patient_id: str, shard_count: int) -> int:
    """The shard of a patient: by a digest of the id, so that a new patient moves nobody."""
    digest = hashlib.blake2b(patient_id.encode("utf-8", "surrogatepass"), digest_size=8, person=b"fvpipe-shard").digest()
    return int.from_bytes(digest, "little") % shard_count


# --- the receipt ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """One shard as it was committed.

    Attributes
    ----------
    file : str
    index, samples, bytes : int
    sha256 : str
        Of the whole file.
    image_offset, image_bytes : int
        Where the images lie in the file.
    rest : str
        SHA-256 of every other byte: columns, the images' CRC-32s among them, attributes, structure.
    content : str
        Digest of what the shard was made from: sample keys, labels, identifiers. Equal content is not written again.
    flags : dict of str to int
        How many samples carry each flag.
    """

    file: str
    index: int
    samples: int
    bytes: int
    sha256: str
    image_offset: int
    image_bytes: int
    rest: str
    content: str
    flags: dict[str, int]


@dataclass(frozen=True, slots=True)
class Receipt:
    """``index.json``."""

    schema_version: int
    preprocessing_version: int
    dataset: str
    simulated: bool
    license: str
    pipeline: str
    pipeline_digest: str
    pipeline_yaml: str
    shard_count: int
    samples: int
    labels: dict[str, int]
    rejections: dict[str, int]
    flags: dict[str, int]
    tables: dict[str, str]
    shards: tuple[ShardEntry, ...]

    def to_json(self) -> str:
        """Stable, readable text."""
        data = asdict(self)
        data["made"] = data.pop("simulated")  # the key of this version of the format
        return json.dumps(data, indent=1, sort_keys=True) + "\n"


def read_receipt(folder: str | os.PathLike[str]) -> Receipt:
    """Read and check ``index.json``.

    Raises
    ------
    ReceiptError
        It is missing, not JSON, of an unknown schema version, incomplete or contradicts itself.
    """
    path = Path(folder) / RECEIPT
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        state = "its build was interrupted, or it is no shard folder" if path.parent.is_dir() else "the folder does not exist"
        raise ReceiptError(f"{path}: not found; {state}. Build it with `fvpipe build-shards`") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ReceiptError(f"{path}: not readable as JSON ({type(error).__name__}); build the shards again") from None
    if not isinstance(data, dict) or data.get("schema_version") != SCHEMA_VERSION:
        found = data.get("schema_version") if isinstance(data, dict) else type(data).__name__
        raise ReceiptError(f"{path}: schema version is {found!r}; this fvpipe reads {SCHEMA_VERSION}. Build the shards again")
    try:
        entries = tuple(ShardEntry(**entry) for entry in data.pop("shards"))
        receipt = Receipt(simulated=data.pop("made"), shards=entries, **data)
        if not (_typed(receipt) and all(map(_typed, receipt.shards))):
            raise TypeError
        sound = (
            receipt.samples == sum(entry.samples for entry in receipt.shards) == sum(receipt.labels.values())
            and [e.file for e in receipt.shards] == [shard_name(e.index) for e in receipt.shards]
            and [e.index for e in receipt.shards] == sorted({e.index for e in receipt.shards})
        )
    except (TypeError, KeyError, AttributeError):
        raise ReceiptError(f"{path}: keys are missing, unknown or of the wrong type; build the shards again") from None
    if not sound:
        raise ReceiptError(f"{path}: its counts or shard names contradict each other; build the shards again")
    return receipt


def _typed(value: Receipt | ShardEntry) -> bool:
    """Whether every field holds what it is declared to hold."""
    return all(type(getattr(value, f.name)).__name__ == str(f.type).partition("[")[0] for f in fields(value))


def flag_names() -> dict[str, int]:
    """Name of each bit of ``flags``, with its value."""
    return {str(flag.name).lower(): int(flag) for flag in Flag}


def rest_sha256(file: BinaryIO, image_offset: int, image_bytes: int) -> str:
    """Digest the bytes before and after the images."""
    file.seek(0)
    hasher = hashlib.sha256(file.read(image_offset))
    file.seek(image_offset + image_bytes)
    hasher.update(file.read())
    return hasher.hexdigest()


def to_image(crop_box: NDArray[Any], placement: NDArray[Any], row: float, column: float) -> tuple[float, float]:
    """Map a point of a source image into the stored image, given one view's ``crop_box`` and ``placement``."""
    (top, left), (down, across), (box_top, box_left) = _scale(crop_box, placement)
    return top + (row - box_top) * down, left + (column - box_left) * across


def to_source(crop_box: NDArray[Any], placement: NDArray[Any], row: float, column: float) -> tuple[float, float]:
    """Map a point of the stored image into a source image: the inverse of :func:`to_image`."""
    (top, left), (down, across), (box_top, box_left) = _scale(crop_box, placement)
    return box_top + (row - top) / down, box_left + (column - left) / across


def _scale(crop_box: NDArray[Any], placement: NDArray[Any]) -> tuple[tuple[float, float], tuple[float, float], tuple[int, int]]:
    top, bottom, left, right = (float(number) for number in placement)
    box_top, box_bottom, box_left, box_right = (int(number) for number in crop_box)
    return (top, left), ((bottom - top) / (box_bottom - box_top), (right - left) / (box_right - box_left)), (box_top, box_left)
