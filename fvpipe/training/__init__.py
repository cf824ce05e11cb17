"""Shards -> models -> predictions, Grad-CAM and ONNX export. With :mod:`fvpipe.torch` the only imports of torch.

- ``train``: one training from beginning to end. It takes images from ``data`` and ``batches``, changes them by
  ``augmentation``, and follows ``recipe`` on a ``device``.
- ``network``: the models.
- ``predict``: a trained model on DICOM files; ``gradcam`` shows where it looks, ``export`` writes it as ONNX.
"""
