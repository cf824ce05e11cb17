"""Small shard folders as a build leaves them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fvpipe.reasons import NO_FLAG, Flag
from fvpipe.shards.format import RECEIPT, Receipt, shard_name
from fvpipe.shards.writer import ShardRow, write_shard
from fvpipe.types import SCALES, Digest, FusedSample, Laterality
from fvpipe.versions import SCHEMA_VERSION


def fused(seed: int = 0, shape: tuple[int, ...] = (9, 7), dtype: str = "uint16", flags: Flag = NO_FLAG) -> FusedSample:
    """A sample of noise that touches both ends of its range."""
    rng = np.random.default_rng(seed)
    top = 1 if dtype == "float32" else np.iinfo(dtype).max
    image = (rng.random(shape) * top).astype(dtype)
    image.flat[0], image.flat[-1] = 0, top
    digests = [Digest(hashlib.sha256(f"{seed} {i}".encode()).hexdigest()) for i in range(4)]
    return FusedSample(
        image=image,
        boxes=(np.sort(rng.integers(0, 3000, (2, 2, 2)).astype(np.int32)) + np.array([0, 1], np.int32)).reshape(2, 4),
        source_shape=rng.integers(16, 4000, (2, 2)).astype(np.int32),
        placement=np.sort(rng.random((2, 2, 2)).astype(np.float32) * np.array(shape[-2:], np.float32)[:, None]).reshape(2, 4),
        intensity_range=rng.random(2).astype(np.float32),
        breast_area=rng.random(2).astype(np.float32),
        breast_mean=np.array([rng.random(), np.nan], np.float32),
        source_digests=(digests[0], digests[1]),
        pixel_digests=(digests[2], digests[3]),
        flags=flags,
    )


def warped(sample: FusedSample) -> FusedSample:
    """The sample with a warp of each view; the chest wall of the MLO is on the right."""
    box, edges = np.array([[10, 110, 0, 90], [0, 200, 30, 120]], np.int32), np.linspace(0, 1, 10) ** 1.1
    return replace(
        sample,
        boxes=box,
        source_shape=np.array([[120, 100], [200, 120]], np.int32),
        placement=np.array([[0, 9, 0, 3], [0, 9, 6, 3]], np.float32),
        warp_rows=np.stack([top + edges * (bottom - top) for top, bottom in box[:, :2].tolist()]),
        warp_columns=np.array([[0, 0.3, 0.7, 1], [1, 0.6, 0.4, 0]]),
        warp_widths=np.linspace(40, 80, 34).reshape(2, 17),
    )


def rows(count: int, shard: int = 0) -> list[ShardRow]:
    """Breasts of one shard: labels malignant, benign, unlabelled in turn."""
    side = (Laterality.LEFT, Laterality.RIGHT)
    return [ShardRow(f"P{shard}{i}_{side[i % 2]}", f"P{shard}{i}", side[i % 2], (1, 0, -1)[i % 3]) for i in range(count)]


def attributes(dataset: str = "made", pipeline: str = "cropped") -> dict[str, str | int]:
    return {
        "schema_version": SCHEMA_VERSION,
        "preprocessing_version": 1,
        "dataset": dataset,
        "pipeline": pipeline,
        "pipeline_digest": hashlib.sha256(pipeline.encode()).hexdigest(),
        "pipeline_yaml": "voi: none\n",
        "license": "CC0-1.0",
        "shard_count": 16,
    }


def commit(
    folder: Path,
    counts: Sequence[int] = (4, 5),
    seed: int = 0,
    shape: tuple[int, ...] = (9, 7),
    dtype: str = "uint16",
    dataset: str = "made",
    pipeline: str = "cropped",
    receipt: bool = True,
    warps: bool = False,
) -> Receipt:
    """A shard folder as a build leaves it: shards written aside and renamed, the receipt last."""
    folder.mkdir(parents=True, exist_ok=True)
    shared = attributes(dataset, pipeline)
    entries, labels = [], {1: 0, 0: 0, -1: 0}
    for i, count in enumerate(counts):
        part, members = folder / f".{shard_name(i)}.part", rows(count, i)
        samples: Iterable[FusedSample] = (fused(seed + 1000 * i + j, shape, dtype) for j in range(count))
        samples = map(warped, samples) if warps else samples
        entries.append(write_shard(part, members, samples, {**shared, "shard_index": i}, f"content {seed}"))
        for row in members:
            labels[row.label] += 1
    for entry in entries:
        os.replace(folder / f".{entry.file}.part", folder / entry.file)
    table = b"breast_id\n"
    (folder / "breasts.csv").write_bytes(table)
    done = Receipt(
        schema_version=SCHEMA_VERSION,
        preprocessing_version=1,
        dataset=dataset,
        simulated=True,
        license="CC0-1.0",
        pipeline=pipeline,
        pipeline_digest=str(shared["pipeline_digest"]),
        pipeline_yaml="voi: none\n",
        shard_count=16,
        samples=sum(counts),
        labels={"malignant": labels[1], "benign": labels[0], "unlabelled": labels[-1]},
        rejections={},
        flags={},
        tables={"breasts.csv": hashlib.sha256(table).hexdigest()},
        shards=tuple(entries),
    )
    if receipt:
        (folder / RECEIPT).write_text(done.to_json())
    return done


def stored(count: int, shard: int, **how: Any) -> np.ndarray:
    """What `commit` wrote into a shard, as a reader should see it."""
    images = [fused(how.get("seed", 0) + 1000 * shard + j).image for j in range(count)]
    return np.array([image * np.float32(SCALES["uint16"]) for image in images])


def entry_of(data: dict[str, Any], **changes: Any) -> None:
    data["shards"][0] |= changes
