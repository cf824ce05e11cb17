"""The caches between runs, on disk: file cache, sample store, decoder crashes."""
