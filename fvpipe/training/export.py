"""Export a trained model to ONNX, checked against torch before the file is written."""

from __future__ import annotations

import io
import logging
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fvpipe.errors import DependencyError, TrainingError
from fvpipe.evaluation.training_record import NOT_A_DEVICE, Record
from fvpipe.io.atomic import write_atomic
from fvpipe.training.network.model import Classifier, probability

TOLERANCE = 1e-5


class _Probability(nn.Module):
    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        return probability(self.model(image))


def export(model: Classifier, record: Record, out: Path) -> float:
    """Write an ONNX file: input ``image`` (n, C, H, W) float32 in [0, 1], output ``probability`` (n,).

    Returns
    -------
    float
        Largest difference of probability between onnxruntime and torch on random images.

    Raises
    ------
    DependencyError
        onnx, onnxscript or onnxruntime is missing.
    TrainingError
        They differ by more than 1e-5; nothing is written.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 - torch's exporter needs it
    except ImportError as error:
        raise DependencyError(f"{error}: pip install 'fvpipe[export]'") from None
    whole = _Probability(model.cpu()).eval()
    generator = torch.Generator().manual_seed(0)
    example = torch.rand((2, *record.image_shape), generator=generator)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            whole, (example,), input_names=["image"], output_names=["probability"], dynamo=True, verbose=False,
            dynamic_shapes={"image": {0: torch.export.Dim("n", min=1)}},
        )  # fmt: skip
    if program is None:
        raise TrainingError(f"{record.run}: torch did not export it")
    proto = program.model_proto
    for node in [*proto.graph.node, *(node for function in proto.functions for node in function.node)]:
        del node.metadata_props[:]  # torch's stack traces, with paths of this machine
    for key, value in {"fvpipe": record.to_json(), "use": NOT_A_DEVICE, "positive": "malignant"}.items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, value
    file = io.BytesIO()
    onnx.save(proto, file)
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    worst = 0.0
    for count in (1, 5):
        images = torch.rand((count, *record.image_shape), generator=generator)
        with torch.inference_mode():
            expected = whole(images).numpy()
        found = session.run(["probability"], {"image": images.numpy()})[0]
        worst = max(worst, float(np.abs(found - expected).max()))
    if not worst <= TOLERANCE:
        raise TrainingError(f"{record.run}: ONNX and torch differ by {worst:.2g}, more than {TOLERANCE:g}; nothing was written")
    write_atomic(out, file.getvalue())
    return worst
