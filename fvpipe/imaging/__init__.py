"""Image processing of one breast: segmentation of both views, and their fusion into one sample.

- ``decoded_image``, ``histogram``, ``pixel_digest``: an image as it was decoded.
- ``segmentation``: the outline of the breast, and its crop.
- ``film_border``, ``normalize``, ``canvas``, ``warp``, ``resample``: from a crop to its place in the sample.
- ``fusion``: both views as one sample; ``view_agreement`` compares them.
"""
