"""Predict from DICOM files, by the preprocessing of the shards that the model was trained on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fvpipe.build.sample import SampleTask, make_sample
from fvpipe.cache.sample_store import ViewRejection
from fvpipe.config.pipeline import Pipeline, load_pipeline
from fvpipe.dicom.header import read_header
from fvpipe.errors import CheckpointError, ParameterError
from fvpipe.evaluation.training_record import PREDICTIONS, RECORD, WEIGHTS, Record, check_digests, read_record
from fvpipe.imaging.canvas import needed_views
from fvpipe.indexing.files.headers import published_uid
from fvpipe.indexing.files.pixel_contents import PixelTask, content_digest, read_pixel_digests
from fvpipe.indexing.key_objects import rejected_by_key_objects
from fvpipe.indexing.labels.breast_labels import BreastLabels
from fvpipe.indexing.pairing import breasts_of_views, colliding_instances, pair, tied_images
from fvpipe.indexing.single_files import Reading, contradicted
from fvpipe.project.single_files import find_readings
from fvpipe.reasons import Reason, Rejection
from fvpipe.training.network.model import Classifier, build_model, probability
from fvpipe.types import SCALES, Breast, Digest, FusedSample, ImageRecord
from fvpipe.versions import PREPROCESSING_VERSION


@dataclass(frozen=True, slots=True, eq=False)
class BreastPrediction:
    """Probability that one breast is malignant.

    Attributes
    ----------
    dataset : str
        The project's data set that holds the files; empty where none does.
    sample : FusedSample
        Input of the model as a shard would hold it.
    image : float32 array, shape (C, H, W)
        The same in [0, 1].
    """

    dataset: str
    breast: Breast
    sample: FusedSample
    image: NDArray[np.float32]
    probability: float

    @property
    def file_digest(self) -> str:
        """Digest of the CC file, or of the MLO file of a breast without a CC."""
        return next(filter(None, self.sample.source_digests))


def load_model(folder: Path, device: torch.device) -> tuple[Classifier, Record]:
    """Read a trained model, and its record from the weight file.

    Raises
    ------
    CheckpointError
        No such file, not one that `fvpipe train` wrote, or one that differs from its digest.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / WEIGHTS
    check_digests(folder, (WEIGHTS, RECORD, PREDICTIONS))
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get("fvpipe", "")
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is not a mapping
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: damaged, or no weight file ({type(error).__name__}); train again") from None
    record = read_record(text, path)
    if record.image_shape != record.pipeline.image_shape:  # or it could ask for memory without a bound
        shapes = f"images of {record.image_shape}, and its pipeline makes {record.pipeline.image_shape}"
        raise CheckpointError(f"{path}: its record says {shapes}; train again")
    start = record.recipe.model_copy(update={"weights": "none"})
    model, _ = build_model(record.run.model, start, record.image_shape, record.run.seed, record.pipeline.fuse)
    try:
        model.net.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path}: its weights do not fit its record ({str(error).splitlines()[0]}); train again"
        ) from None
    return model.to(device).eval(), record


def own_pipeline(record: Record, name: str | None = None) -> Pipeline:
    """Return the pipeline that a model was trained with; if `name` is given, it must be that one.

    Raises
    ------
    CheckpointError
        The record's pipeline and digest differ, or its preprocessing version is another.
    ParameterError
        `name` is another pipeline.
    """
    pipeline = record.pipeline
    if pipeline.digest() != record.pipeline_digest or record.preprocessing_version != PREPROCESSING_VERSION:
        raise CheckpointError(
            f"{record.run}: was trained on samples of preprocessing version {record.preprocessing_version}, pipeline "
            f"{record.pipeline_digest[:12]}; this fvpipe makes version {PREPROCESSING_VERSION}, pipeline "
            f"{pipeline.digest()[:12]}. Build the shards and train again"
        )
    if name is not None and load_pipeline(name)[1].digest() != record.pipeline_digest:
        raise ParameterError(f"pipeline {name!r} is not the one that {record.run} was trained with; leave --pipeline out")
    return pipeline


def predict(
    files: Sequence[Path],
    model: Classifier,
    record: Record,
    adapter: str | None = None,
    id_key: Path | None = None,
    pipeline: str | None = None,
    project: Path = Path(),
) -> tuple[list[BreastPrediction], list[Rejection]]:
    """Pair the files into breasts, make their samples as a build would, and apply the model.

    Parameters
    ----------
    files : sequence of Path
        CC and MLO of one or more breasts, in any order; for a pipeline of one view, that view is enough.
    model, record
        From :func:`load_model`.
    adapter : str or None
        Name of the adapter that reads the headers; None: that of the project's data set that holds the files, else ``table``.
    id_key : Path or None
        Key file of hashed identifiers.
    pipeline : str or None
        Name of the pipeline that the model must have been trained with.
    project : Path
        Folder of the project whose data sets may hold the files, where it is one.

    Returns
    -------
    (list of BreastPrediction, list of Rejection)
        One prediction a breast; and every file or breast without one, with the reason.
    """
    settings = own_pipeline(record, pipeline)
    paths = list(dict.fromkeys(os.path.abspath(file) for file in files))
    root = Path(os.path.commonpath([Path(path).parent for path in paths]))
    given = find_readings([Path(path) for path in paths], adapter, id_key, folder=project)
    readings = {os.path.relpath(path, root): reading for path, reading in given.items()}
    names = sorted({reading.dataset for reading in readings.values()} - {""})
    if len(names) > 1:
        raise ParameterError(f"files of {' and '.join(names)}: the views of a breast are of one data set; give those of one")
    headers = {path: each.rejection or read_header(root, path, each.policy, each.stated) for path, each in readings.items()}
    told = {path: each if isinstance(each, Rejection) else each.record for path, each in headers.items()}
    told |= {each.what: each for each in rejected_by_key_objects(root, {each.policy for each in readings.values()}, told)}
    rejected = [each for each in told.values() if isinstance(each, Rejection)]
    records = [each for each in told.values() if not isinstance(each, Rejection)]
    mappings = {path: each.mapping for path, each in headers.items() if not isinstance(each, Rejection)}
    colliding = [PixelTask(str(root), record, Pipeline()) for group in colliding_instances(records) for record in group]
    contents = dict(read_pixel_digests(colliding))
    rejected += [each for each in contents.values() if isinstance(each, Rejection)]
    decoded = {path: Digest(each) for path, each in contents.items() if not isinstance(each, Rejection)}
    digests = {path: content_digest(each, mappings[path]) for path, each in decoded.items()}
    readable = [record for record in records if record.path not in contents or record.path in digests]
    # As in an index: images of two patients or exams under one study are not a breast, and of equal ones the same is chosen.
    contradicting = {each.what: each for each in contradicted(readable, readings)}
    rejected += contradicting.values()
    readable = [record for record in readable if record.path not in contradicting]
    paired = pair("predict", readable, BreastLabels(), digests, _published(root, tied_images(readable), readings))
    needed = needed_views(settings)
    chosen, unpaired = breasts_of_views(needed, paired.breasts, paired.unpaired, paired.rejections, readable)
    rejected += unpaired
    breasts = list(chosen)
    predictions = []
    while breasts:
        breast = breasts.pop(0)
        # No folder scan has seen these files: their headers are compared.
        policy = readings[breast.images[0].path].policy
        sample = _sample(SampleTask(str(root), "", breast.views, ("", ""), (None, None), policy, settings))
        if isinstance(sample, FusedSample):
            predictions.append(_predict(names[0] if names else "", breast, sample, model))
            continue
        rejected.append(sample)
        if left := breast.without([sample.what], needed):
            breasts.insert(0, left)
    return predictions, rejected


def _published(root: Path, records: Sequence[ImageRecord], readings: Mapping[str, Reading]) -> dict[str, str]:
    """SOP Instance UIDs as published, by path, where the records hold keyed digests of them."""
    policies = {record.path: readings[record.path].policy for record in records}
    return {path: published_uid(root, path, policy) for path, policy in policies.items() if policy.identifier_key}


def _sample(task: SampleTask) -> FusedSample | Rejection:
    result = make_sample(task)
    if result.unreadable:
        return result.unreadable
    if result.sample is None:
        return Rejection(result.changed or task.images[0].path, Reason.FILE_UNREADABLE, "changed while it was read")
    if isinstance(result.sample, ViewRejection):
        what = " and ".join(image.path for image in task.images if result.sample.view in (None, image.view))
        return Rejection(what, result.sample.reason, result.sample.detail)
    return result.sample


def _predict(dataset: str, breast: Breast, sample: FusedSample, model: Classifier) -> BreastPrediction:
    image = sample.image.astype(np.float32) * np.float32(SCALES[sample.image.dtype.name])
    image = image if image.ndim == 3 else image[None]
    device = next(model.parameters()).device
    with torch.inference_mode():
        score = probability(model(torch.from_numpy(image[None]).to(device))).item()
    return BreastPrediction(dataset, breast, sample, image, score)
