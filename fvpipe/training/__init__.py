"""Shards -> models -> predictions, Grad-CAM and ONNX export. With :mod:`fvpipe.torch` the only imports of torch."""
