"""Format of a shard folder: file names, the shard of a patient, and the receipt."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import BinaryIO

from fvpipe.errors import ChecksumError, ReceiptError, ShardError
from fvpipe.printable import CONTROL
from fvpipe.reasons import Flag
from fvpipe.regular_files import open_regular, read_regular
from fvpipe.shards.targets import TargetForm, parse_forms
from fvpipe.types import LABEL_NAMES
from fvpipe.versions import SCHEMA_VERSION

RECEIPT = "index.json"
TABLES = ("breasts.csv", "rejected.csv", "findings.csv", "images.csv")
CHUNK_BYTES = 1 << 20  # read at a time
MAX_RECEIPT_BYTES = 1 << 24  # of 30,000 shards
MAX_TABLE_BYTES = 1 << 32  # of 10 million samples
MAX_COLUMN_BYTES = 1 << 34  # of all shards together but their images: of 30 million samples, or 1.6 million that are warped
MAX_BYTES = 1 << 44  # of all shards together


def shard_name(index: int) -> str:
    """File name of a shard.

    Examples
    --------
    >>> shard_name(9)
    'shard-00009.h5'
    """
    return f"shard-{index:05d}.h5"


def shard_index(patient_id: str, shard_count: int) -> int:
    """Index of the shard of a patient: a digest of the id, so that a new patient does not move others.

    Parameters
    ----------
    patient_id : str
        Patient id as it is written into the shard.
    shard_count : int
        Number of shards of the data set.

    Examples
    --------
    >>> [shard_index(patient, 16) for patient in ("P_00173", "P_00820")]
    [10, 9]
    """
    digest = hashlib.blake2b(patient_id.encode("utf-8", "surrogatepass"), digest_size=8, person=b"fvpipe-shard").digest()
    return int.from_bytes(digest, "little") % shard_count


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """Entry of one committed shard in the receipt.

    Attributes
    ----------
    file : str
        File name.
    index : int
        Index of the shard.
    samples : int
        Number of samples.
    bytes : int
        Size of the file.
    sha256 : str
        SHA-256 of the whole file.
    image_offset, image_bytes : int
        Position and size in bytes of the dataset ``image`` in the file.
    rest : str
        SHA-256 of all other bytes: the other datasets (with the CRC-32 of each image), attributes, HDF5 structure.
    content : str
        Digest of sample keys, labels and identifiers. A shard of equal content is not written again.
    flags : dict of str to int
        Number of samples with each flag.
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
    """Contents of ``index.json``: what the folder holds, and digests of all its files.

    Attributes
    ----------
    schema_version : int
        Version of the format.
    preprocessing_version : int
        Version of the preprocessing that computed the images.
    dataset, license : str
        Name and license of the data set.
    simulated : bool
        Whether the data set is simulated (the key ``made`` in the file).
    pipeline, pipeline_digest, pipeline_yaml : str
        Name of the pipeline, digest of its settings, and the settings with all defaults.
    shard_count : int
        Number of shards over which patients are distributed; those without samples are not written.
    samples : int
        Number of samples.
    labels : dict of str to int
        Number of samples by ``malignant``, ``benign`` and ``unlabelled``.
    rejections : dict of str to int
        Number of rejections by reason code.
    flags : dict of str to int
        Number of samples by flag.
    tables : dict of str to str
        SHA-256 of each CSV table by file name.
    shards : tuple of ShardEntry
        Shards by increasing index.
    targets : tuple of TargetForm
        Facts that the samples have beside the label, by name; the key is left out of the file where there are none.
    """

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
    targets: tuple[TargetForm, ...] = ()

    def to_json(self) -> str:
        """JSON text with sorted keys; equal receipts give equal bytes."""
        data = asdict(self)
        data["made"] = data.pop("simulated")  # the key of this version of the format
        if not self.targets:
            del data["targets"]
        return json.dumps(data, indent=1, sort_keys=True) + "\n"


def read_receipt(folder: str | os.PathLike[str]) -> Receipt:
    """Read and validate the receipt of a shard folder.

    Parameters
    ----------
    folder : path
        Shard folder.

    Returns
    -------
    receipt : Receipt
        Contents of ``index.json``.

    Raises
    ------
    ReceiptError
        If the receipt is missing, not JSON, of an unknown schema version, incomplete or inconsistent.
    """
    path = Path(folder) / RECEIPT
    try:
        data = json.loads(read_regular(path, MAX_RECEIPT_BYTES).decode())
    except FileNotFoundError:
        state = (
            "its build was interrupted, or it is not a shard folder" if path.parent.is_dir() else "the folder does not exist"
        )
        raise ReceiptError(f"{path}: not found; {state}. Build it with `fvpipe build-shards`") from None
    except OSError as error:
        raise ReceiptError(f"{path}: cannot be read ({error.strerror}); build or download the shards again") from None
    except (ValueError, RecursionError) as error:
        raise ReceiptError(f"{path}: not readable as JSON ({type(error).__name__}); build the shards again") from None
    if not isinstance(data, dict) or data.get("schema_version") != SCHEMA_VERSION:
        found = repr(data.get("schema_version"))[:40] if isinstance(data, dict) else type(data).__name__
        raise ReceiptError(f"{path}: schema version is {found}; this fvpipe reads {SCHEMA_VERSION}. Build the shards again")
    try:
        entries = tuple(ShardEntry(**entry) for entry in data.pop("shards"))
        targets = parse_forms(data.pop("targets", []))
        receipt = Receipt(simulated=data.pop("made"), shards=entries, targets=targets, **data)
        if not (_has_declared_types(receipt) and all(map(_has_declared_types, receipt.shards))):
            raise TypeError
        sound = (
            receipt.samples == sum(entry.samples for entry in receipt.shards) == sum(receipt.labels.values())
            and [e.file for e in receipt.shards] == [shard_name(e.index) for e in receipt.shards]
            and [e.index for e in receipt.shards] == sorted({e.index for e in receipt.shards})
            and all(0 <= e.index < receipt.shard_count and e.samples > 0 for e in receipt.shards)
            and all(0 <= e.image_offset <= e.image_offset + e.image_bytes <= e.bytes for e in receipt.shards)
            and receipt.labels.keys() == set(LABEL_NAMES.values())
            and all(type(count) is int and count >= 0 for count in _counts(receipt))
            and all(name in TABLES and isinstance(digest, str) for name, digest in receipt.tables.items())
            and all(form.known <= receipt.samples for form in receipt.targets)
        )
    except (TypeError, ValueError, KeyError, AttributeError):
        raise ReceiptError(f"{path}: keys are missing, unknown or of the wrong type; build the shards again") from None
    # A file with holes takes no room on the disk, and all the memory and time that its size asks for.
    size, images = (sum(getattr(entry, name) for entry in receipt.shards) for name in ("bytes", "image_bytes"))
    if sound and (size > MAX_BYTES or size - images > MAX_COLUMN_BYTES):
        found = f"lists shards of {size} bytes, {size - images} of them outside the images"
        raise ReceiptError(f"{path}: {found}; expected at most {MAX_BYTES} and {MAX_COLUMN_BYTES}. Divide the data set")
    if not sound:
        raise ReceiptError(f"{path}: its counts or file names contradict each other or the format; build the shards again")
    texts = (*_texts(receipt), *(text for entry in receipt.shards for text in _texts(entry)))
    if any(CONTROL.search(text.replace("\n", "")) for text in texts):
        raise ReceiptError(f"{path}: a text has control characters; build or download the shards again")
    return receipt


def check_table(file: Path, receipt: Receipt) -> None:
    """Check that a table of a shard folder is the one that its receipt lists; it is read in parts.

    Raises
    ------
    ShardError
        It is not there, cannot be read, or is larger than such tables are.
    ChecksumError
        Its bytes are others.
    """
    try:
        with open_regular(file) as table:
            if (size := os.fstat(table.fileno()).st_size) > MAX_TABLE_BYTES:
                raise ShardError(f"{file}: has {size} bytes; expected at most {MAX_TABLE_BYTES}. Build the shards again")
            found = hashlib.file_digest(table, "sha256").hexdigest()
    except FileNotFoundError:
        raise ShardError(f"{file}: the receipt lists this table and it is not there; build the shards again") from None
    except OSError as error:
        raise ShardError(f"{file}: cannot be read ({error.strerror}); build or download the shards again") from None
    if found != receipt.tables.get(file.name):
        raise ChecksumError(f"{file}: its bytes differ from what was written; build the shards again")


def _counts(receipt: Receipt) -> Iterator[object]:
    yield from (receipt.preprocessing_version, receipt.shard_count)
    for counts in (receipt.labels, receipt.rejections, receipt.flags, *(entry.flags for entry in receipt.shards)):
        yield from counts.values()


def _texts(value: Receipt | ShardEntry) -> Iterator[str]:
    """All texts of a receipt or entry, keys of its mappings too."""
    for field in fields(value):
        found = getattr(value, field.name)
        yield from [found] if isinstance(found, str) else map(str, found) if isinstance(found, dict) else ()


def _has_declared_types(value: Receipt | ShardEntry) -> bool:
    """Whether the value of each field has the declared type."""
    return all(type(getattr(value, f.name)).__name__ == str(f.type).partition("[")[0] for f in fields(value))


def flag_names() -> dict[str, int]:
    """Bits of the dataset ``flags`` by name."""
    return {flag.code: int(flag) for flag in Flag}


def sha256_outside_images(file: BinaryIO, image_offset: int, image_bytes: int) -> str:
    """SHA-256 of the bytes of a shard before and after its images, the field ``rest`` of its receipt entry.

    Parameters
    ----------
    file : binary file
        Shard, open for reading.
    image_offset, image_bytes : int
        Position and size of the images in bytes.
    """
    hasher = hashlib.sha256()
    for start, stop in ((0, image_offset), (image_offset + image_bytes, os.fstat(file.fileno()).st_size)):
        file.seek(start)
        while start < stop and (data := file.read(min(stop - start, CHUNK_BYTES))):
            hasher.update(data)
            start += len(data)
    return hasher.hexdigest()
