"""The pipeline `adaptive` on whole data sets: how much of a sample is breast, its tables, its pages, its bytes."""

from __future__ import annotations

import csv
import re
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import fvpipe
from fvpipe.errors import ShardError
from fvpipe.report.shard_page import write_page
from fvpipe.shards.reader import Shards
from fvpipe.shards.verification import verify
from fvpipe.types import VIEWS, View
from tests.conftest import build
from tests.support import factory
from tests.support.builds import tree


@pytest.fixture(scope="module")
def warped(phantoms: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both simulated data sets by `adaptive`."""
    folders = {form: tmp_path_factory.mktemp("adaptive") / form for form in phantoms}
    for form, folder in folders.items():
        build(phantoms[form], folder, "--adapter", form, pipeline="adaptive")
    return folders


def rows_of(file: Path) -> list[dict[str, str]]:
    with open(file, encoding="utf-8-sig") as table:
        return list(csv.DictReader(table))


def breast_shares(shards: Shards) -> np.ndarray[Any, Any]:
    """Share of each warped view's part of the sample that is breast; the outline is nowhere cut off."""
    shares = []
    for sample, area in zip(shards, shards.columns["breast_area"], strict=True):
        for i, view in enumerate(VIEWS):
            if (place := sample.coordinates(view)).warped:
                down, across = place.scale()
                top, bottom, left, right = sample.placement[i]
                shares.append(area[i] / (down * across * (bottom - top) * abs(right - left)))
    return np.array(shares)


def test_samples_are_filled_with_breast(warped: dict[str, Path]) -> None:
    for folder in warped.values():
        shards = fvpipe.open_shards(folder)
        shares = breast_shares(shards)
        assert len(shares) >= 2 * len(shards) - 2
        assert np.median(shares) >= 0.95
        assert shares.min() >= 0.9
        assert shares.max() <= 1
        assert not verify(folder)


def test_real_films_are_warped(cbis: Path, tmp_path: Path) -> None:
    """Seven of eight at least; the white border above two of them is not part of the sample."""
    build(cbis, tmp_path, "--adapter", "cbis", pipeline="adaptive")
    resized = [row[f"{view}_resized"] for row in rows_of(tmp_path / "breasts.csv") for view in ("cc", "mlo")]
    assert len(resized) == 8
    assert resized.count("equal_area") >= 7
    shards = fvpipe.open_shards(tmp_path)
    assert np.median(breast_shares(shards)) >= 0.9
    tops = {name: int(box[1, 0]) for name, box in zip(shards.breast_ids.tolist(), shards.columns["crop_box"], strict=True)}
    assert tops["P_00173_L"] == tops["P_00173_R"] == 0
    assert 20 <= tops["P_00820_L"] <= 60
    assert 20 <= tops["P_00820_R"] <= 60


def test_findings_stay_inside_and_map_back(phantoms: dict[str, Path], warped: dict[str, Path]) -> None:
    """As polygons that lie in their view's part of the sample, over what is bright."""
    shards = fvpipe.open_shards(warped["vindr"])
    index = {name: i for i, name in enumerate(shards.breast_ids.tolist())}
    found = rows_of(warped["vindr"] / "findings.csv")
    assert len(found) >= 10
    for row in found:
        sample, view = shards[index[row["breast_id"]]], View(row["view"])
        place = sample.coordinates(view)
        points = np.array([[float(number) for number in point.split(",")] for point in row["image_outline"].split()])
        top, bottom, *sides = sample.placement[VIEWS.index(view)]
        assert ((points >= [top, min(sides)]) & (points <= [bottom, max(sides)])).all()
        ends = [float(row[f"image_{side}"]) for side in ("top", "bottom", "left", "right")]
        around = [points[:, 0].min(), points[:, 0].max(), points[:, 1].min(), points[:, 1].max()]
        assert ends == pytest.approx(around, abs=0.01)
        rows, columns = place.to_source(*points.T)
        box = [float(row[side]) for side in ("top", "bottom", "left", "right")]
        back = [rows.min(), rows.max(), columns.min(), columns.max()]
        assert back == pytest.approx(box, abs=0.2)  # of points that were rounded to 0.01 pixels of the sample
        middle = place.to_image((box[0] + box[1]) / 2, (box[2] + box[3]) / 2)
        window = sample.image[int(ends[0]) : int(ends[1]), int(ends[2]) : int(ends[3])]
        assert sample.image[int(middle[0]), int(middle[1])] > window.mean()


def test_lesions_get_more_pixels_than_when_cropped(phantoms: dict[str, Path], warped: dict[str, Path], tmp_path: Path) -> None:
    build(phantoms["vindr"], tmp_path, "--adapter", "vindr", pipeline="cropped")
    cropped, larger = (
        np.array([_area(row) for row in rows_of(folder / "findings.csv")]) for folder in (tmp_path, warped["vindr"])
    )
    assert np.median(larger / cropped) > 1.3
    # What is not warped has nothing of it.
    with h5py.File(next(tmp_path.glob("*.h5"))) as shard:
        assert not [name for name in shard if name.startswith("warp")]
    assert not {"cc_resized", "image_outline"} & {name for table in tmp_path.glob("*.csv") for name in rows_of(table)[0]}


def _area(row: dict[str, str]) -> float:
    top, bottom, left, right = (float(row[f"image_{side}"]) for side in ("top", "bottom", "left", "right"))
    if not row.get("image_outline"):
        return (bottom - top) * (right - left)
    y, x = np.array([[float(number) for number in point.split(",")] for point in row["image_outline"].split()]).T
    return float(abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2)


def test_a_view_without_an_outline_is_named(tmp_path: Path) -> None:
    """Its breast is built, its own row and arrays say that it was cropped, and its page is drawn."""
    drawn = factory.patient(tmp_path / "dicom", "P1", "L")
    noise = factory.Made(np.random.default_rng(0).integers(0, 4096, (320, 256), dtype=np.uint16), factory.breast().drawing, 12)
    factory.mammogram(tmp_path / "dicom" / "P1_L_CC.dcm", noise, PatientID="P1", view=factory.CC, SOPInstanceUID="2.25.77")
    assert len(drawn) == 2
    out = tmp_path / "out"
    build(tmp_path / "dicom", out, pipeline="adaptive")
    (row,) = rows_of(out / "breasts.csv")
    assert (row["cc_crop"], row["cc_resized"], row["mlo_resized"]) == ("whole_frame", "crop", "equal_area")
    (sample,) = fvpipe.open_shards(out)
    assert [sample.coordinates(view).warped for view in VIEWS] == [False, True]
    assert sample.to_image(View.CC, 320, 256)[0] == 256
    assert write_page(out, tmp_path / "page.html", 3) == (1, 1)
    assert (tmp_path / "page.html").read_text().count("warped</text>") == 1


def test_pages_draw_findings(warped: dict[str, Path], tmp_path: Path) -> None:
    """Over the sample, and over each source."""
    write_page(warped["vindr"], tmp_path / "page.html", 100)
    page = (tmp_path / "page.html").read_text()
    findings = len(rows_of(warped["vindr"] / "findings.csv"))
    assert page.count('stroke="#fd5"') == 2 * findings
    assert len(re.findall(r'<polygon points="[0-9., -]+" fill="currentColor"', page)) == page.count("warped</text>")
    own = Path(shutil.copytree(warped["vindr"], tmp_path / "own"))
    (own / "findings.csv").write_text("breast_id,view\n")
    with pytest.raises(ShardError, match=r"findings\.csv: its bytes differ"):
        write_page(own, tmp_path / "page.html", 3)


def test_one_view_alone(phantoms: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "alone.yaml").write_text(
        "{fuse: {layout: mlo}, segment: {method: otsu_log}, resize: {method: equal_area}, size: [64, 48]}"
    )
    build(phantoms["cmmd"], tmp_path / "out", "--adapter", "cmmd", pipeline=str(tmp_path / "alone.yaml"))
    rows = rows_of(tmp_path / "out" / "breasts.csv")
    assert {row["cc_resized"] for row in rows} == {""}
    assert {row["mlo_resized"] for row in rows} == {"equal_area"}
    shards = fvpipe.open_shards(tmp_path / "out")
    assert shards.columns["warp_rows"].shape == (len(shards), 2, 65)
    assert np.isnan(shards.columns["mm_per_pixel"][:, 0]).all()
    assert not verify(tmp_path / "out")


def test_same_bytes_for_any_workers(phantoms: dict[str, Path], warped: dict[str, Path], tmp_path: Path) -> None:
    build(phantoms["cmmd"], tmp_path, "--adapter", "cmmd", "--threads", pipeline="adaptive", workers=3)
    assert tree(tmp_path) == tree(warped["cmmd"])
