"""HDF5 shards: format, writer, reader, verification. Needs numpy and h5py alone.

A shard folder is ``shard-00000.h5``, ..., ``breasts.csv``, ``rejected.csv`` and ``index.json``, the receipt, which is
written last. ``docs/shards.md`` lists the datasets and attributes of a shard.

>>> shards = fvpipe.shards.open_shards("cache/shards/cropped/cbis")  # doctest: +SKIP
>>> shards[0].image.shape, shards[0].label  # doctest: +SKIP
((256, 256), 0)
"""

from fvpipe.shards.coordinates import Coordinates
from fvpipe.shards.format import Receipt, read_receipt
from fvpipe.shards.reader import Sample, Shards, open_shards
from fvpipe.shards.targets import TargetForm
from fvpipe.shards.verification import verify

__all__ = ["Coordinates", "Receipt", "Sample", "Shards", "TargetForm", "open_shards", "read_receipt", "verify"]
