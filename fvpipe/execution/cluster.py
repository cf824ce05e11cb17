"""Dask: join a scheduler that runs, or start workers on this host. The only imports of Dask."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from fvpipe.errors import ClusterError
from fvpipe.execution.isolation import WAYS_OUT, ResultT, check_machine, describe
from fvpipe.versions import PREPROCESSING_VERSION, READER_VERSION

if TYPE_CHECKING:
    from distributed import Client, Future, SpecCluster

    from fvpipe.execution.workers import WorkerSettings

CONNECT_SECONDS = 20  # for a scheduler to answer
FIRST_WORKER_SECONDS = 60  # for it to have a worker
NO_WORKER_SECONDS = 60  # without any worker, until the run is given up
POLL_SECONDS = 5  # between two looks at whether there are workers

VERSIONS = (PREPROCESSING_VERSION, READER_VERSION)

DASK_SETTINGS = {
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.tick.cycle": "10s",
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.scheduler.allowed-failures": 1,
    "distributed.worker.memory.monitor-interval": "1s",
    "distributed.worker.profile.enabled": False,
}
"""Of a local cluster: less monitoring, which is up to a hundred times a second by default. A batch whose worker died twice
comes back, and is taken apart here."""

MALLOC_ENVIRONMENT = {
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_ARENA_MAX": "1",
}
"""Environment of workers, sizes in bytes. With Dask's own values every large array goes back to the system, which took twice
as long; an arena for each thread took a tenth of the time of RLE."""


@contextmanager
def open_client(settings: WorkerSettings, count: int) -> Iterator[Client]:
    """Join the scheduler that `settings` name, or start workers on this host; they end with the context.

    Parameters
    ----------
    settings : WorkerSettings
        Which scheduler, or how many local workers.
    count : int
        Processes or threads to start on this host.

    Raises
    ------
    ClusterError
        No scheduler or no workers answer, or the workers run another version of fvpipe.
    """
    for variable, value in MALLOC_ENVIRONMENT.items():  # before Dask is imported, which sets its own
        os.environ.setdefault(variable, value)
    import distributed  # noqa: F401 - its import sets the levels of its loggers

    # It logs the loss of a worker or scheduler as tracebacks, where fvpipe has one sentence.
    for name in [name for name in logging.root.manager.loggerDict if name.partition(".")[0] == "distributed"]:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with ExitStack() as stack:
        try:
            client = _join(settings, stack) if settings.external else _start(settings, count, stack)
        except (OSError, TimeoutError, ValueError, AssertionError, TypeError, KeyError, RuntimeError) as error:  # all were seen
            if not settings.external:
                raise _not_started(error) from None
            asked = settings.address or settings.scheduler_file
            raise ClusterError(f"{asked}: no Dask scheduler with workers answers ({type(error).__name__})") from None
        yield client


def _not_started(error: BaseException) -> ClusterError:
    """Explain why local workers did not start: by a control task's failure, or else by what Dask reports."""
    try:
        check_machine()
    except ClusterError as found:
        return found
    return ClusterError(f"the local workers never began: {describe(_cause(error))}. {WAYS_OUT}")


def _cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _without_main() -> None:
    """Keep the caller's main module out of workers: it may lack a main guard, or be standard input, which has no file.

    They do not need it: Dask sends by value what that module defines. Other processes of `multiprocessing` are as before.
    """
    from multiprocessing import spawn

    prepare = spawn.get_preparation_data
    if getattr(prepare, "without_main", False):
        return

    def prepared(name: str) -> dict[str, object]:
        keys = ("init_main_from_name", "init_main_from_path") if name.startswith("Dask Worker process") else ()
        return {key: value for key, value in prepare(name).items() if key not in keys}

    prepared.without_main = True  # type: ignore[attr-defined]
    spawn.get_preparation_data = prepared


def _join(settings: WorkerSettings, stack: ExitStack) -> Client:
    from distributed import Client

    file = None if settings.address else str(settings.scheduler_file)
    if file and not Path(file).is_file():
        raise ClusterError(f"{file}: no such scheduler file; start one with `dask scheduler --scheduler-file {file}`")
    client: Client = stack.enter_context(Client(address=settings.address or None, scheduler_file=file, timeout=CONNECT_SECONDS))
    client.wait_for_workers(1, timeout=FIRST_WORKER_SECONDS)
    found = set(client.run(_versions).values())
    if found != {VERSIONS}:
        raise ClusterError(f"the workers run another fvpipe (versions {sorted(found)}, here {VERSIONS}); install the same")
    return client


def _versions() -> tuple[int, int]:
    return VERSIONS


def _start(settings: WorkerSettings, count: int, stack: ExitStack) -> Client:
    import dask
    from distributed import Client

    from fvpipe.execution.local_cluster import start_cluster

    dask.config.set(DASK_SETTINGS)
    _without_main()
    for attempt in (1, 2, 3):
        try:
            cluster = start_cluster(count, settings.threads, FIRST_WORKER_SECONDS, stack)
            break
        except RuntimeError as error:  # a worker was killed while it started
            if attempt == 3 or isinstance(_cause(error), TimeoutError):
                raise
    client: Client = stack.enter_context(Client(cluster))
    stack.push(lambda kind, *_: _kill(cluster) if kind else None)
    return client


def _kill(cluster: SpecCluster) -> None:
    """End the workers after an error or Ctrl-C: Dask would give what they do five seconds more."""
    for nanny in cluster.workers.values():
        with suppress(AttributeError, OSError, TypeError):  # threads have no nanny; a process may not be there
            nanny.auto_restart = False
            os.kill(nanny.pid, 9)


class Submitted:
    """Batches under way on a cluster; what is left of them at the end of the context is canceled.

    Parameters
    ----------
    client : distributed.Client
        Connected to a scheduler with workers.

    Raises
    ------
    ClusterError
        From the context: the scheduler is gone.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._futures: set[Future[Any]] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        from distributed import CancelledError
        from distributed.comm.core import CommClosedError

        with suppress(Exception):  # the scheduler may be gone
            self._client.cancel(list(self._futures))
        if isinstance(error, CancelledError | CommClosedError):
            raise ClusterError(
                f"the Dask scheduler went away ({type(error).__name__}); what was finished is kept, run again to go on"
            ) from None

    def submit(self, function: Callable[..., ResultT], *arguments: object) -> Future[ResultT]:
        """Send a call of `function` to a worker."""
        future: Future[ResultT] = self._client.submit(function, *arguments, pure=False)
        self._futures.add(future)
        return future

    def finished(self, pending: Collection[Future[ResultT]]) -> list[Future[ResultT]]:
        """Wait until some of `pending` are finished, and return these.

        Raises
        ------
        ClusterError
            No worker was left for a minute.
        """
        from distributed import wait

        waited = 0
        while True:
            try:
                return list(wait(list(pending), timeout=POLL_SECONDS, return_when="FIRST_COMPLETED").done)
            except TimeoutError:
                waited = 0 if self._client.nthreads() else waited + POLL_SECONDS
                if waited >= NO_WORKER_SECONDS:
                    raise ClusterError(f"all workers are gone; what was finished is kept. {WAYS_OUT}") from None

    def result(self, future: Future[ResultT]) -> ResultT | None:
        """Take the result of a finished future off the cluster; None where the workers that tried it died."""
        from distributed.scheduler import KilledWorker

        try:
            found: ResultT = future.result()
        except KilledWorker:
            return None
        finally:
            self._futures.discard(future)
            future.release()
        return found
