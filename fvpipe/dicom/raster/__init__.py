"""Images that are not DICOM: PNG, JPEG, TIFF, PGM and NRRD files, as :class:`fvpipe.dicom.reader.OpenedDicom`.

`headers` reads what a file says of itself and hands it on as elements of DICOM, so that the same rules decide about both.
`decoders` turns the bytes of a whole file into pixels. Why these libraries: ``docs/decisions``.
"""
