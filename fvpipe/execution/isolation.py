"""Isolation of decoders that crash or hang: each task of a failed batch in a fresh process, so that one file is lost.

A task is blamed only for what it did itself: a process that had begun it ended by a signal of a crash or took too long,
twice, and between the two a control task showed that this machine can run one. A process that never began, or that was
ended by anything else (SIGKILL where memory is short), says nothing about a file and ends the run with an error.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from fvpipe.errors import ClusterError
from fvpipe.reasons import Reason, Rejection

TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")

MAX_CRASHES = 2  # of the processes that try a task alone: then the task is given up
MAX_KILLS = 3  # of them by anything but the task: then the run is given up
START_SECONDS = 120  # for a fresh process to start, imports included
END_SECONDS = 10  # for one to end that has closed its connection
CONTROL_SECONDS = 60  # that the control task may take
CONTROL_BYTES = 1 << 30  # that it asks for: ample for an image
OUTPUT_BYTES = 4096  # that are kept of what a process prints

CRASH_SIGNALS = ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE")
"""Signals that a decoder raises in its own process. All others come from outside."""

WAYS_OUT = (
    "No file is blamed and nothing was committed. Is there too little memory, or a limit (`ulimit -a`)? `TMPDIR` names another "
    "folder for temporary files, `--workers 0` does the work in this process"
)


@dataclass(frozen=True, slots=True)
class Crash(Generic[TaskT]):
    """A task that ended every process that tried it."""

    task: TaskT
    detail: str  # how the last process ended
    timed_out: bool = False  # the task took longer than it may

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
        Takes and returns a list.
    timeout : float
        Seconds that one task may take.

    Returns
    -------
    results : list
        For each task its result, or a :class:`Crash` as from :func:`run_alone`.

    Raises
    ------
    ClusterError
        A process never began, or was killed again and again.
    """
    results: list[ResultT | Crash[TaskT]] = []
    while len(results) < len(tasks):
        done, end = _run_fresh(function, tasks[len(results) :], timeout)
        results += done
        if end is not None:
            result = run_alone(function, tasks[len(results)], timeout)
            results.append(result)
    return results


def run_alone(function: Callable[[list[TaskT]], list[ResultT]], task: TaskT, timeout: float) -> ResultT | Crash[TaskT]:
    """Do one task in a fresh process of this host, and again if that process dies.

    Parameters
    ----------
    function : callable
        As for :func:`run_isolated`.
    timeout : float
        Seconds.

    Returns
    -------
    result or Crash
        A crash after two processes crashed or took too long, and one did a control task between them.

    Raises
    ------
    ClusterError
        A process never began, was killed again and again, or could not do the control task.
    """
    crashes = kills = 0
    while True:
        done, end = _run_fresh(function, [task], timeout)
        if end is None:
            return done[0]
        if end.by_task:
            crashes += 1
            if crashes == MAX_CRASHES:
                return Crash(task, end.detail, end.timed_out)
            check_machine()
        else:
            kills += 1
            if kills == MAX_KILLS:
                raise ClusterError(f"fresh processes were ended from outside {kills} times ({end.detail}). {WAYS_OUT}")


def check_machine() -> None:
    """Do a control task in a fresh process.

    Raises
    ------
    ClusterError
        This machine cannot do it: it is not a fault of a file.
    """
    try:
        _, end = _run_fresh(control, [CONTROL_BYTES], CONTROL_SECONDS)
    except (MemoryError, ImportError, RuntimeError, OSError) as error:
        raise ClusterError(f"a control task without any file failed: {describe(error)}. {WAYS_OUT}") from None
    if end is not None:
        raise ClusterError(f"a control task without any file failed: {end.detail}. {WAYS_OUT}")


@dataclass(frozen=True, slots=True)
class _End:
    """How a process ended within a task."""

    detail: str
    by_task: bool  # it crashed or took too long; False: something else ended it
    timed_out: bool = False


def _run_fresh(
    function: Callable[[list[TaskT]], list[ResultT]], tasks: list[TaskT], timeout: float
) -> tuple[list[ResultT], _End | None]:
    """Start one process for all `tasks`; returns the results until it ended, and how, if it did not do all of them."""
    import cloudpickle

    results: list[ResultT] = []
    with _FreshProcess() as process:
        process.begin(cloudpickle.dumps((function, tasks)))
        for _ in tasks:
            try:
                done, result = process.receive(timeout)
            except TimeoutError:
                return results, _End(f"no end after {timeout:g} s", by_task=True, timed_out=True)
            except (EOFError, OSError):
                return results, _end_of(process.exit_code())
            if not done:
                raise result
            results.append(result)
    return results, None


def _end_of(code: int | None) -> _End:
    name = "" if code is None or code >= 0 else _signal_name(-code)
    how = "no exit code" if code is None else name or f"exit code {code}"
    return _End(f"its process ended with {how}", by_task=name in CRASH_SIGNALS)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def describe(error: BaseException) -> str:
    """Type and message of an error."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


class _FreshProcess:
    """A process of this interpreter that does tasks, without the main module of this one: it needs no main guard.

    What it prints is kept, to say why it never began; later output may show values of a file, and is not used.

    Raises
    ------
    ClusterError
        It cannot be started.
    """

    def __init__(self) -> None:
        flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined] # as multiprocessing does
        try:
            self._connection, theirs = multiprocessing.Pipe()
            with theirs:
                child = theirs.fileno()
                self._process = subprocess.Popen(  # noqa: S603 - this interpreter
                    [sys.executable, *flags, "-c", _START, str(child), *sys.path],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    pass_fds=[child],
                )
        except (OSError, MemoryError) as error:
            raise _never_began(describe(error)) from None
        assert self._process.stdout
        self._output = self._process.stdout
        self._open: list[Any] = [self._connection, self._output]
        self._printed = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):  # it may hang in the kernel, as on a network's disk that went away
            self._process.wait(END_SECONDS)
        self._output.close()
        self._connection.close()

    def begin(self, work: bytes) -> None:
        """Hand `work` over, and wait until it has been understood: the time of imports is not the first task's.

        Raises
        ------
        ClusterError
            The process never began.
        """
        try:
            with self._killed_after(START_SECONDS):
                self._connection.send_bytes(work)
            self.receive(START_SECONDS)
        except TimeoutError:
            raise _never_began(f"no answer after {START_SECONDS} s") from None
        except (EOFError, OSError):
            how = _end_of(self.exit_code()).detail
            lines = self._printed.decode("utf-8", "replace").split("\n")
            last = next((line.strip() for line in reversed(lines) if line.strip()), "")
            raise _never_began(f"{how}: {last}" if last else how) from None

    def receive(self, seconds: float) -> Any:
        """Return the next message.

        Raises
        ------
        TimeoutError
            There is none for so many seconds.
        EOFError, OSError
            The process has ended.
        """
        deadline = time.monotonic() + seconds
        while True:
            ready = wait(self._open, max(deadline - time.monotonic(), 0))
            if self._connection in ready:
                with self._killed_after(deadline - time.monotonic()):
                    return self._connection.recv()
            if not ready:
                raise TimeoutError
            self._read_output()

    @contextmanager
    def _killed_after(self, seconds: float) -> Iterator[None]:
        """Kill the process after so many seconds: one that is stopped within a message would be waited for.

        Raises
        ------
        TimeoutError
            It was killed.
        """
        late = threading.Event()

        def end() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(max(seconds, 0), end)
        timer.daemon = True
        timer.start()
        try:
            yield
        except (EOFError, OSError):
            if late.is_set():
                raise TimeoutError from None
            raise
        finally:
            timer.cancel()

    def _read_output(self) -> None:
        found = os.read(self._output.fileno(), OUTPUT_BYTES)
        self._printed = (self._printed + found)[-OUTPUT_BYTES:]
        if not found:
            self._open.remove(self._output)

    def exit_code(self) -> int | None:
        """Exit code of the process, which has closed its connection; None where it does not end."""
        while self._output in self._open and wait(self._open[-1:], END_SECONDS):
            self._read_output()
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(END_SECONDS)
        return None


def _never_began(cause: str) -> ClusterError:
    return ClusterError(f"a fresh process for the work never began: {cause}. {WAYS_OUT}")


_START = """\
import sys
sys.path[:] = sys.argv[2:]
from fvpipe.execution.isolation import serve
serve(int(sys.argv[1]))
"""


# --- in the fresh process ---------------------------------------------------------------------------------------------


def serve(descriptor: int) -> None:
    """Receive a function and tasks, do these one by one, and send each result or error.

    Parameters
    ----------
    descriptor : int
        File descriptor of the connection to the calling process.
    """
    leave_no_core_dump()
    connection = Connection(descriptor)
    function, tasks = pickle.loads(connection.recv_bytes())  # noqa: S301 - from the process that started this one
    connection.send(None)
    for task in tasks:
        try:
            done: tuple[bool, object] = True, function([task])[0]
        except Exception as error:
            done = False, error
        connection.send(done)


def leave_no_core_dump() -> None:
    """Let a crash of this process leave no copy of its memory, which holds headers and pixels, in whatever folder it is in."""
    with suppress(ImportError):  # Windows leaves none
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def control(sizes: list[int]) -> list[bool]:
    """Do what every task does, without a file: load the compiled libraries, start a thread, take so many bytes of memory."""
    import cv2
    import imagecodecs
    import numpy as np

    thread = threading.Thread(target=cv2.setNumThreads, args=(1,))
    thread.start()
    thread.join()
    memory = np.empty(max(sizes), np.uint8)
    memory[: 1 << 16] = 1
    return [imagecodecs.packbits_decode(imagecodecs.packbits_encode(bytes(size % 7 + 9))) != b"" for size in sizes]


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
