"""Verification of a whole shard folder against its receipt, as `fvpipe verify` does.

:mod:`fvpipe.shards.reader` checks what it reads by itself, when a folder is opened and when an image is first read.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fvpipe.errors import ShardError
from fvpipe.printable import escaped
from fvpipe.regular_files import open_regular
from fvpipe.shards.format import RECEIPT, Receipt, ShardEntry, check_table, flag_names, read_receipt
from fvpipe.shards.reader import open_shard
from fvpipe.shards.schema import AGAIN, check_alike, differing_attributes, opened
from fvpipe.shards.targets import TargetForm
from fvpipe.types import LABEL_NAMES

MAX_LINE_CHARACTERS = 1 << 20


def verify(folder: str | os.PathLike[str]) -> list[str]:
    """Check every byte of a shard folder against its receipt.

    Parameters
    ----------
    folder : path
        Shard folder.

    Returns
    -------
    problems : list of str
        One message per problem; empty if the folder is intact.

    Raises
    ------
    ReceiptError
        If the receipt is missing or invalid.
    """
    path = Path(folder)
    receipt = read_receipt(path)
    problems = []
    labels, flags, forms = Counter[str](), Counter[str](), set[object]()
    targets: dict[TargetForm, list[NDArray[Any]]] = {form: [np.zeros(0, form.dtype)] for form in receipt.targets}
    for entry in receipt.shards:
        file = path / entry.file
        try:
            image, columns = open_shard(file, entry, receipt)
            crcs = [zlib.crc32(np.ascontiguousarray(image[i]).data) for i in range(len(image))]
            names = np.char.decode(columns["breast_id"], "utf-8")
            damaged = np.flatnonzero(np.array(crcs, np.uint32) != columns["image_crc32"])
            problems += [f"{file}: sample {i} ({names[i]}) is damaged" for i in damaged]
            if not len(damaged) and _sha256(file) != entry.sha256:
                problems.append(f"{file}: its bytes differ from what was written")
            found = {name: int(np.count_nonzero(columns["flags"] & bit)) for name, bit in flag_names().items()}
            problems += _differing(path, f"flags of {entry.file}", entry.flags, found)
            problems += _differing_attributes(path, entry, receipt)
            check_alike(file, forms, image, columns)
            for form, parts in targets.items():
                parts.append(columns[form.path])
            flags.update(found)
            labels.update(LABEL_NAMES[label] for label in columns["label"].tolist())
        except ShardError as error:
            problems.append(str(error))
    sound = not problems
    for name in receipt.tables:
        try:
            check_table(path / name, receipt)
            if name == "rejected.csv":
                reasons = Counter(row["reason"] for row in _rows(path / name))
                problems += _differing(path, "rejections", receipt.rejections, reasons)
        except ShardError as error:
            problems.append(str(error))
            sound = sound and name != "breasts.csv"
        except (ValueError, KeyError, csv.Error) as error:
            problems.append(f"{path / name}: is not a table of rejections ({type(error).__name__}); {AGAIN}")
    if sound:
        problems += [*_differing(path, "labels", receipt.labels, labels), *_differing(path, "flags", receipt.flags, flags)]
        stored = {form: np.concatenate(parts) for form, parts in targets.items()}
        known = {form.name: int(form.is_known(values).sum()) for form, values in stored.items()}
        problems += _differing(path, "known targets", {form.name: form.known for form in receipt.targets}, known)
        if "breasts.csv" in receipt.tables:
            problems += _differing_targets(path / "breasts.csv", stored)
    listed = {entry.file for entry in receipt.shards}
    strays = [file.name for file in path.iterdir() if re.fullmatch(r"shard-\d+\.h5", file.name) and file.name not in listed]
    problems += [f"{path / name}: a shard that the receipt does not list" for name in sorted(strays)]
    return problems


def _differing(folder: Path, what: str, listed: Mapping[str, int], found: Mapping[str, int]) -> Iterator[str]:
    """Name each count of the receipt that is not that of the files."""
    for name in sorted({*listed, *found}):
        if listed.get(name, 0) != found.get(name, 0):
            count = f"{listed.get(name, 0)} {escaped(name)}; the files hold {found.get(name, 0)}"
            yield f"{folder / RECEIPT}: lists among the {what} {count}. Build the shards again"


def _differing_targets(file: Path, targets: Mapping[TargetForm, NDArray[Any]]) -> Iterator[str]:
    """Name each target whose values are not those of the table of breasts, which has a row a sample in the same order."""
    try:
        rows = list(_rows(file)) if targets else []
        for form, values in targets.items():
            cells = [row.get(form.column, "").removeprefix("'") for row in rows]  # no column: known of no breast
            if not np.array_equal(form.encode(cells), values, equal_nan=form.kind == "number"):
                yield f"{file}: gives other values of {form.name} than {form.path} of the shards. Build the shards again"
    except (ValueError, AttributeError, csv.Error) as error:
        yield f"{file}: is not a table of breasts ({type(error).__name__}); {AGAIN}"


def _rows(file: Path) -> Iterator[dict[str, str]]:
    """Rows of a table, in which no line is longer than those that a build writes; a cell that is not there is empty."""
    with io.TextIOWrapper(open_regular(file), encoding="utf-8-sig", newline="") as table:
        yield from csv.DictReader(iter(partial(table.readline, MAX_LINE_CHARACTERS), ""), restval="")


def _differing_attributes(folder: Path, entry: ShardEntry, receipt: Receipt) -> Iterator[str]:
    """Name each field of the receipt that is another one in a shard."""
    file, listed = folder / entry.file, {field.name: getattr(receipt, field.name) for field in fields(receipt)}
    with opened(file) as shard:
        for name in differing_attributes(shard, file, {**listed, "shard_index": entry.index}, receipt.targets):
            yield f"{folder / RECEIPT}: {name} differs from that of {file.name}. Build the shards again"


def _sha256(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
