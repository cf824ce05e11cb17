"""Values that workers read of some files, kept in the file cache: each file is read once for a kind of value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

from fvpipe.cache.file_cache import FileCache
from fvpipe.execution.isolation import Crash
from fvpipe.execution.workers import Workers
from fvpipe.progress import progress
from fvpipe.reasons import Rejection
from fvpipe.types import SourceFile


class FileValueTask(Protocol):
    """A task that reads one file."""

    @property
    def path(self) -> str:
        """Path of the file, relative to the input folder."""


TaskT = TypeVar("TaskT", bound=FileValueTask)


def read_values(
    function: Callable[[list[TaskT]], list[tuple[str, str | Rejection]]],
    tasks: Mapping[str, TaskT],
    files: Mapping[str, SourceFile],
    workers: Workers,
    file_cache: FileCache,
    *,
    kind: str,
    title: str,
    max_in_process: int = 0,
) -> tuple[dict[str, str], list[Rejection]]:
    """Take values of files from the file cache, and let workers read the others.

    Parameters
    ----------
    function : callable
        Run on workers: tasks -> path and value of each, or why its file cannot be read. Importable by name.
    tasks : mapping of str to task
        By path.
    files : mapping of str to SourceFile
        The files, in the state for which a value is valid, by path.
    workers : Workers
        Where files are read.
    file_cache : FileCache
        Takes the new values; not the rejections.
    kind : str
        Kind of the values, as :meth:`fvpipe.cache.file_cache.FileCache.value` lists them.
    title : str
        Text before the progress bar.
    max_in_process : int
        As for :meth:`fvpipe.execution.workers.Workers.run`.

    Returns
    -------
    values : dict of str to str
        By path, in the order of `tasks`.
    rejections : list of Rejection
        Files that cannot be read, or that crash their decoder, in that order.
    """
    found: dict[str, str | Rejection | None] = {path: file_cache.value(files[path], kind) for path in tasks}
    new = [task for path, task in tasks.items() if found[path] is None]
    with progress(title, len(new), "files") as advance:
        for batch in workers.run(function, new, max_in_process=max_in_process):
            read = dict((each.task.path, each.rejection(each.task.path)) if isinstance(each, Crash) else each for each in batch)
            file_cache.put_values([(files[path], each) for path, each in read.items() if isinstance(each, str)], kind)
            found.update(read)
            advance(len(batch))
    values = {path: each for path, each in found.items() if isinstance(each, str)}
    return values, [each for each in found.values() if isinstance(each, Rejection)]
