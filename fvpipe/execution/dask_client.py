"""Dask: its settings, and the clients of a scheduler that runs or of workers on this host (`dask_local_cluster.py`)."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

from fvpipe.errors import ClusterError
from fvpipe.execution.isolation import WAYS_OUT, ResultT, check_machine, describe
from fvpipe.versions import PREPROCESSING_VERSION, READER_VERSION

if TYPE_CHECKING:
    from distributed import Client, Future

    from fvpipe.execution.workers import WorkerSettings

ANSWER_SECONDS = 20  # for a scheduler, or a worker of one, to answer
FIRST_WORKER_SECONDS = 60  # for it to have a worker
GONE_SECONDS = 50  # without any worker, or any answer of the scheduler, until the run is given up: within the minute
SILENT_SECONDS = 15  # beyond the limit of a task that a worker may send no heartbeat, until it is replaced
CLOSE_SECONDS = 10  # for a connection to be closed
POLL_SECONDS = 5  # between two looks at the workers
FILES, FILES_PER_WORKER = 18, 12  # open in the process that starts workers, measured; many systems allow 1,024

VERSIONS = (PREPROCESSING_VERSION, READER_VERSION)

DASK_SETTINGS = {
    "distributed.admin.low-level-log-length": 0,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.tick.cycle": "10s",
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.scheduler.allowed-failures": 1,
    "distributed.worker.memory.monitor-interval": "1s",
    "distributed.worker.profile.enabled": False,
}
"""Of a local cluster: less monitoring, which is up to a hundred times a second by default, and no log of the last thousand
messages, which are all batches of half a million files. A batch whose worker died twice comes back, and is taken apart here."""

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
            raise ClusterError(
                f"{asked}: no Dask scheduler with workers answers ({type(error).__name__}); expected the address of one, as "
                "tcp://HOST:8786, that workers have joined"
            ) from None
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

    class Joining(Client):
        """Bounds the whole start: Dask waits for ever for the first words of whoever accepts its connection."""

        def start(self, **kwargs: Any) -> None:
            try:
                super().start(**kwargs, callback_timeout=ANSWER_SECONDS)
            except BaseException:
                self.status = "closed"  # or its end, too, would wait for a scheduler
                raise

    file = None if settings.address else str(settings.scheduler_file)
    if file and not Path(file).is_file():
        raise ClusterError(f"{file}: no such scheduler file; start one with `dask scheduler --scheduler-file {file}`")
    client: Client = Joining(address=settings.address or None, scheduler_file=file, timeout=ANSWER_SECONDS)
    stack.callback(_close, client)
    client.wait_for_workers(1, timeout=FIRST_WORKER_SECONDS)
    found = client.sync(_versions_of_workers, client)
    if set(found.values()) == {None}:
        raise ClusterError(
            f"{settings.address or file}: none of the {len(found)} workers of this Dask scheduler answers within "
            f"{ANSWER_SECONDS} s; are they stopped or overloaded? Start them again"
        )
    if others := set(found.values()) - {VERSIONS, None}:  # one that is stopped is looked after as one that stops later
        raise ClusterError(f"the workers run another fvpipe (versions {sorted(others)}, here {VERSIONS}); install the same")
    return client


def _close(client: Client) -> None:
    with suppress(Exception):  # its scheduler may be gone, or stopped
        client.close(CLOSE_SECONDS)


async def _versions_of_workers(client: Client) -> dict[str, tuple[int, int] | None]:
    """Ask each worker for itself; None where it does not answer."""

    async def ask(worker: str) -> tuple[int, int] | None:
        with suppress(TimeoutError, OSError):
            answers = await asyncio.wait_for(client.run(_versions, workers=[worker]), ANSWER_SECONDS)
            return cast(tuple[int, int], tuple(answers[worker]))
        return None

    scheduler: Any = client.scheduler
    workers = list(await scheduler.ncores())
    return dict(zip(workers, await asyncio.gather(*map(ask, workers)), strict=True))


def _versions() -> tuple[int, int]:
    return VERSIONS


def _start(settings: WorkerSettings, count: int, stack: ExitStack) -> Client:
    import dask
    from distributed import Client

    from fvpipe.execution.dask_local_cluster import start_cluster

    dask.config.set(DASK_SETTINGS)
    _without_main()
    if not settings.threads:
        _allow_files(FILES + FILES_PER_WORKER * count)
    for attempt in (1, 2, 3):
        try:
            cluster = start_cluster(count, settings.threads, FIRST_WORKER_SECONDS, stack)
            break
        except RuntimeError as error:  # a worker was killed while it started
            if attempt == 3 or isinstance(_cause(error), TimeoutError):
                raise
    client: Client = stack.enter_context(Client(cluster))
    return client


def _allow_files(needed: int) -> None:
    """Let this process open so many files, where it may: without them a scheduler never answers, and does not say why.

    Raises
    ------
    ClusterError
        It may not.
    """
    try:
        import resource
    except ImportError:  # Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * needed  # files of the build itself come on top
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise ClusterError(
            f"the workers need {needed} open files, and this process may have {hard}; raise the limit (`ulimit -Hn`), or use "
            "fewer --workers; `--workers 0` does the work in this process"
        )
    with suppress(ValueError, OSError):  # a system may allow less than it says
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


class Clock:
    """The one clock outside the workers: it replaces those that are silent, and gives up where nobody is left.

    A worker sends heartbeats while it works. One that was stopped, or hangs in the kernel, sends none, and cannot end itself as
    one whose task takes too long does. Time is counted in looks, so that a computer that slept blames nobody.

    Parameters
    ----------
    client : distributed.Client
        Connected to a scheduler with workers.
    limit : float
        Seconds that a task may keep a worker from sending a heartbeat; 0: any number.
    """

    def __init__(self, client: Client, limit: float) -> None:
        self._client = client
        self._limit = limit + SILENT_SECONDS if limit else math.inf
        self._looked = -math.inf
        self._silent: dict[str, tuple[float, float]] = {}  # worker -> last heartbeat, seconds since it was first seen
        self._alone = self._unanswered = 0.0  # seconds without a worker, without an answer
        self.threads = 0  # of all workers

    def look(self) -> None:
        """See after the workers; does nothing where that was done a moment ago.

        Raises
        ------
        ClusterError
            No worker was left, or the scheduler did not answer, for nearly a minute.
        """
        asked = time.monotonic()
        if asked - self._looked < POLL_SECONDS:
            return
        try:
            workers = self._ask("identity", n_workers=-1)["workers"]
        except OSError:  # a TimeoutError is one
            self._unanswered += POLL_SECONDS + min(time.monotonic() - asked, ANSWER_SECONDS)
            if self._unanswered >= GONE_SECONDS:
                raise ClusterError(
                    f"the Dask scheduler has not answered for {GONE_SECONDS} s; what was finished is kept, run again to go on"
                ) from None
            return
        finally:
            self._looked = time.monotonic()
        self._unanswered = 0.0
        self.threads = sum(worker["nthreads"] for worker in workers.values())
        self._alone = 0.0 if workers else self._alone + POLL_SECONDS
        if self._alone >= GONE_SECONDS:
            raise ClusterError(f"all workers are gone; what was finished is kept. {WAYS_OUT}")
        before, self._silent = self._silent, {}
        for name, worker in workers.items():
            beat, seconds = before.get(name, (worker["last_seen"], -float(POLL_SECONDS)))
            self._silent[name] = worker["last_seen"], seconds + POLL_SECONDS if beat == worker["last_seen"] else 0.0
        stale = [name for name, (_, seconds) in self._silent.items() if seconds >= self._limit]
        if stale:
            waits = {"timeout": ANSWER_SECONDS, "wait_for_workers": False}
            with suppress(OSError):
                self._ask("restart_workers", workers=stale, on_error="return", stimulus_id="fvpipe-silent", **waits)

    def _ask(self, question: str, **arguments: Any) -> Any:
        return self._client.sync(getattr(self._client.scheduler, question), **arguments, callback_timeout=ANSWER_SECONDS)


class Submitted:
    """Batches under way on a cluster; what is left of them at the end of the context is canceled.

    Parameters
    ----------
    client : distributed.Client
        Connected to a scheduler with workers.
    clock : Clock
        Of the workers.

    Raises
    ------
    ClusterError
        From the context: the scheduler is gone.
    """

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
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
        # As one object, since Dask looks into lists and tuples, however long, for results of other calls.
        future: Future[ResultT] = self._client.submit(partial(function, *arguments), pure=False)
        self._futures.add(future)
        return future

    def finished(self, pending: Collection[Future[ResultT]]) -> list[Future[ResultT]]:
        """Wait until some of `pending` are finished, and return these.

        Raises
        ------
        ClusterError
            As from :meth:`Clock.look`.
        """
        from distributed import wait

        while True:
            self._clock.look()
            with suppress(TimeoutError):
                return list(wait(list(pending), timeout=POLL_SECONDS, return_when="FIRST_COMPLETED").done)

    def result(self, future: Future[ResultT]) -> ResultT | None:
        """Take the result of a finished future off the cluster; None where the workers that tried it died."""
        from distributed.scheduler import KilledWorker

        async def fetch() -> ResultT:
            result: ResultT = await self._client.gather(future, asynchronous=True)
            return result

        loop: Any = self._client.loop
        fetched = asyncio.run_coroutine_threadsafe(fetch(), loop.asyncio_loop)
        try:
            while True:
                try:
                    return fetched.result(POLL_SECONDS)
                except TimeoutError:  # the worker that holds it may have been stopped since
                    if fetched.done():
                        raise
                    self._clock.look()
        except KilledWorker:
            return None
        finally:
            fetched.cancel()
            self._futures.discard(future)
            future.release()
