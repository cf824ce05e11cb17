"""The one error tree.

A bad *file* is a value (:class:`fvpipe.reasons.Rejection`) and never stops a build. What is raised from here is a broken
*project*: wrong settings, a missing folder, a damaged shard, a place that cannot be written. Every message says what
is wrong, where, what was expected and found, and what to do; the command line prints it as one line and exits with 1.
"""

from __future__ import annotations


class FvpipeError(Exception):
    """Whatever fvpipe raises on purpose."""


class ParameterError(FvpipeError):
    """``params.yaml``, a pipeline file or an option is wrong: a misspelt or duplicate key, a value out of range."""


class InputError(FvpipeError):
    """An input folder or file is missing or cannot be read at all."""


class LabelTableError(FvpipeError):
    """A label table breaks its published form; the message names the file, the line and the value."""


class StorageError(FvpipeError):
    """An output could not be written: full disk, read-only folder, no permission."""


class LockedError(FvpipeError):
    """Another process is writing to the same place."""


class ClusterError(FvpipeError):
    """The Dask scheduler cannot be reached, or its workers died."""


class QualityError(FvpipeError):
    """The build ran, but too much of it is not trustworthy (crop fallbacks, rejections); nothing was committed."""


class LeakError(FvpipeError):
    """A split holds something in two parts that must be in one."""


class TrainingError(FvpipeError):
    """Training cannot go on: the loss or the outputs are no numbers, or the data have nothing to learn from."""


class CheckpointError(FvpipeError):
    """Saved weights are missing, damaged, hold more than numbers, or belong to another configuration."""


class DependencyError(FvpipeError):
    """A package of an extra is not installed; the message says which extra to install."""


class ShardError(FvpipeError):
    """A shard folder is not what its receipt says."""


class ReceiptError(ShardError):
    """``index.json`` is missing, not JSON, of an unknown schema version, or contradicts itself."""


class MissingShardError(ShardError):
    """A shard that the receipt lists is not there."""


class TruncatedShardError(ShardError):
    """A shard does not have the number of bytes that the receipt lists."""


class SwappedShardError(ShardError):
    """A shard file belongs to another place: another index, data set or pipeline."""


class ChecksumError(ShardError):
    """The content of a shard differs from what was written; the message names the shard and, for pixels, the sample."""
