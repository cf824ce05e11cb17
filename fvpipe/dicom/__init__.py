"""Image files, of DICOM and of other formats: from bytes to a typed header, and to pixels.

- ``reader`` opens a DICOM file up to its pixels; ``raster`` does so for the other formats.
- ``elements`` and ``attributes``: values of a header. ``policy``: how the headers of a data set are read.
- ``rules``: whether a file is accepted by its header, and as which view.
- ``header``: the typed header, by these rules; ``image_header`` is its type. ``orientation``: how the pixels lie.
- ``decoding``: the pixels. ``value_mapping`` and ``value_table``: the value of each stored value.
"""
