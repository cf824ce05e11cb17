"""Versions of what decides output: reader, preprocessing and shard schema; and of the interface for adapters.

Training has no number here: ``fvpipe train`` digests the code that it imports (:mod:`fvpipe.evaluation.code_digest`).
"""

from __future__ import annotations

READER_VERSION = 14
"""Raised whenever :mod:`fvpipe.dicom.rules` would read a header differently."""

PREPROCESSING_VERSION = 12
"""Raised whenever our code would change a byte of a sample; tests with golden digests fail when it should have been."""

SCHEMA_VERSION = 2
"""Raised whenever a dataset, attribute or file of a shard folder is renamed, removed or changes its meaning."""

ADAPTER_VERSION = 1
"""Raised whenever a declaration, or an adapter of another package, of the version before would be read differently."""
