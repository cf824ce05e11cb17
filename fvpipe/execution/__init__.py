"""Workers (Dask), and isolation of decoders that crash or hang.

- ``workers``: runs a function over tasks, in this process or on workers; each result is that of the task, or a ``Crash``.
- ``isolation``: a batch that failed, task by task in fresh processes. ``Crash.rejection`` is the rejection of the file.
- ``dask_client`` and ``dask_local_cluster``: a running scheduler, or workers on this host. ``cores``: how many of them.
"""
