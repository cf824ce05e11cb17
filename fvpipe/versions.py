"""Versions of what decides output: reader, preprocessing, shard schema, training."""

from __future__ import annotations

READER_VERSION = 5
"""Raised whenever :mod:`fvpipe.dicom.rules` would read a header differently."""

PREPROCESSING_VERSION = 4
"""Raised whenever our code would change a byte of a sample; tests with golden digests fail when it should have been."""

SCHEMA_VERSION = 2
