"""What tests hand to workers. It imports next to nothing: each process that does such a task imports this module first."""

from __future__ import annotations

import os
import resource
import signal
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

HANGING = ["0"] * 8 + ["hang"] * 8
"""For :func:`doubled`: the first batches come back, those behind them take a minute."""


def doubled(tasks: list[str]) -> list[str]:
    """Each task twice; some tasks do to the process what their name says."""
    for task in tasks:
        if task == "crash":
            os.abort()
        if task in ("hang", "wait"):
            time.sleep(60 if task == "hang" else 0.2)
    return [2 * task for task in tasks]


def ended(tasks: list[int]) -> list[int]:
    """End the process by the task's signal, or with its exit code where it is negative."""
    for task in tasks:
        if task < 0:
            os._exit(-task)
        os.kill(os.getpid(), task)
    return tasks


def core_limits(tasks: list[int]) -> list[int]:
    """Bytes of memory that a crash of this process may leave on the disk."""
    return [resource.getrlimit(resource.RLIMIT_CORE)[0] for _ in tasks]


def printing(tasks: list[int]) -> list[int]:
    """Print much on both streams."""
    for stream in (1, 2):
        os.write(stream, b"0123456789" * 20_000)
    return tasks


def process_ids(tasks: list[int]) -> list[int]:
    """The process, for each task."""
    return [os.getpid()] * len(tasks)


def slow(tasks: list[int]) -> list[int]:
    """A tenth of a second for each task."""
    time.sleep(0.1 * len(tasks))
    return tasks


def stops_once(tasks: list[str]) -> list[str]:
    """Stop this process, unless the file that the task names says that one was stopped before."""
    for task in tasks:
        if not Path(task).exists():
            Path(task).touch()
            os.kill(os.getpid(), signal.SIGSTOP)
    return tasks


def stopped_while_answering(tasks: list[str]) -> list[bytes]:
    """From now on, this process is stopped when it has sent the length of its next message."""

    def send(self: Any, data: bytes) -> None:
        os.write(self.fileno(), data)
        os.kill(os.getpid(), signal.SIGSTOP)

    Connection._send = send  # type: ignore[attr-defined]
    return [bytes(1 << 20) for _ in tasks]


def decoded_with(tasks: list[tuple[Path, int]]) -> list[str]:
    """The digest of a file's pixels, decoded with so many bytes and no more."""
    import imagecodecs
    import numpy as np
    from PIL import Jpeg2KImagePlugin  # noqa: F401

    from fvpipe.dicom.decoding.pixels import decode_image
    from fvpipe.dicom.header import pixel_header
    from fvpipe.dicom.reader import open_dicom, stream
    from fvpipe.types import Laterality

    _ = imagecodecs.jpeg2k_decode, imagecodecs.jpegls_decode, imagecodecs.packbits_decode  # imported at first use
    found = list[str]()
    for path, left in tasks:
        data = path.read_bytes()
        header = pixel_header(open_dicom(stream(data)), Laterality.LEFT)
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now, -1))
        taken = list[np.ndarray]()  # what the allocator hands out beyond any limit: up to 64 MB in each thread's arena
        for size in (1 << 20, 1 << 17):
            with suppress(MemoryError):
                while True:
                    taken.append(np.empty(size, np.uint8))
        resource.setrlimit(resource.RLIMIT_AS, (now + left, -1))
        found.append(decode_image(data, header).pixel_digest)
        del taken
    return found
