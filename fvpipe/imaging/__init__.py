"""Image processing of one breast: segmentation of both views, and their fusion into one sample."""
