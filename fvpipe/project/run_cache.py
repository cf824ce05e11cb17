"""A run of which nothing has changed since is not made again: not one module that reads DICOM is even imported.

What a finished `fvpipe index` or `fvpipe build-shards` depended on is kept beside the samples: its options, the settings,
the code, and the size, times and inode of everything in the input folder, and of each file that was read or written. Where
all of it is what it was, so are the tables and shards. Standard library, BLAKE3 and the listing only.
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

from fvpipe.config.identifier_key import identifier_key
from fvpipe.errors import FvpipeError
from fvpipe.indexing.scan import FolderScan
from fvpipe.io.atomic import write_atomic
from fvpipe.io.read import file_state
from fvpipe.types import Digest


@dataclass(frozen=True, slots=True)
class Finished:
    """One data set as a run left it.

    Attributes
    ----------
    root : str
        The input folder.
    listing : Digest
        :attr:`fvpipe.indexing.scan.FolderScan.state` of the input folder.
    key : str
        Digest of the key of hashed identifiers; empty where they are kept.
    files : dict of str to str
        The state of each file that was read outside the input folder, and of each file and folder that was written; empty:
        not there.
    results : list of dict
        What the command prints with ``--json`` where nothing has changed.
    said : list of str
        What it says of the data set besides.
    """

    root: str
    listing: Digest
    key: str
    files: dict[str, str]
    results: list[dict[str, Any]]
    said: list[str]


class Settled:
    """One command with its options, and what it found the last time.

    Parameters
    ----------
    folder : Path
        Where it is kept; may be deleted.
    command : sequence of str
        Its name and all options that decide what comes of it.
    id_key : Path or None
        As :func:`fvpipe.config.identifier_key.identifier_key` takes it.
    params : Path
        The project's ``params.yaml``.
    """

    def __init__(self, folder: Path, command: Sequence[str], id_key: Path | None, params: Path = Path("params.yaml")) -> None:
        self._id_key = id_key
        self._file = folder / f"{command[0]}-{_digest(command)[:16]}.json"
        # Taken before anything is parsed or read: what changes from here on is seen the next time.
        libraries = _libraries()  # an installed update shows in their times
        code = map(str, sorted(Path(__file__).parent.rglob("*.py")))
        states = [state_of(path) for path in (str(params), *libraries, *code)]
        self._call = _digest([sys.version, os.path.abspath(params), *command, *libraries, *states])

    def recall(self) -> list[Finished] | None:
        """What was found, where making it again would change nothing; else None."""
        try:
            kept = json.loads(self._file.read_bytes())
            if kept["call"] != self._call:
                return None
            found = [Finished(**finished) for finished in kept["finished"]]
            return found if all(self._holds(finished) for finished in found) else None
        except (OSError, ValueError, KeyError, TypeError, FvpipeError):
            return None

    def _holds(self, finished: Finished) -> bool:
        if any(state_of(path) != state for path, state in finished.files.items()):
            return False
        if finished.key and finished.key != key_digest(identifier_key(self._id_key)):
            return False
        listing = FolderScan(Path(finished.root))
        deque(listing, maxlen=0)
        return listing.state == finished.listing

    def keep(self, finished: Iterable[Finished]) -> None:
        """Remember what was found."""
        kept = {"call": self._call, "finished": [asdict(each) for each in finished]}
        write_atomic(self._file, json.dumps(kept, indent=1).encode(), durable=False)


def forget(folder: Path) -> None:
    """Believe no run that was kept in `folder`: what is read from here on may show that a file has rotted."""
    for file in (*folder.glob("index-*.json"), *folder.glob("build-*.json")):
        file.unlink(missing_ok=True)


def key_digest(key: bytes) -> str:
    """What is kept of a key: enough to see that it is another one."""
    return blake3(key, derive_key_context="fvpipe 2026 which identifier key").hexdigest() if key else ""


def state_of(path: str | Path) -> str:
    """:func:`fvpipe.io.read.file_state`, or nothing where there is no such file."""
    try:
        return file_state(os.stat(path))
    except OSError:
        return ""


def _libraries() -> list[str]:
    """The folders that packages are imported from: not Python's own, nor the program's, the project's and fvpipe's, whose times
    change at every step.
    """
    own = {Path.cwd(), Path(sys.argv[0]).absolute().parent, Path(sys.executable).parent, Path(__file__).parents[1]}
    python = {Path(sysconfig.get_path(which)) for which in ("stdlib", "platstdlib")}
    folders = {Path(path).absolute() for path in sys.path} - own - python
    return sorted(str(each) for each in folders if each.parent not in python or each.name.endswith("-packages"))


def _digest(parts: Iterable[str]) -> str:
    return blake3(json.dumps(list(parts)).encode()).hexdigest()
