"""Segmentation of the breast in one image, by Otsu's threshold on a thumbnail.

- ``segment``: from an image to its outline and crop, or the whole image, flagged, where no outline passes the quality gates.
  ``thumbnail``: the small image on which the outline is found.
- ``background``, ``threshold``, ``threshold_attempts``: thresholds, tried until one gives the outline of a breast.
- ``morphology``, ``artifacts``: the mask cleaned; ``outline``: the breast's own extent in it.
- ``crop_verdict``: whether the crop holds the whole breast, and hardly more.
"""
