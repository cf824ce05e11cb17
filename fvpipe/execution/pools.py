"""Where batches run: a Dask cluster, or processes of this host."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Collection
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from fvpipe.errors import ClusterError
from fvpipe.execution.isolation import ResultT

if TYPE_CHECKING:
    from distributed import Client, Future


COUNT_SECONDS, POLL_SECONDS, NO_WORKER_SECONDS = 5, 5, 60


class Pool(Protocol):
    """Where batches go."""

    def submit(self, function: Callable[..., Any], /, *arguments: object) -> Any:
        """A future of `function` of `arguments`."""

    def finished(self, pending: Collection[Any], /) -> list[Any]:
        """Wait for some of the futures `pending`."""

    def result(self, future: Any, /) -> Any:
        """What came of a finished one; None where its process died, perhaps of another batch. It is forgotten."""


class Cluster:
    """Where batches go: a Dask cluster."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._sent: set[Future[Any]] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        from distributed import CancelledError
        from distributed.comm.core import CommClosedError

        with suppress(Exception):  # the scheduler may be gone
            self._client.cancel(list(self._sent))
        if isinstance(error, CancelledError | CommClosedError):
            raise ClusterError(
                f"the Dask scheduler went away ({type(error).__name__}); what was finished is kept, run again to go on"
            ) from None

    def submit(self, function: Callable[..., ResultT], *arguments: object) -> Future[ResultT]:
        """As :meth:`_Pool.submit`."""
        future: Future[ResultT] = self._client.submit(function, *arguments, pure=False)
        self._sent.add(future)
        return future

    def finished(self, pending: Collection[Future[ResultT]]) -> list[Future[ResultT]]:
        """As :meth:`_Pool.finished`; raises ClusterError where no worker is left."""
        from distributed import wait

        waited = 0
        while True:
            try:
                return list(wait(list(pending), timeout=POLL_SECONDS, return_when="FIRST_COMPLETED").done)
            except TimeoutError:
                waited = 0 if self._client.nthreads() else waited + POLL_SECONDS
                if waited >= NO_WORKER_SECONDS:
                    raise ClusterError("all workers are gone; what was finished is kept, run again to go on") from None

    def result(self, future: Future[ResultT]) -> ResultT | None:
        """As :meth:`_Pool.result`."""
        from distributed.scheduler import KilledWorker

        try:
            found: ResultT = future.result()
        except KilledWorker:
            return None
        finally:
            self._sent.discard(future)
            future.release()
        return found


class Processes:
    """Where batches go: bare processes of this host."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._pool = self._fresh()

    def _fresh(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(self._count, multiprocessing.get_context("spawn"), _end_with_parent)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if kind is None:
            self._pool.shutdown()
        else:
            self.end()

    def end(self) -> None:
        """End the processes at once, in the middle of what they do; again is no harm."""
        for process in list((self._pool._processes or {}).values()):  # None once it is shut down
            process.kill()
        self._pool.shutdown(cancel_futures=True)

    def submit(self, function: Callable[..., ResultT], *arguments: object) -> concurrent.futures.Future[ResultT]:
        """As :meth:`_Pool.submit`."""
        # A process is started here, and is as deaf to Ctrl-C as this thread is now: the parent says when it ends.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return self._pool.submit(function, *arguments)
        except BrokenProcessPool:
            self._pool = self._fresh()
            return self._pool.submit(function, *arguments)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def finished(self, pending: Collection[concurrent.futures.Future[ResultT]]) -> list[concurrent.futures.Future[ResultT]]:
        """As :meth:`_Pool.finished`."""
        return list(concurrent.futures.wait(pending, return_when=concurrent.futures.FIRST_COMPLETED).done)

    def result(self, future: concurrent.futures.Future[ResultT]) -> ResultT | None:
        """As :meth:`_Pool.result`: all processes of a pool end with the first that dies."""
        try:
            return future.result()
        except BrokenProcessPool:
            return None


def _end_with_parent() -> None:
    """In a process of the pool: it would wait for work for ever where the one that gives it was killed."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
