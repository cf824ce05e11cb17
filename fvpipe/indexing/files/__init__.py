"""Files of the input folder, and what workers read of each that is new or changed.

- ``scan``: files that could be images.
- ``headers``: header and digest of each.
- ``cached_values``: any other value that is read of some files and kept in the file cache, as ``pixel_contents`` does.
"""
