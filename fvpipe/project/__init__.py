"""A project folder: params.yaml and the stages of its DAG, which dvc.yaml lists.

- ``project``: settings, and where each stage's input and output lie. ``stages``: `fvpipe index` and `build-shards` in it.
- ``standalone``: the same for a folder outside a project (``--dicom``). ``single_files``: for `fvpipe inspect` and `predict`.
- ``sharing``: what `dvc push` or git would take along, against the licenses.
"""
