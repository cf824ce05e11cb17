"""Who runs the work: this process, a local Dask cluster, or an existing one. The only import of Dask."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from fvpipe.errors import ClusterError
from fvpipe.samples import PREPROCESSING_VERSION
from fvpipe.sources import READER_VERSION

if TYPE_CHECKING:
    from distributed import Client

TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")

VERSIONS = (PREPROCESSING_VERSION, READER_VERSION)


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
    """

    count: int | None = None
    threads: bool = False
    scheduler: str = ""
    scheduler_file: Path | None = None

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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._stack.close()

    @property
    def count(self) -> int:
        """How many tasks run at once, as far as is known."""
        if self._client is not None:
            return max(len(self._client.scheduler_info()["workers"]), 1)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()  # macOS has no affinity
        return self.settings.count or cores or 1

    def run(
        self, function: Callable[[list[TaskT]], list[ResultT]], tasks: Sequence[TaskT], *, batch: int, small: int = 0
    ) -> Iterator[list[ResultT]]:
        """Apply `function` to batches of `tasks`, and yield its results batch by batch, in the order of completion.

        Parameters
        ----------
        function : callable
            Importable by name; takes and returns a list.
        tasks : sequence
        batch : int
            Tasks a batch at most; fewer where there would not be several batches a worker.
        small : int
            Up to so many tasks are done in this process: quicker than starting a cluster.

        Raises
        ------
        ClusterError
            No scheduler, no workers, other versions of fvpipe there, or workers that died again and again.
        """
        if not tasks:
            return
        here = len(tasks) <= small or (self.settings.count == 0 and not self.settings.external)
        if not here:
            self._start()
        size = max(1, min(batch, len(tasks) // (4 * self.count)))
        batches = [list(tasks[at : at + size]) for at in range(0, len(tasks), size)]
        if here:
            yield from map(function, batches)
        else:
            yield from self._submit(function, batches)

    def _submit(self, function: Callable[[list[TaskT]], list[ResultT]], batches: list[list[TaskT]]) -> Iterator[list[ResultT]]:
        from distributed import CancelledError, as_completed
        from distributed.comm.core import CommClosedError
        from distributed.scheduler import KilledWorker

        assert self._client is not None
        futures = self._client.map(function, batches, pure=False)
        try:
            for future in as_completed(futures):
                yield future.result()
                future.release()
        except KilledWorker:
            raise ClusterError(
                "workers died several times on the same batch (out of memory, or a decoder that crashes); what was finished "
                "is kept. Run again with fewer workers, or with --workers 0 to see where it happens"
            ) from None
        except (CancelledError, CommClosedError) as error:
            raise ClusterError(
                f"the Dask scheduler went away ({type(error).__name__}); what was finished is kept, run again to go on"
            ) from None
        finally:
            with suppress(Exception):  # the scheduler may be gone
                self._client.cancel(futures)

    def _start(self) -> None:
        if self._client is not None:
            return
        # Dask's nanny would give every large array back to the system: measured 2 x slower. Both are needed, and early.
        for variable in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"):
            os.environ.setdefault(variable, str(2**30))
        from distributed import Client, LocalCluster

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
                client = self._stack.enter_context(Client(address=where, scheduler_file=file, timeout=20))
                client.wait_for_workers(1, timeout=60)
                found = set(client.run(_versions).values())
                if found != {VERSIONS}:
                    raise ClusterError(
                        f"the workers run another fvpipe (versions {sorted(found)}, here {VERSIONS}); install the same"
                    )
            else:
                cluster = LocalCluster(
                    n_workers=1 if settings.threads else self.count,
                    threads_per_worker=self.count if settings.threads else 1,
                    processes=not settings.threads,
                    dashboard_address=None,
                    silence_logs=logging.CRITICAL,
                )
                self._stack.enter_context(cluster)
                client = self._stack.enter_context(Client(cluster))
        except (OSError, TimeoutError, ValueError, AssertionError, TypeError, KeyError) as error:  # all seen of wrong addresses
            asked = settings.address or settings.scheduler_file or "a local cluster"
            raise ClusterError(f"{asked}: no Dask scheduler with workers answers ({type(error).__name__})") from None
        self._client = client


def _versions() -> tuple[int, int]:
    return VERSIONS
