"""An index that nothing has changed since is not made again: not one module that reads DICOM is even imported.

What a finished `fvpipe index` depended on is kept beside the samples: ``params.yaml``, the code, and the size, times and
inode of everything in the input folder and of each table that was written. Where all of it is what it was, the tables are
what they would become. Standard library, BLAKE3 and the listing only.
"""

from __future__ import annotations

import json
import os
import sys
import sysconfig
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3

from fvpipe.errors import FvpipeError
from fvpipe.files import file_state, write_whole
from fvpipe.identity import identifier_key
from fvpipe.listing import Listing
from fvpipe.types import Digest


@dataclass(frozen=True, slots=True)
class Finished:
    """The index of one data set as it was left.

    Attributes
    ----------
    root : str
        The input folder.
    listing : Digest
        :attr:`fvpipe.listing.Listing.state` of the input folder.
    key : str
        Digest of the key of hashed identifiers; empty where they are kept.
    files : dict of str to str
        The state of each table that was read outside the input folder, and of each that was written; empty: not there.
    result : dict
        What ``fvpipe index --json`` prints.
    """

    root: str
    listing: Digest
    key: str
    files: dict[str, str]
    result: dict[str, Any]


class Settled:
    """One `fvpipe index` command in one project, and what it found the last time.

    Parameters
    ----------
    params : Path
        The project's ``params.yaml``.
    folder : Path
        Where it is kept; may be deleted.
    names : sequence of str
        The data sets that were asked for; none: all of them.
    id_key : Path or None
        As :func:`fvpipe.identity.identifier_key` takes it.
    """

    def __init__(self, params: Path, folder: Path, names: Sequence[str], id_key: Path | None) -> None:
        self._id_key = id_key
        self._file = folder / f"index-{_digest(names)[:16]}.json"
        # Taken before anything is parsed or read: what changes from here on is seen the next time.
        packages = {sysconfig.get_path(which) for which in ("purelib", "platlib")}  # an installed update shows in their times
        code = sorted(Path(__file__).parent.rglob("*.py"))
        states = [state_of(path) for path in (params, *map(Path, sorted(packages)), *code)]
        self._call = _digest([sys.version, os.path.abspath(params), *states])

    def recall(self) -> list[dict[str, Any]] | None:
        """The results, where making them again would change nothing; else None."""
        try:
            kept = json.loads(self._file.read_bytes())
            if kept["call"] != self._call:
                return None
            found = [Finished(**finished) for finished in kept["finished"]]
            if not all(self._holds(finished) for finished in found):
                return None
        except (OSError, ValueError, KeyError, TypeError, FvpipeError):
            return None
        return [finished.result | {"read": 0} for finished in found]

    def _holds(self, finished: Finished) -> bool:
        if any(state_of(path) != state for path, state in finished.files.items()):
            return False
        if finished.key and finished.key != key_digest(identifier_key(self._id_key)):
            return False
        listing = Listing(Path(finished.root))
        deque(listing, maxlen=0)
        return listing.state == finished.listing

    def keep(self, finished: Iterable[Finished]) -> None:
        """Remember what was found."""
        kept = {"call": self._call, "finished": [asdict(each) for each in finished]}
        write_whole(self._file, json.dumps(kept, indent=1).encode(), durable=False)


def key_digest(key: bytes) -> str:
    """What is kept of a key: enough to see that it is another one."""
    return blake3(key, derive_key_context="fvpipe 2026 which identifier key").hexdigest() if key else ""


def state_of(path: str | Path) -> str:
    """:func:`fvpipe.files.file_state`, or nothing where there is no such file."""
    try:
        return file_state(os.stat(path))
    except OSError:
        return ""


def _digest(parts: Iterable[str]) -> str:
    return blake3(json.dumps(list(parts)).encode()).hexdigest()
