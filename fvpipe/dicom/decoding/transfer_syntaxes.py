"""Transfer syntaxes that can be decoded, one by one: the lists of `pydicom.uid` may grow."""

from __future__ import annotations

from pydicom import uid

NATIVE = frozenset({
    uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.DeflatedExplicitVRLittleEndian, uid.ExplicitVRBigEndian,
})  # fmt: skip
"""Uncompressed pixels; those of the deflated syntax are uncompressed once the data set is inflated."""

ENCAPSULATED = frozenset({
    uid.RLELossless, uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1, uid.JPEGLSLossless,
    uid.JPEGLSNearLossless, uid.JPEG2000Lossless, uid.JPEG2000, uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K,
})  # fmt: skip
"""Compressed pixels, each syntax with a decoder in :data:`fvpipe.dicom.decoding.decoders.DECODERS`."""
