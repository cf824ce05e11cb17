"""Who runs the work: this process, a local Dask cluster, or an existing one. The only import of Dask."""

from __future__ import annotations

import logging
import math
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from fvpipe.errors import ClusterError
from fvpipe.execution.isolation import Crash, ResultT, TaskT, how_it_ended, run_alone, run_batch
from fvpipe.execution.pools import COUNT_SECONDS, Cluster, Pool, Processes
from fvpipe.versions import PREPROCESSING_VERSION, READER_VERSION

if TYPE_CHECKING:
    from distributed import Client, LocalCluster


VERSIONS = (PREPROCESSING_VERSION, READER_VERSION)

BATCH_SECONDS = 0.5  # of work in a batch: what the scheduler costs, about 2 ms, is then under 1 % of it
FIRST = 4  # tasks in a batch, as long as nothing is known of what one takes
FEW = 3  # tasks that one fresh process does sooner than a cluster starts
MOST = 512  # tasks in a batch: what is on its way is held in memory
HERE = 128  # tasks in a batch in this process
QUIET = {
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.tick.cycle": "10s",
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.worker.memory.monitor-interval": "1s",
    "distributed.worker.profile.enabled": False,
}
"""Of a local cluster: what Dask does up to a hundred times a second beside the work, and nobody looks at."""

KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(2**30), "MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_ARENA_MAX": "1"}
"""Environment of workers: Dask's nanny would give every large array back to the system, which took twice as long; so would a
thread's own arena, which is no larger than a few images: a tenth of RLE's time. All are needed."""


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """Which workers to use.

    Attributes
    ----------
    count : int or None
        Local processes; None: one a core; 0: no workers, this process does it (and dies with a crashing decoder).
    threads : bool
        Local threads instead of processes.
    scheduler : str
        Address of an existing Dask scheduler; wins over `count`. Empty: ``DASK_SCHEDULER_ADDRESS``, else none.
    scheduler_file : Path or None
        The file that ``dask scheduler --scheduler-file`` writes.
    timeout : float
        Seconds that one task may take; the process of one that takes longer is ended. Not with threads, nor with no workers.
    share_storage : bool
        Whether workers see the folder that samples are stored in.
    """

    count: int | None = None
    threads: bool = False
    scheduler: str = ""
    scheduler_file: Path | None = None
    timeout: float = 120.0
    share_storage: bool = True

    @property
    def address(self) -> str:
        """The scheduler's address: as given, else of the environment where nothing else was asked for."""
        chosen = self.scheduler_file is not None or self.count is not None or self.threads
        return self.scheduler or ("" if chosen else os.environ.get("DASK_SCHEDULER_ADDRESS", ""))

    @property
    def external(self) -> bool:
        """Whether an existing cluster does the work."""
        return bool(self.address or self.scheduler_file)


class Workers:
    """Runs batches of tasks; a cluster is started or joined at the first batch, and never for nothing.

    Parameters
    ----------
    settings : WorkerSettings
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self._stack = ExitStack()
        self._client: Client | None = None
        self._count, self._counted = 0, -math.inf

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._stack.close()

    @property
    def share_storage(self) -> bool:
        """Whether workers write where this process reads."""
        return self.settings.share_storage

    @property
    def count(self) -> int:
        """How many tasks run at once, as far as is known."""
        if self._client is not None:
            if time.monotonic() - self._counted > COUNT_SECONDS:  # a cluster may grow
                self._count, self._counted = sum(self._client.nthreads().values()), time.monotonic()
            return max(self._count, 1)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()  # macOS has no affinity
        return self.settings.count or cores or 1

    def run(
        self, function: Callable[[list[TaskT]], list[ResultT]], tasks: Collection[TaskT], *, short: int = 0
    ) -> Iterator[list[ResultT | Crash[TaskT]]]:
        """Apply `function` to batches of `tasks`, and yield its results batch by batch, in the order of completion.

        Parameters
        ----------
        function : callable
            Importable by name; takes and returns a list.
        tasks : collection
            Iterated once.
        short : int
            The tasks are so short that up to so many are done in this process, and more in bare processes of this host,
            where no cluster runs yet: they start sooner than one, do the same in less time, and need no Dask in memory.

        Yields
        ------
        list
            For each task its result, or a :class:`Crash` where it ended its process twice, alone in a fresh one.

        Raises
        ------
        ClusterError
            No scheduler, no workers, or other versions of fvpipe there.
        """
        if not tasks:
            return
        if len(tasks) <= short or (self.settings.count == 0 and not self.settings.external):
            waiting = iter(tasks)
            while batch := list(islice(waiting, HERE)):
                yield list(function(batch))
        elif self.settings.external or self.settings.threads or self._client or (len(tasks) > FEW and not short):
            with Cluster(self._start()) as cluster:
                yield from self._submit(cluster, function, tasks)
        elif len(tasks) <= FEW:
            yield self._apart(function, list(tasks))
        else:
            with Processes(self.count) as processes:
                self._stack.callback(processes.end)  # whoever is stopped by an error may keep this generator half way
                yield from self._submit(processes, function, tasks)

    def _submit(
        self,
        pool: Pool,
        function: Callable[[list[TaskT]], list[ResultT]],
        tasks: Collection[TaskT],
    ) -> Iterator[list[ResultT | Crash[TaskT]]]:
        """Two batches a worker are on their way; each is as large as what came back says that it should be."""
        limit = 0.0 if self.settings.threads else self.settings.timeout
        pending: dict[Any, list[TaskT]] = {}
        waiting, left, seconds = iter(tasks), len(tasks), 0.0  # seconds a task, as measured; 0: not yet
        while left or pending:
            while left and len(pending) < 2 * self.count:
                share = -(-left // (2 * self.count))  # so that all end together
                size = min(int(BATCH_SECONDS / seconds) if seconds else FIRST, share, MOST)
                batch = list(islice(waiting, max(1, size)))
                # Once it is known that a batch takes half a second, all of it has the time that one task may take: the
                # clock is not set for each. One that needs longer is taken apart, and each task has it for itself.
                allowed = limit if seconds else limit * len(batch)
                pending[pool.submit(run_batch, function, batch, allowed)], left = batch, left - len(batch)
            for future in pool.finished(pending):
                batch = pending.pop(future)
                found: tuple[list[ResultT], float] | None = pool.result(future)
                if found is None:  # which task it was, or whether somebody else killed it, shows when each is alone
                    yield self._apart(function, batch)
                else:
                    results, took = found
                    seconds = took / len(batch)
                    yield [*results]

    def _apart(self, function: Callable[[list[TaskT]], list[ResultT]], batch: list[TaskT]) -> list[ResultT | Crash[TaskT]]:
        """What a batch that ended its workers comes to, with the task that did it found."""
        results: list[ResultT | Crash[TaskT]] = []
        while len(results) < len(batch):
            done, crash = self._fresh(function, batch[len(results) :])
            results += done
            if crash is not None:
                result = self.alone(function, crash.task)
                results.append(result)
        return results

    def alone(self, function: Callable[[list[TaskT]], list[ResultT]], task: TaskT) -> ResultT | Crash[TaskT]:
        """Do one task in a fresh process of this host, and again if it dies.

        Returns
        -------
        result, or Crash
            A crash after the second time; after the fifth, where somebody killed the process: that blames no task so soon.
        """
        died = killed = 0
        while True:
            done, crash = self._fresh(function, [task])
            if crash is None:
                return done[0]
            died, killed = died + (not crash.killed), killed + crash.killed
            if died == 2 or killed == 5:
                return crash

    def _fresh(
        self, function: Callable[[list[TaskT]], list[ResultT]], tasks: list[TaskT]
    ) -> tuple[list[ResultT], Crash[TaskT] | None]:
        """One process for all `tasks`: the results until it ended, and the task at which it did, if it did too early."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=run_alone, args=(theirs, function, tasks), daemon=True)
        process.start()
        theirs.close()
        results: list[ResultT] = []
        try:
            ours.recv()  # it has begun: what it imports is not what a task takes
            for task in tasks:
                if not ours.poll(self.settings.timeout):
                    return results, Crash(task, f"no end after {self.settings.timeout:g} s", timed_out=True)
                done, result = ours.recv()
                if not done:
                    raise result
                results.append(result)
        except EOFError:
            process.join()
            code = process.exitcode or 0
            killed = -code in (signal.SIGKILL, signal.SIGTERM)
            return results, Crash(tasks[len(results)], how_it_ended(code), killed=killed)
        finally:
            process.kill()
            process.join()
            ours.close()
        return results, None

    def _start(self) -> Client:
        if self._client is not None:
            return self._client
        for variable, value in KEEP_MEMORY.items():  # early: it beats Dask's own
            os.environ.setdefault(variable, value)
        import dask
        from distributed import Client

        # What it logs of a lost worker or scheduler are tracebacks; ours is one sentence. Importing it sets its levels.
        for name in [name for name in logging.root.manager.loggerDict if name.partition(".")[0] == "distributed"]:
            logging.getLogger(name).setLevel(logging.CRITICAL)

        settings = self.settings
        try:
            if settings.external:
                where = settings.address or None
                file = None if where else str(settings.scheduler_file)
                if file and not Path(file).is_file():
                    raise ClusterError(
                        f"{file}: no such scheduler file; start one with `dask scheduler --scheduler-file {file}`"
                    )
                client: Client = self._stack.enter_context(Client(address=where, scheduler_file=file, timeout=20))
                client.wait_for_workers(1, timeout=60)
                found = set(client.run(_versions).values())
                if found != {VERSIONS}:
                    raise ClusterError(
                        f"the workers run another fvpipe (versions {sorted(found)}, here {VERSIONS}); install the same"
                    )
            else:
                dask.config.set({"distributed.scheduler.allowed-failures": 1})  # each batch that fails is taken apart here
                client = self._stack.enter_context(Client(self._stack.enter_context(self._local_cluster())))
        except (OSError, TimeoutError, ValueError, AssertionError, TypeError, KeyError, RuntimeError) as error:  # all were seen
            asked = settings.address or settings.scheduler_file or "a local cluster"
            raise ClusterError(f"{asked}: no Dask scheduler with workers answers ({type(error).__name__})") from None
        self._client = client
        return client

    def _local_cluster(self) -> LocalCluster:
        import dask
        from distributed import LocalCluster

        dask.config.set(QUIET)
        threads = self.settings.threads
        for attempt in (1, 2, 3):
            try:
                return LocalCluster(
                    n_workers=1 if threads else self.count,
                    threads_per_worker=self.count if threads else 1,
                    processes=not threads,
                    dashboard_address=None,
                    scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # or a second build warns of the first one's port
                    silence_logs=logging.CRITICAL,
                )
            except RuntimeError:  # a worker was killed before it was one
                if attempt == 3:
                    raise
        raise AssertionError


def _versions() -> tuple[int, int]:
    return VERSIONS
