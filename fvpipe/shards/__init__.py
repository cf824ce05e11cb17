"""HDF5 shards and their receipt: format, writer, reader, verification. Imports numpy and h5py alone."""

from fvpipe.shards.format import Receipt, read_receipt, to_image, to_source
from fvpipe.shards.reader import Sample, Shards, open_shards
from fvpipe.shards.verification import verify

__all__ = ["Receipt", "Sample", "Shards", "open_shards", "read_receipt", "to_image", "to_source", "verify"]
