"""Workers (Dask), and isolation of decoders that crash or hang."""
