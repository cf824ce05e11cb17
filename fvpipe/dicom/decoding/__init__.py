"""Pixels of an image file: one decoder for each transfer syntax, and what makes sure that it read the right ones.

- ``pixels``: bytes and header -> :class:`fvpipe.imaging.decoded_image.DecodedImage`.
- ``layout``, ``fragments``, ``codestream``: where and how the pixels are stored.
- ``transfer_syntaxes``, ``decoders``: which there are; ``jpeg`` and ``jpeg2000`` have what these two formats need.
- ``misread_pixels`` and ``second_reader``: whether other pixels were read than those that the header describes.
"""
