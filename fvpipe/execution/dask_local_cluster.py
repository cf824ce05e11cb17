"""A Dask cluster on this host that no other user of it can join: mutual TLS with keys of its own, and no web server.

Whoever can speak to a scheduler or worker can run code in it. Imports Dask, so it is imported where workers start.
"""

from __future__ import annotations

import logging
import multiprocessing
import tempfile
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any

import dask
from distributed import Nanny, Scheduler, Security, SpecCluster, Worker
from distributed.system import MEMORY_LIMIT

from fvpipe.execution.isolation import leave_no_core_dump

HOST = "127.0.0.1"


class _NoWebServer:
    """Dask's node without the web server, which listens whether or not there is a dashboard, and asks nobody who he is."""

    def start_http_server(self, *_: object, **__: object) -> None:
        """Listen to nothing."""


class PrivateScheduler(_NoWebServer, Scheduler):
    """Scheduler without a web server."""


class PrivateWorker(_NoWebServer, Worker):
    """Worker without a web server."""


class WorkerProcess(PrivateWorker):
    """Worker that has a process to itself, of which no copy is left where a decoder crashes."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        leave_no_core_dump()
        super().__init__(*arguments, **options)


def start_cluster(count: int, threads: bool, start_seconds: float, stack: ExitStack) -> SpecCluster:
    """Start a scheduler in this process, and workers.

    Parameters
    ----------
    count : int
        Worker processes with one thread each, or threads of a single worker in this process.
    threads : bool
        Threads, which need no connection.
    start_seconds : float
        For a worker to find the scheduler.
    stack : ExitStack
        Ends the cluster.

    Returns
    -------
    distributed.SpecCluster
        With all its workers.
    """
    # Scheduler and workers import what lies in their scratch folder: it must not be one that another user has made in /tmp.
    scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="fvpipe-workers-", ignore_cleanup_errors=True))
    stack.enter_context(dask.config.set({"temporary-directory": scratch}))
    # The keys live in memory. Workers get them over the pipe that starts them: in no file, argument or environment variable.
    security = None if threads else Security.temporary()
    place = {"protocol": "inproc://"} if threads else {"protocol": "tls://", "host": HOST}
    options = {
        "nthreads": count if threads else 1,
        "memory_limit": MEMORY_LIMIT if threads else MEMORY_LIMIT // count,
        "death_timeout": start_seconds,
        "security": security,
        **place,
    }
    if threads:
        worker = {"cls": PrivateWorker, "options": options}
    else:
        worker = {"cls": Nanny, "options": {**options, "worker_class": WorkerProcess, "silence_logs": logging.CRITICAL}}
    scheduler = {"cls": PrivateScheduler, "options": {"security": security, "dashboard": False, **place}}
    workers = dict.fromkeys(range(1 if threads else count), worker)
    cluster: SpecCluster = SpecCluster(workers, scheduler, security=security, silence_logs=logging.CRITICAL)
    stack.push(partial(_close, cluster))
    return cluster


def _close(cluster: SpecCluster, kind: type[BaseException] | None, *_: object) -> None:
    """Close a cluster; after an error or Ctrl-C without waiting for workers, which may be busy, stopped, or not yet there."""
    if kind is None:
        cluster.close()
        return
    for nanny in cluster.workers.values():
        nanny.auto_restart = False
    for child in multiprocessing.active_children():
        if child.name.startswith("Dask Worker"):
            child.kill()
    with suppress(Exception):  # the error that is under way says what is wrong
        cluster.close()
