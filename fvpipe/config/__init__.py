"""YAML files as frozen, typed settings, and the identifier key.

- ``pipeline``: a file in pipelines/. ``project`` and ``training``: params.yaml. ``loading`` parses them, and names wrong keys.
- ``facts``: facts that columns of label tables may give, as in ``--column FACT=COLUMN``. ``formats``: of image files.
- ``identifier_key``: the key by which :class:`fvpipe.dicom.policy.HeaderPolicy` hashes identifiers.
"""
