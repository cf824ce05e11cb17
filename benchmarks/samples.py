"""fvpipe in one process: `make_samples`, what a worker runs, on every breast of a folder.

`python -m benchmarks.samples FOLDER ADAPTER PIPELINE STORE`. The index is read beforehand; the store is empty at each pass,
and samples are written to it as in a build.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from benchmarks.serve import serve
from fvpipe.build.plan import make_task
from fvpipe.build.sample import SampleTask, make_samples
from fvpipe.execution.workers import Workers, WorkerSettings
from fvpipe.flow import index
from fvpipe.project.stages import open_file_cache
from fvpipe.project.standalone import standalone_source, standalone_target


def tasks(folder: Path, adapter: str, pipeline: str, store: Path) -> list[SampleTask]:
    """Every breast of a folder, as it travels to a worker."""
    source = standalone_source("bench", folder, adapter)
    store.mkdir(parents=True, exist_ok=True)
    with (
        Workers(WorkerSettings(0)) as workers,
        open_file_cache(source, store) as memory,
    ):
        found = index(source, workers, memory)
    target = standalone_target("bench", pipeline, store / "unused")
    return [make_task(found, target, breast, str(store.absolute())) for breast in found.breasts]


def main() -> None:
    """Serve passes over a folder."""
    folder, adapter, pipeline, store = Path(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4])
    work = tasks(folder, adapter, pipeline, store)

    def make() -> None:
        assert all(made.computed for made in make_samples(work))

    serve(len(work), make, lambda: shutil.rmtree(store, ignore_errors=True))


if __name__ == "__main__":
    main()
