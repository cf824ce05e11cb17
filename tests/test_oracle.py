"""The fast path equals a literal, slow reading of the paper, on real films and on every simulated image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fvpipe
from fvpipe.io.tables import read_table
from fvpipe.shards.reader import Shards
from fvpipe.types import CropBox
from tests.conftest import build, read_truth
from tests.support import oracle

TOLERANCE = 0.5 / 65535 + 1e-4  # half a step of uint16, and what the issue of two ways to compute may cost


def sources(out: Path) -> dict[tuple[str, str], str]:
    """Path of each view of each breast."""
    return {
        (row["breast_id"], row["view"]): row["path"]
        for row in read_table(out / "images.csv", ["breast_id"])
        if row["breast_id"]
    }


def worst_difference(shards: Shards, folder: Path, out: Path) -> float:
    paths = sources(out)
    worst = 0.0
    for sample in shards:
        views = [oracle.view(folder / paths[sample.breast_id, view]) for view in ("CC", "MLO")]
        cc, mlo = (oracle.crop(v, box) for v, box in zip(views, sample.crop_box, strict=True))
        expected = oracle.fused(cc, mlo)
        worst = max(worst, float(np.abs(sample.image - expected).max()))
    return worst


PIPELINES = [pytest.param("direct", marks=pytest.mark.slow), "cropped"]
"""What `cropped` computes is what `direct` does, and more."""


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("form", ["vindr", "cmmd"])
def test_every_phantom(form: str, pipeline: str, phantoms: dict[str, Path], tmp_path: Path) -> None:
    build(phantoms[form], tmp_path, "--adapter", form, pipeline=pipeline)
    shards = fvpipe.open_shards(tmp_path)
    assert len(shards) >= 12
    assert worst_difference(shards, phantoms[form], tmp_path) <= TOLERANCE


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_real_films(pipeline: str, cbis: Path, tmp_path: Path) -> None:
    build(cbis, tmp_path, "--adapter", "cbis", pipeline=pipeline)
    shards = fvpipe.open_shards(tmp_path)
    labels = dict(zip(shards.breast_ids.tolist(), shards.labels.tolist(), strict=True))
    assert labels == {"P_00173_L": 0, "P_00173_R": 0, "P_00820_L": 1, "P_00820_R": 0}
    assert worst_difference(shards, cbis, tmp_path) <= TOLERANCE
    if pipeline == "direct":
        for sample in shards:
            assert sample.crop_box.tolist() == [list(CropBox.whole(*shape).as_tuple()) for shape in sample.source_shape]


@pytest.mark.parametrize("form", ["vindr", "cmmd"])
def test_lesions_lie_where_the_placement_says(form: str, phantoms: dict[str, Path], tmp_path: Path) -> None:
    """A source box mapped into the sample holds the lesion: brighter than the ring around it."""
    build(phantoms[form], tmp_path, "--adapter", form)
    lesions = {truth.path: truth.lesion for truth in read_truth(phantoms[form])}
    paths, checked = sources(tmp_path), 0
    for sample in fvpipe.open_shards(tmp_path):
        for view in fvpipe.types.View:
            lesion = lesions[paths[sample.breast_id, view]]
            if lesion is None:
                continue
            top, left = sample.to_image(view, lesion.top, lesion.left)
            bottom, right = sample.to_image(view, lesion.bottom, lesion.right)
            assert 0 <= top < bottom <= 256
            assert 0 <= left < right <= 256
            height, width = (bottom - top) / 3, (right - left) / 3
            middle = sample.image[round(top + height) : round(bottom - height), round(left + width) : round(right - width)]
            around = sample.image[round(top) : round(bottom), round(left) : round(right)]
            assert middle.mean() > around.mean() + 0.02
            back = sample.to_source(view, top, left)
            assert back == pytest.approx((lesion.top, lesion.left), abs=1e-2)
            checked += 1
    assert checked >= 8
