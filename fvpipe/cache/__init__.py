"""The caches between runs, on disk.

- ``file_cache``: headers and digests of files, valid while :func:`fvpipe.io.read.file_state` of the file is the same.
- ``sample_store``: finished samples by content. ``decoder_crashes``: entries of the file cache for files that crash a decoder.
"""
