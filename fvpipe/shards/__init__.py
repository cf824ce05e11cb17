"""HDF5 shards and their receipt: format, writer, reader, verification. Imports numpy and h5py alone."""
