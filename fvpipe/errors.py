"""Errors that fvpipe raises::

    FvpipeError
    +-- ParameterError           params.yaml, a pipeline file or an option
    +-- InputError               an input folder or file
    +-- LabelTableError          a label table                             (also a ValueError)
    +-- StorageError             an output
    +-- LockedError              an output that another process writes
    +-- ClusterError             the Dask scheduler or its workers
    +-- QualityError             a build with too many rejections
    +-- LeakError                a split
    +-- TrainingError            a training
    +-- CheckpointError          saved weights
    +-- DependencyError          a package of an extra                     (also an ImportError)
    +-- ShardError               a shard folder
        +-- ReceiptError         its index.json
        +-- MissingShardError    a file of it                              (also a FileNotFoundError)
        +-- TruncatedShardError
        +-- SwappedShardError
        +-- ChecksumError

A bad DICOM file is a value (:class:`fvpipe.reasons.Rejection`) and never stops a build. Every message says what is wrong,
where, what was expected and found, and what to do; the command line prints it as one line and exits with 1.
"""

from __future__ import annotations

from fvpipe.printable import escaped


class FvpipeError(Exception):
    """Base of all errors that fvpipe raises on purpose. Control characters from a file's name or content show escaped."""

    def __str__(self) -> str:
        return escaped(super().__str__())


class ParameterError(FvpipeError):
    """``params.yaml``, a pipeline file or an option is wrong: a misspelt or duplicate key, a value out of range."""


class InputError(FvpipeError):
    """An input folder or file is missing or cannot be read at all."""


class LabelTableError(FvpipeError, ValueError):
    """A label table breaks its published form; the message names the file, the line and the value."""


class StorageError(FvpipeError):
    """An output cannot be written: full disk, read-only folder, no permission."""


class LockedError(FvpipeError):
    """Another process writes to the same place."""


class ClusterError(FvpipeError):
    """The Dask scheduler cannot be reached, or its workers died."""


class QualityError(FvpipeError):
    """The build ran, but too much of it is not trustworthy (crop fallbacks, rejections); nothing was committed."""


class LeakError(FvpipeError):
    """A split has something in two parts that must be in one."""


class TrainingError(FvpipeError):
    """Training cannot go on: the loss or the outputs are not finite, or the data have nothing to learn from."""


class CheckpointError(FvpipeError):
    """Saved weights are missing, damaged, hold more than numbers, or belong to another configuration."""


class DependencyError(FvpipeError, ImportError):
    """A package of an extra is not installed; the message says which extra to install."""


class ShardError(FvpipeError):
    """A shard folder is not as its receipt says."""


class ReceiptError(ShardError):
    """``index.json`` is missing, not JSON, of an unknown schema version, or contradicts itself."""


class MissingShardError(ShardError, FileNotFoundError):
    """A shard that the receipt lists is missing."""


class TruncatedShardError(ShardError):
    """A shard does not have the number of bytes that the receipt lists."""


class SwappedShardError(ShardError):
    """A shard file belongs to another place: another index, data set or pipeline."""


class ChecksumError(ShardError):
    """The content of a shard differs from what was written; the message names the shard and, for pixels, the sample."""
