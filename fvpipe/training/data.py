"""A split and the shards of its data sets -> one cohort; and its pictures on the device, batch by batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fvpipe.config.loading import digest_of
from fvpipe.config.training import Augment
from fvpipe.errors import InputError, LeakError, ShardError, SwappedShardError, TrainingError
from fvpipe.io.tables import Row, read_table
from fvpipe.project import Project
from fvpipe.shards.reader import Shards, open_shards
from fvpipe.splits import Assignment, Candidate, Part, SplitPlan, leaks
from fvpipe.splitting import read_split
from fvpipe.training.record import Prediction
from fvpipe.types import VIEWS
from fvpipe.versions import PREPROCESSING_VERSION


@dataclass(frozen=True, slots=True, eq=False)
class Cohort:
    """Every breast of a split that has a sample, in the order of the split file.

    Attributes
    ----------
    breasts : tuple of Prediction
        Without probabilities yet.
    shards : tuple of Shards
    places : int64, (n, 2)
        Which of `shards`, and which sample in it.
    dropped : dict of str to int
        Breasts of the split that the shards refused, by reason.
    content : str
        Digest of split and shards: what the pictures and labels are.
    """

    breasts: tuple[Prediction, ...]
    shards: tuple[Shards, ...]
    places: NDArray[np.int64]
    dropped: dict[str, int]
    content: str

    @property
    def labels(self) -> NDArray[np.int64]:
        """(n,)."""
        return np.array([breast.label for breast in self.breasts], np.int64)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, rows, columns."""
        shape = next(shards.image_shape for shards in self.shards if len(shards))
        return (1, *shape) if len(shape) == 2 else shape  # type: ignore[return-value]

    def indices(self, part: Part) -> NDArray[np.int64]:
        """Which breasts are in `part`."""
        return np.flatnonzero([breast.part == part.value for breast in self.breasts])

    def images(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        """(n, C, H, W) in [0, 1], in the order of `indices`; each sample's checksum is compared when it is first read."""
        out = np.empty((len(indices), *self.image_shape), np.float32)
        for s, shards in enumerate(self.shards):
            here = np.flatnonzero(self.places[indices, 0] == s)
            if len(here):
                out[here] = shards.images(self.places[indices[here], 1]).reshape(len(here), *self.image_shape)
        return out


def load_cohort(project: Project, pipeline: str, split: str) -> Cohort:
    """Join a written split with the shards of its data sets, and believe neither.

    Raises
    ------
    InputError
        No such split file, or it names a breast that is neither in the shards nor refused there.
    LeakError
        A patient, study, file or picture is in two parts that must be apart.
    ShardError
        Shards are missing, of another pipeline, or older than the labels.
    TrainingError
        Training or test part is empty, or validation lacks a class.
    """
    settings = project.params.split_of(split)
    path = project.folder / "manifests" / "splits" / f"{split}.csv"
    if not path.is_file():
        raise InputError(f"{path}: not found; run `fvpipe split` first")
    names = dict.fromkeys((*settings.datasets, *settings.test))
    parts = read_split(path, names)
    opened = {name: _open(project, pipeline, name) for name in names}
    where = {(name, breast): i for name, shards in opened.items() for i, breast in enumerate(shards.breast_ids.tolist())}
    refused = {name: _refused(shards) for name, shards in opened.items()}
    facts = {name: _facts(shards) for name, shards in opened.items()}
    order = {name: s for s, name in enumerate(names)}
    breasts, places, assignments, dropped = [], [], [], Counter[str]()
    for (name, breast), part in parts.items():
        shards, i = opened[name], where.get((name, breast))
        if i is None:
            if breast not in refused[name]:
                raise InputError(f"{path}: {name}/{breast} is neither in {shards.folder} nor refused there; run `fvpipe split`")
            dropped[refused[name][breast]] += 1
            continue
        label = int(shards.labels[i])
        if label < 0:
            raise ShardError(f"{shards.folder}: {breast} has no label and {path} names it; run `fvpipe split` again")
        breasts.append(_breast(name, breast, part, label, shards, i, facts[name][breast]))
        places.append((order[name], i))
        assignments.append(Assignment(_candidate(name, shards, i, facts[name][breast]), part))
    found = leaks(assignments, SplitPlan(settings.setting, settings.datasets, settings.test))
    if found:
        raise LeakError(
            f"{path}: {len(found)} leak(s); the first: the same {found[0].kind} is in {' and '.join(found[0].parts)} "
            f"({', '.join(found[0].breasts[:4])}); run `fvpipe split` again. Nothing was trained"
        )
    empty = [part.value for part in (Part.TRAIN, Part.TEST) if part.value not in {b.part for b in breasts}]
    if empty:
        raise TrainingError(f"{path}: no breast of it is in the {empty[0]} part; nothing was trained")
    classes = {b.label for b in breasts if b.part == Part.VALIDATION.value}
    if len(classes) < 2:
        what = {(): "no breast", (0,): "benign breasts only", (1,): "malignant breasts only"}[tuple(classes)]
        raise TrainingError(
            f"{path}: its validation part holds {what}, so there is nothing to choose an epoch and a threshold by; change "
            "validation_share or seed of the split in params.yaml, and run `fvpipe split`. Nothing was trained"
        )
    content = digest_of(
        [[[n, b, p] for (n, b), p in parts.items()], [[e.sha256 for e in s.receipt.shards] for s in opened.values()]]
    )
    return Cohort(tuple(breasts), tuple(opened.values()), np.array(places, np.int64), dict(sorted(dropped.items())), content)


def _open(project: Project, pipeline: str, dataset: str) -> Shards:
    target = project.target(pipeline, dataset)
    shards = open_shards(target.out)
    if shards.receipt.pipeline_digest != target.pipeline.digest() or shards.receipt.dataset != dataset:
        raise SwappedShardError(
            f"{target.out}: was built by another pipeline or from another data set ({shards.receipt.pipeline}/"
            f"{shards.receipt.dataset}, {shards.receipt.pipeline_digest[:12]}) than {pipeline}/{dataset} "
            f"({target.pipeline.digest()[:12]}); run `fvpipe build-shards --pipeline {pipeline} --dataset {dataset}`"
        )
    if shards.receipt.preprocessing_version != PREPROCESSING_VERSION:  # beside newer ones, a model would tell them apart by it
        raise SwappedShardError(
            f"{target.out}: was built by preprocessing version {shards.receipt.preprocessing_version}; this fvpipe makes "
            f"version {PREPROCESSING_VERSION}; run `fvpipe build-shards --pipeline {pipeline} --dataset {dataset}`"
        )
    return shards


def _refused(shards: Shards) -> dict[str, str]:
    return {row["what"]: row["reason"] for row in read_table(shards.folder / "rejected.csv", ["what", "reason"])}


def _facts(shards: Shards) -> dict[str, Row]:
    columns = ["breast_id", "study", "density", "age", "manufacturer", "patient_age", "cc_rows", "cc_columns"]
    return {row["breast_id"]: row for row in read_table(shards.folder / "breasts.csv", columns)}


def _breast(dataset: str, breast: str, part: Part, label: int, shards: Shards, i: int, facts: Row) -> Prediction:
    present = [view.value for view, placed in zip(VIEWS, shards.columns["placement"][i], strict=True) if placed[0] >= 0]
    age = (facts["age"] or facts["patient_age"]).rstrip("Y+").lstrip("0")
    size = f"{facts['cc_rows']}x{facts['cc_columns']}"
    return Prediction(
        dataset, breast, str(shards.patient_ids[i]), part.value, label, None, "+".join(present), facts["density"],
        age if age.isdecimal() else "", facts["manufacturer"], size,
    )  # fmt: skip


def _candidate(dataset: str, shards: Shards, i: int, facts: Row) -> Candidate:
    files, pixels = (tuple(d.decode() for d in shards.columns[name][i]) for name in ("source_digest", "pixel_digest"))
    breast, patient = str(shards.breast_ids[i]), str(shards.patient_ids[i])
    return Candidate(dataset, breast, patient, facts["study"], int(shards.labels[i]), "", files, pixels)


# --- on the device ----------------------------------------------------------------------------------------------------

READ_AT_ONCE = 256
SHARE_OF_MEMORY = 0.5  # of what the device has free: the rest is for the model


class Feed:
    """Pictures of a cohort on a device: all of them where they fit, else each batch while the one before is computed.

    Parameters
    ----------
    cohort : Cohort
    indices : int64, (n,)
        Which breasts.
    device : torch.device
    memory_format : torch.memory_format
    resident : bool or None
        Keep all on the device; None: where they fit.
    """

    def __init__(
        self,
        cohort: Cohort,
        indices: NDArray[np.int64],
        device: torch.device,
        memory_format: torch.memory_format = torch.contiguous_format,
        resident: bool | None = None,
    ) -> None:
        self.cohort, self.indices, self.device, self.memory_format = cohort, indices, device, memory_format
        self.labels = torch.from_numpy(cohort.labels[indices]).to(device)
        shape = (len(indices), *cohort.image_shape)
        self.pictures: Tensor | None = None
        if _fits(int(np.prod(shape)) * 4, device) if resident is None else resident:
            # In parts: neither the host nor the device ever holds a second copy of all.
            self.pictures = torch.empty(shape, device=device, memory_format=memory_format)
            for start in range(0, len(indices), READ_AT_ONCE):
                some = torch.from_numpy(cohort.images(indices[start : start + READ_AT_ONCE]))
                self.pictures[start : start + len(some)].copy_(some)

    def __len__(self) -> int:
        return len(self.indices)

    def _read(self, chosen: NDArray[np.int64]) -> Tensor:
        images = torch.from_numpy(self.cohort.images(self.indices[chosen]))
        return images.pin_memory() if self.device.type == "cuda" else images

    def batches(self, chunks: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Pictures (n, C, H, W) and labels (n,) of each chunk of places, on the device."""
        moved = [chunk.to(self.device) for chunk in chunks]
        if self.pictures is not None:
            for chunk in moved:
                yield self.pictures[chunk].contiguous(memory_format=self.memory_format), self.labels[chunk]
            return
        with ThreadPoolExecutor(1) as reader:
            ahead = reader.submit(self._read, chunks[0].numpy()) if chunks else None
            for i, chunk in enumerate(moved):
                assert ahead is not None
                images = ahead.result()
                ahead = reader.submit(self._read, chunks[i + 1].numpy()) if i + 1 < len(chunks) else None
                on_device = images.to(self.device, non_blocking=True)
                yield on_device.contiguous(memory_format=self.memory_format), self.labels[chunk]


def _fits(size: int, device: torch.device) -> bool:
    if device.type == "cuda":
        return size < SHARE_OF_MEMORY * torch.cuda.mem_get_info(device)[0]
    return size < 2**30  # the memory maps of the shards are as near as a copy of them would be


def augment(images: Tensor, settings: Augment, generator: torch.Generator) -> Tensor:
    """Draw a flip, rotation, shift and scale for each picture. `generator` is the CPU's, so that any device draws the same."""
    if settings == Augment():
        return images
    n = len(images)
    draw = torch.rand((6, n), generator=generator) * 2 - 1
    flips = torch.where(draw[:2] < 0, -1.0, 1.0)
    mirror_x = flips[0] if settings.horizontal_flip else torch.ones(n)
    mirror_y = flips[1] if settings.vertical_flip else torch.ones(n)
    angle, zoom = draw[2] * settings.rotate * torch.pi / 180, 1 + draw[3] * settings.scale
    cos, sin, shift = torch.cos(angle) * zoom, torch.sin(angle) * zoom, 2 * settings.shift * draw[4:]
    rows = [torch.stack([cos * mirror_x, -sin, shift[0]], 1), torch.stack([sin, cos * mirror_y, shift[1]], 1)]
    matrix = torch.stack(rows, 1)
    if images.is_cuda:
        matrix = matrix.pin_memory()  # a copy from pageable memory would wait for all that the device still has to do
    matrix = matrix.to(images.device, non_blocking=True)
    grid = torch.nn.functional.affine_grid(matrix, list(images.shape), align_corners=False)
    moved = torch.nn.functional.grid_sample(images, grid, padding_mode="zeros", align_corners=False)
    return moved.contiguous(memory_format=_format_of(images))


def _format_of(images: Tensor) -> torch.memory_format:
    last = images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format
