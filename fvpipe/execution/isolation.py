"""Tasks in processes of their own: a decoder that crashes or hangs costs one file."""

from __future__ import annotations

import faulthandler
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Generic, TypeVar

from fvpipe.reasons import Reason, Rejection

TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Crash(Generic[TaskT]):
    """A task that ended each process that tried it.

    Attributes
    ----------
    task
    detail : str
        How.
    timed_out : bool
        It never came to an end.
    killed : bool
        By a signal that no program sends itself: the system's, where memory is short, or somebody's.
    """

    task: TaskT
    detail: str
    timed_out: bool = False
    killed: bool = False

    def rejection(self, path: str) -> Rejection:
        """What becomes of the file that the task was about."""
        return Rejection(path, Reason.DECODER_TIMEOUT if self.timed_out else Reason.DECODER_CRASHED, self.detail)


def run_batch(
    function: Callable[[list[TaskT]], list[ResultT]], batch: list[TaskT], limit: float
) -> tuple[list[ResultT], float]:
    """On a worker: the results, and the seconds that they took."""
    begun = time.perf_counter()
    with WATCH.within(limit):
        results = function(batch)
    return results, time.perf_counter() - begun


class _Watch:
    """Ends this process when a batch takes too long, even in compiled code that keeps Python waiting.

    There is one clock a process: with several threads it starts anew with each batch, and stops when none is left.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._nowhere = -1

    @contextmanager
    def within(self, limit: float) -> Iterator[None]:
        """Allow `limit` seconds for what is inside; 0: any time."""
        if not limit:
            yield
            return
        with self._lock:
            if self._nowhere < 0:
                self._nowhere = os.open(os.devnull, os.O_WRONLY)  # for the traceback that nobody asked for
            self._running += 1
            faulthandler.dump_traceback_later(limit, exit=True, file=self._nowhere)
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1
                if not self._running:
                    faulthandler.cancel_dump_traceback_later()


WATCH = _Watch()


def run_alone(connection: Connection, function: Callable[[list[TaskT]], list[ResultT]], tasks: list[TaskT]) -> None:
    """Do `tasks` one by one in this fresh process, and send each result or error."""
    connection.send(None)
    for task in tasks:
        try:
            done: tuple[bool, object] = True, function([task])[0]
        except Exception as error:
            done = False, error
        connection.send(done)


def how_it_ended(code: int) -> str:
    """Say in words how a process ended, by its exit code."""
    try:
        return (
            f"its process ended with {signal.Signals(-code).name}" if code < 0 else f"its process ended with exit code {code}"
        )
    except ValueError:
        return f"its process ended with signal {-code}"
