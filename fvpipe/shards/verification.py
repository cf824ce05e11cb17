"""Verification of a shard folder against its receipt."""

from __future__ import annotations

import hashlib
import os
import re
import zlib
from pathlib import Path

import numpy as np

from fvpipe.errors import ShardError
from fvpipe.shards.format import read_receipt
from fvpipe.shards.reader import open_shard


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
        except ShardError as error:
            problems.append(str(error))
    for name, sha256 in receipt.tables.items():
        file = path / name
        if not file.is_file():
            problems.append(f"{file}: the receipt lists this table and it is not there")
        elif _sha256(file) != sha256:
            problems.append(f"{file}: its bytes differ from what was written")
    listed = {entry.file for entry in receipt.shards}
    strays = [file.name for file in path.iterdir() if re.fullmatch(r"shard-\d+\.h5", file.name) and file.name not in listed]
    problems += [f"{path / name}: a shard that the receipt does not list" for name in sorted(strays)]
    return problems


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
