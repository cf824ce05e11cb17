"""Workers that run tasks: in this process, isolated in a fresh one, or in batches on the workers of a Dask cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

from fvpipe.errors import ClusterError
from fvpipe.execution.cores import core_count
from fvpipe.execution.dask_client import Clock, Submitted, open_client
from fvpipe.execution.isolation import WAYS_OUT, Crash, ResultT, TaskT, run_batch, run_isolated

if TYPE_CHECKING:
    from distributed import Client

BATCH_SECONDS = 0.5  # of work in a batch on a cluster: the scheduler takes about 2 ms for one, which is then under 1 %
FIRST_BATCH_TASKS = 4  # in a batch, until one has come back and says how long a task takes
MAX_BATCH_TASKS = 512  # in a batch on a cluster: batches under way are held in memory
IN_PROCESS_BATCH_TASKS = 128  # in a batch in this process: how often progress is shown
MAX_ISOLATED_TASKS = 3  # that one fresh process does sooner than a local cluster starts
OPENCV_OUT_OF_MEMORY = "(-4:Insufficient memory)"  # in the text of its errors, which are no MemoryError


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """Which workers to use."""

    # Local processes; None: one a core that this process may use; 0: no workers, this process does the work (and dies with a
    # crashing decoder)
    count: int | None = None
    threads: bool = False  # local threads instead of processes
    # Address of an existing Dask scheduler; wins over `count`. Empty: ``DASK_SCHEDULER_ADDRESS``, else none.
    scheduler: str = ""
    scheduler_file: Path | None = None  # the file that ``dask scheduler --scheduler-file`` writes
    # Seconds that one task may take; the process of one that takes longer is ended. Not with threads, nor with no workers.
    timeout: float = 120.0
    share_storage: bool = True  # whether workers see the folder that samples are stored in

    @property
    def address(self) -> str:
        """The scheduler's address as given, or that of the environment where no other workers were chosen."""
        chosen = self.scheduler_file is not None or self.count is not None or self.threads
        return self.scheduler or ("" if chosen else os.environ.get("DASK_SCHEDULER_ADDRESS", ""))

    @property
    def external(self) -> bool:
        """Whether an existing cluster does the work."""
        return bool(self.address or self.scheduler_file)


class Workers:
    """Run batches of tasks; a cluster is started or joined for the first run that needs one.

    Parameters
    ----------
    settings : WorkerSettings
        Where tasks run.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self._stack = ExitStack()
        self._client: Client | None = None
        self._clock: Clock | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._stack.__exit__(kind, error, traceback)

    @property
    def count(self) -> int:
        """Number of tasks that run at once, as far as is known."""
        if self._clock is not None:
            self._clock.look()  # a cluster may grow
            return max(self._clock.threads, 1)
        return self.settings.count or core_count()

    def run(
        self,
        function: Callable[[list[TaskT]], list[ResultT]],
        tasks: Iterable[TaskT],
        count: int | None = None,
        *,
        max_in_process: int = 0,
    ) -> Iterator[list[ResultT | Crash[TaskT]]]:
        """Apply `function` to batches of `tasks`, and yield its results batch by batch, in the order of completion.

        Parameters
        ----------
        function : callable
            Importable by name; takes and returns a list.
        tasks : iterable
            Iterated once.
        count : int or None
            Number of tasks, where `tasks` has no length: half a million need not be held at once.
        max_in_process : int
            Up to so many tasks are done in this process: they are so short that a cluster would take longer to start.

        Yields
        ------
        list
            For each task its result, or a :class:`Crash` where it ended its process twice, alone in a fresh one.

        Raises
        ------
        ClusterError
            No scheduler, no workers, another version of fvpipe there, or out of memory.
        """
        try:
            yield from self._run(function, tasks, len(cast(Sized, tasks)) if count is None else count, max_in_process)
        except Exception as error:
            if not isinstance(error, MemoryError) and OPENCV_OUT_OF_MEMORY not in str(error):
                raise
            raise ClusterError(
                f"out of memory ({error or 'a decoder or a library'}); what was finished is kept. {WAYS_OUT}"
            ) from None

    def _run(
        self, function: Callable[[list[TaskT]], list[ResultT]], tasks: Iterable[TaskT], count: int, max_in_process: int
    ) -> Iterator[list[ResultT | Crash[TaskT]]]:
        settings = self.settings
        if count <= max_in_process or (settings.count == 0 and not settings.external):
            waiting = iter(tasks)
            while batch := list(islice(waiting, IN_PROCESS_BATCH_TASKS)):
                yield list(function(batch))
        elif count <= MAX_ISOLATED_TASKS and not (settings.external or settings.threads or self._client):
            yield run_isolated(function, list(tasks), settings.timeout)
        else:
            if self._client is None or self._clock is None:
                self._client = self._stack.enter_context(open_client(settings, self.count))
                self._clock = Clock(self._client, 0.0 if settings.threads else settings.timeout)
            with Submitted(self._client, self._clock) as submitted:
                yield from self._submit(submitted, function, tasks, count)

    def _submit(
        self, submitted: Submitted, function: Callable[[list[TaskT]], list[ResultT]], tasks: Iterable[TaskT], left: int
    ) -> Iterator[list[ResultT | Crash[TaskT]]]:
        """Keep two batches a worker under way, each of about `BATCH_SECONDS` by the time that the one before took."""
        limit = 0.0 if self.settings.threads else self.settings.timeout
        pending: dict[Any, list[TaskT]] = {}
        waiting, seconds = iter(tasks), 0.0  # seconds a task, as measured; 0: not yet
        while left or pending:
            while left and len(pending) < 2 * self.count:
                share = -(-left // (2 * self.count))  # so that all workers end together
                size = min(int(BATCH_SECONDS / seconds) if seconds else FIRST_BATCH_TASKS, share, MAX_BATCH_TASKS)
                batch = list(islice(waiting, max(1, size)))
                # Once a batch is known to take half a second, all of it has the time that one task may take. One that needs
                # longer is taken apart, and then each task has that time for itself.
                allowed = limit if seconds else limit * len(batch)
                pending[submitted.submit(run_batch, function, batch, allowed)], left = batch, left - len(batch)
            for future in submitted.finished(pending):
                batch = pending.pop(future)
                found: tuple[list[ResultT], float] | None = submitted.result(future)
                if found is None:  # which task it was, or whether somebody killed the workers, shows when each is isolated
                    yield run_isolated(function, batch, self.settings.timeout)
                else:
                    results, took = found
                    seconds = took / len(batch)
                    yield [*results]
