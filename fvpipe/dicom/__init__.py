"""DICOM files: header rules, pixel layout, decoders, value tables."""
