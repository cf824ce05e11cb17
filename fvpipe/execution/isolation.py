"""Isolation of decoders that crash or hang: each task of a failed batch in a fresh process, so that one file is lost."""

from __future__ import annotations

import faulthandler
import multiprocessing
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

MAX_CRASHES = 2  # of the processes that try a task alone: then the task is given up
MAX_KILLS = 5  # of them by a signal from outside, which says little about the task


@dataclass(frozen=True, slots=True)
class Crash(Generic[TaskT]):
    """A task that ended every process that tried it.

    Attributes
    ----------
    task : object
        The task.
    detail : str
        How the last process ended.
    timed_out : bool
        The task took longer than it may.
    killed : bool
        By SIGKILL or SIGTERM, which come from outside: from the system where memory is short, or from a user.
    """

    task: TaskT
    detail: str
    timed_out: bool = False
    killed: bool = False

    def rejection(self, path: str) -> Rejection:
        """The rejection of the file at `path`, which the task read."""
        return Rejection(path, Reason.DECODER_TIMEOUT if self.timed_out else Reason.DECODER_CRASHED, self.detail)


# --- in the calling process -------------------------------------------------------------------------------------------


def run_isolated(
    function: Callable[[list[TaskT]], list[ResultT]], tasks: list[TaskT], timeout: float
) -> list[ResultT | Crash[TaskT]]:
    """Do `tasks` in a fresh process of this host, and in another after each that crashes.

    Parameters
    ----------
    function : callable
        Importable by name; takes and returns a list.
    tasks : list
        The tasks.
    timeout : float
        Seconds that one task may take.

    Returns
    -------
    results : list
        For each task its result, or a :class:`Crash` as from :func:`run_alone`.
    """
    results: list[ResultT | Crash[TaskT]] = []
    while len(results) < len(tasks):
        done, crash = _run_fresh(function, tasks[len(results) :], timeout)
        results += done
        if crash is not None:
            result = run_alone(function, crash.task, timeout)
            results.append(result)
    return results


def run_alone(function: Callable[[list[TaskT]], list[ResultT]], task: TaskT, timeout: float) -> ResultT | Crash[TaskT]:
    """Do one task in a fresh process of this host, and again if that process dies.

    Parameters
    ----------
    function : callable
        As for :func:`run_isolated`.
    task : object
        The task.
    timeout : float
        Seconds.

    Returns
    -------
    result or Crash
        A crash after two processes died of themselves or took too long, or five were killed from outside.
    """
    crashes = kills = 0
    while True:
        done, crash = _run_fresh(function, [task], timeout)
        if crash is None:
            return done[0]
        crashes, kills = crashes + (not crash.killed), kills + crash.killed
        if crashes == MAX_CRASHES or kills == MAX_KILLS:
            return crash


def _run_fresh(
    function: Callable[[list[TaskT]], list[ResultT]], tasks: list[TaskT], timeout: float
) -> tuple[list[ResultT], Crash[TaskT] | None]:
    """Start one process for all `tasks`; returns the results until it ended, and the task that ended it, if one did."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(theirs, function, tasks), daemon=True)
    process.start()
    theirs.close()
    results: list[ResultT] = []
    try:
        ours.recv()  # it has begun: the time of its imports is not the first task's
        for task in tasks:
            if not ours.poll(timeout):
                return results, Crash(task, f"no end after {timeout:g} s", timed_out=True)
            done, result = ours.recv()
            if not done:
                raise result
            results.append(result)
    except EOFError:
        process.join()
        code = process.exitcode or 0
        killed = -code in (signal.SIGKILL, signal.SIGTERM)
        return results, Crash(tasks[len(results)], _describe_exit(code), killed=killed)
    finally:
        process.kill()
        process.join()
        ours.close()
    return results, None


def _describe_exit(code: int) -> str:
    try:
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    except ValueError:
        how = f"signal {-code}"
    return f"its process ended with {how}"


def _serve(connection: Connection, function: Callable[[list[TaskT]], list[ResultT]], tasks: list[TaskT]) -> None:
    """In the fresh process: do `tasks` one by one, and send each result or error."""
    connection.send(None)
    for task in tasks:
        try:
            done: tuple[bool, object] = True, function([task])[0]
        except Exception as error:
            done = False, error
        connection.send(done)


# --- on a worker ------------------------------------------------------------------------------------------------------


def run_batch(
    function: Callable[[list[TaskT]], list[ResultT]], batch: list[TaskT], limit: float
) -> tuple[list[ResultT], float]:
    """Do a batch, and end this process if it takes longer than `limit`.

    Returns
    -------
    (results, seconds)
        Wall time.
    """
    begun = time.perf_counter()
    with _watchdog.limit(limit):
        results = function(batch)
    return results, time.perf_counter() - begun


class _Watchdog:
    """Ends this process when a batch takes too long, also while compiled code holds the interpreter's lock.

    A process has one timer: with several threads it starts anew with each batch, and stops with the last.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._null = -1

    @contextmanager
    def limit(self, seconds: float) -> Iterator[None]:
        """Allow the context so many `seconds`; 0: any number."""
        if not seconds:
            yield
            return
        with self._lock:
            if self._null < 0:
                self._null = os.open(os.devnull, os.O_WRONLY)  # for the traceback that comes with the end
            self._running += 1
            faulthandler.dump_traceback_later(seconds, exit=True, file=self._null)
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1
                if not self._running:
                    faulthandler.cancel_dump_traceback_later()


_watchdog = _Watchdog()
