"""Progress bar of long work, on standard error where that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fvpipe.printable import escaped


@contextmanager
def progress(description: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Show a progress bar.

    Parameters
    ----------
    description : str
        Text before the bar.
    unit : str
        What is counted, in the plural.

    Yields
    ------
    advance : callable
        To be called with the number of units that are newly done.
    """
    if total == 0 or sys.stderr is None or not sys.stderr.isatty():  # it may be closed
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        """Finished units a second."""

        def render(self, task: Task) -> Text:
            return Text(f"{task.finished_speed or task.speed or 0:.1f} {unit}/s")

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(escaped(description), total=total)
        yield lambda count: bar.advance(task, count)
