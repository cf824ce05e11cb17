"""Simulated mammograms ("phantoms").

- ``writer``: `fvpipe phantom`, a data set on disk: ``vindr`` and ``cmmd`` in their published forms, ``lesions`` a cohort with
  small lesions.
- ``drawing``: the pixels. ``dicom_file``: their DICOM files.
"""
