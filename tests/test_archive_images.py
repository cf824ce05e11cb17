"""Segmentation under the situations of real archives: simulated ones with their truth, and real films made harder."""

from __future__ import annotations

import csv
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from fvpipe.config.pipeline import Segment
from fvpipe.imaging.segmentation.crop_verdict import DOUBTFUL, LIMITS, explain, judge
from fvpipe.imaging.segmentation.segment import segment, trace_segmentation
from fvpipe.reasons import NO_FLAG, VERDICT_FLAGS, CropVerdict, Flag, crop_verdict
from fvpipe.simulation.drawing import Anatomy, draw
from fvpipe.types import CropBox
from tests.conftest import build
from tests.support.archive import KINDS, archive_case, draw_archive
from tests.support.archive_scores import FLAGGED, Score, score
from tests.support.disturbances import with_margin, with_negative
from tests.support.factory import CC, LEFT, MLO, RIGHT, breast, dataset, file_bytes, write
from tests.support.films import decoded, disturbed_films

LOG = Segment(method="otsu_log")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "negative"])
def test_no_kind_loses_tissue_silently(kind: str) -> None:
    """A short form of benchmarks/segmentation.py, which draws several situations at once, in all sizes."""
    scores = [score(draw_archive(archive_case(seed, [kind], longest=480))) for seed in range(300, 308)]
    assert not [str(s.case) for s in scores if s.lost > 0.01 and not s.flagged]
    assert not [str(s.case) for s in scores if s.fallback]
    assert sum(s.flagged for s in scores) <= 1
    assert np.mean([s.dice for s in scores if not s.flagged]) >= 0.97


def test_a_negative_is_left_whole_and_flagged() -> None:
    for seed in range(300, 306):
        found = segment(draw_archive(archive_case(seed, ["negative"], longest=480)).image, LOG)
        assert (found.verdict, found.flags & FLAGGED) == (CropVerdict.WHOLE_FRAME, Flag.CC_CROP_FALLBACK), seed


@pytest.mark.parametrize("how", ["face to face", "one above the other", "four in one"])
def test_one_of_several_breasts_is_doubted(how: str) -> None:
    """Both breasts in one image, or a sheet of small copies: the crop holds one of them, and it may be the wrong one."""
    left, right = (breast(1, CC, side, (480, 380)).pixels for side in (LEFT, RIGHT))
    several = {
        "face to face": np.hstack([left, right]),
        "one above the other": np.vstack([left, left]),
        "four in one": np.tile(left[::2, ::2], (2, 2)),
    }
    found = segment(decoded(several[how] / 4095, LEFT), LOG)
    assert found.verdict is CropVerdict.DOUBTFUL, explain(found.gates)
    with_plate = left / 4095
    with_plate[20:140, 260:340] = 1.0
    alone = segment(decoded(with_plate, LEFT), LOG)
    assert alone.verdict is CropVerdict.GOOD, explain(alone.gates)


@pytest.mark.parametrize("method", ["otsu_log", "agreement"])
@pytest.mark.parametrize("side", [LEFT, RIGHT])
def test_a_negative_is_flagged_whatever_side_the_header_says(method: Any, side: Any) -> None:
    for seed in range(4):
        made = breast(seed, MLO if seed % 2 else CC, LEFT, (640, 520), 12, noise=0.002, pedestal=0.02)
        negative = decoded(with_negative(made.pixels / 4095), side)
        found, trace = trace_segmentation(negative, Segment(method=method))
        assert found.verdict is CropVerdict.WHOLE_FRAME, (seed, found)
        assert trace is not None
        assert trace.attempts == ()


@pytest.mark.parametrize("tissue", [0.008, 0.013, 0.02])
def test_dim_tissue_around_an_implant_is_kept_or_doubted(tissue: float) -> None:
    """Whatever surface would swallow it."""
    for seed in range(7400, 7412):
        clean = archive_case(seed, ["implant"], longest=480)
        dim = replace(clean, implant=tissue, noise=0.006 if tissue == 0.02 else 0.0)
        result = score(draw_archive(dim))
        assert result.lost <= 0.01 or result.flagged, (seed, result)


def test_a_breast_wider_than_the_frame_is_not_cut() -> None:
    for seed in range(6):
        made = breast(seed, CC if seed % 2 else MLO, LEFT, (640, 520), 12)
        width = round(0.88 * made.drawing.box.right)
        found = segment(decoded(made.pixels[:, :width] / 4095, LEFT), LOG)
        assert found.tight_box.right == width
        assert Flag.CHEST_WALL_CONFLICT not in found.flags


@pytest.mark.parametrize(("height", "length"), [(0.03, 0.08), (0.05, 0.10)])
def test_a_long_nipple_is_no_stripe(height: float, length: float) -> None:
    """Even where the edge of the image cuts it: a stripe is darker than tissue."""
    for seed in range(4):
        made = breast(seed, CC, LEFT, (640, 520), 12)
        values, box = made.pixels / 4095, made.drawing.box
        tip = int(np.median(np.flatnonzero(made.drawing.mask[:, box.right - 1])))
        rows = slice(tip - round(height * 320), tip + round(height * 320))
        end = box.right + round(length * 520)
        values[rows, box.right - 20 : end] = np.maximum(values[rows, box.right - 20 : end], 0.2)
        for columns in (520, end - 3):
            found = segment(decoded(values[:, :columns], LEFT), LOG)
            assert found.tight_box.right >= min(end, columns) - 6, (seed, columns)


def _lost(values: Any, breast_mask: Any) -> tuple[float, CropVerdict]:
    """Share of the breast outside the box, and the verdict."""
    found = segment(decoded(cv2.GaussianBlur(values, (0, 0), 0.8), LEFT), LOG)
    box = found.tight_box
    return 1 - breast_mask[box.top : box.bottom, box.left : box.right].sum() / breast_mask.sum(), found.verdict


@pytest.mark.parametrize("at", [0.6, 0.75])
def test_below_a_scar_the_breast_is_kept(at: float) -> None:
    """A notch of half the width, over 12 % of the height: no abdomen follows."""
    for seed in range(4):
        made = breast(seed, MLO if seed % 2 else CC, LEFT, (640, 520), 12)
        mask, (rows, columns) = made.drawing.mask, (made.drawing.box.height, made.drawing.box.width)
        y, x = np.mgrid[:640, :520]
        width, deep = mask.sum(axis=1)[:, None], 0.5 * columns
        scar = np.abs(y - made.drawing.box.top - at * rows) < 0.06 * rows * (1 - (width - x) / deep)
        left = mask & ~(scar & (x > width - deep))
        lost, verdict = _lost(np.sqrt(made.drawing.tissue) * left, left)
        assert lost <= 0.01, (seed, lost, verdict)


@pytest.mark.parametrize("reach", [0.15, 0.3, 0.5])
def test_abdomen_without_a_notch_makes_a_crop_loose(reach: float) -> None:
    """A body of that share of the breast's width runs to the bottom of the image; a breast that the edge cuts off does not."""
    for seed in range(4):
        made = breast(seed, MLO if seed % 2 else CC, LEFT, (640, 520), 12)
        box, (y, x) = made.drawing.box, np.mgrid[:640, :520]
        below = (y > (box.top + box.bottom) / 2) & (x < reach * box.width)
        values = np.sqrt(np.maximum(made.drawing.tissue, 0.2 * below))
        found = segment(decoded(cv2.GaussianBlur(values, (0, 0), 0.8), LEFT), LOG)
        excess = (found.tight_box.bottom - box.bottom) / found.tight_box.height
        assert excess < 0.08 or found.verdict is CropVerdict.LOOSE, (seed, excess, found.gates)
        cut = segment(decoded(np.sqrt(made.drawing.tissue[: box.bottom - box.height // 5]), LEFT), LOG)
        assert cut.verdict is CropVerdict.GOOD, (seed, cut.gates)


@pytest.mark.parametrize("width", [0.13, 0.17])
def test_tissue_of_uneven_brightness_is_no_wide_leak(width: float) -> None:
    """A strip of it above a small breast: along a leak, brightness hardly varies."""
    for seed in range(4):
        drawing = draw(np.random.default_rng(seed), (640, 520), CC, LEFT, Anatomy(0.25, 0.6, 0.5, None))
        y, x = np.mgrid[:640, :520]
        strip = (x < width * 520) & (y < drawing.box.top + 0.3 * drawing.box.height)
        lattice = np.random.default_rng(seed).uniform(0.6, 1.4, (24, 20))
        texture = cv2.resize(lattice, (520, 640), interpolation=cv2.INTER_CUBIC)
        lost, verdict = _lost(1.2 * np.where(drawing.mask, drawing.tissue, 0.1 * strip * texture), drawing.mask | strip)
        assert lost <= 0.01, (seed, lost, verdict)


def test_a_wide_strip_that_is_taken_for_a_leak_is_doubted() -> None:
    """Chest wall and axilla above a small breast, of one width and darker than it."""
    for seed, width in product(range(4), (0.11, 0.15)):
        drawing = draw(np.random.default_rng(seed), (640, 520), CC, LEFT, Anatomy(0.25, 0.6, 0.5, None))
        y, x = np.mgrid[:640, :520]
        strip = (x < width * 520) & (y < drawing.box.top + 0.3 * drawing.box.height)
        both = drawing.mask | strip
        lost, verdict = _lost(1.2 * np.where(drawing.mask, drawing.tissue, 0.1 * strip), both)
        assert lost <= 0.01 or verdict is not CropVerdict.GOOD, (seed, width, lost)


DISTURBED: dict[str, dict[str, Any]] = {
    "ramp from the chest wall": {"ramp": 0.05, "ramp_edge": "left"},
    "ramp from the top": {"ramp": 0.03, "ramp_edge": "top"},
    "ramp from the far side": {"ramp": 0.10, "ramp_edge": "right"},
    "pedestal": {"pedestal": 0.08},
    "implant": {"implant": 0.02},
    "arm": {"arm": 0.8},
    "vignette": {"vignette": 0.05},
    "black beside grey air": {"two_levels": 0.06},
}


@pytest.mark.parametrize("how", DISTURBED.values(), ids=DISTURBED.keys())
def test_what_is_added_to_a_clean_image_does_not_move_the_box(how: dict[str, Any]) -> None:
    """By 2 % of its side at most, or it is flagged."""
    for seed in (400, 401, 402):
        clean = archive_case(seed, ["arm"] if "arm" in how else [], longest=480)
        images = [draw_archive(replace(clean, **{"arm": 0.0, **added})).image for added in ({}, how)]
        before, after = (segment(image, LOG) for image in images)
        assert before.verdict is CropVerdict.GOOD
        assert _moved(before.tight_box, after.tight_box) < 0.02 or after.flags & FLAGGED, (
            seed,
            before.tight_box,
            after.tight_box,
        )


def _moved(before: CropBox, after: CropBox) -> float:
    """Largest distance between two edges, as a share of the side that they bound."""
    moved = np.abs(np.subtract(before.as_tuple(), after.as_tuple()))
    return float((moved / [before.height, before.height, before.width, before.width]).max())


@pytest.mark.parametrize("uneven", ["ramp", "vignette"])
def test_uneven_air_beside_black_collimation(uneven: str) -> None:
    """The surface of air does not bend down to the black beside it."""
    for seed in (303, 305, 319):
        found = score(draw_archive(archive_case(seed, ["two_levels", uneven], longest=480)))
        assert found.right, (seed, found)


@pytest.mark.parametrize("share", [0.03, 0.05, 0.12, 0.20])
@pytest.mark.parametrize("level", [0.0, 0.06])
def test_a_margin_beside_the_chest_wall_is_left_out(share: float, level: float) -> None:
    for view, side in ((CC, LEFT), (MLO, RIGHT)):
        made = breast(3, view, side, (640, 500), 12, noise=0.002, pedestal=0.02)
        wide = with_margin(made.pixels / 4095, share, "left" if side is LEFT else "right", level)
        found = segment(decoded(wide, side), LOG)
        added = wide.shape[1] - made.pixels.shape[1] if side is LEFT else 0
        own = made.drawing.box
        expected = CropBox(own.top, own.bottom, own.left + added, own.right + added)
        assert _moved(expected, found.tight_box) < 0.03
        assert found.flags == NO_FLAG


# --- real films -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_real_films_made_harder_are_right_or_flagged(cbis: Path) -> None:
    """No edge lies off the one drawn by hand by 6 % of the frame; on the clean films, none does by 2 %."""
    films = list(disturbed_films(cbis))
    assert {film.kind for film in films if film.flagged} >= {"negative"}
    assert not [(f.name, f.how, f.moved.round(3).tolist()) for f in films if np.abs(f.moved).max() > 0.06 and not f.flagged]
    close = [np.abs(film.moved).max() <= 0.02 for film in films if film.kind in ("ramp", "margin")]
    assert np.mean(close) >= 0.85


# --- verdicts ---------------------------------------------------------------------------------------------------------


def test_each_verdict_has_its_measurement_and_its_flag() -> None:
    good = dict.fromkeys(LIMITS, 0.0)
    assert judge(good) is CropVerdict.GOOD
    assert explain(good) == ""
    for name, limit in LIMITS.items():
        measured = {**good, name: limit * 1.01}
        verdict = judge(measured)
        assert verdict is (CropVerdict.DOUBTFUL if name in DOUBTFUL else CropVerdict.LOOSE)
        assert explain(measured) == f"{name} {limit * 1.01:.3g} (at most {limit:g})"
        for view in (0, 1):
            assert crop_verdict(Flag(int(VERDICT_FLAGS[verdict]) << view), view) is verdict
            assert crop_verdict(Flag(int(VERDICT_FLAGS[verdict]) << view), 1 - view) is CropVerdict.GOOD
    assert crop_verdict(Flag.MLO_CROP_FALLBACK, 1) is CropVerdict.WHOLE_FRAME


@pytest.mark.parametrize(
    ("axis", "at", "share"), [(0, 0.8, 0.01), (0, 0.25, 0.016), (0, 0.65, 0.022), (1, 0.2, 0.02), (1, 0.8, 0.04)]
)
def test_a_dark_band_that_cuts_off_a_part_is_doubted(axis: int, at: float, share: float) -> None:
    """Dead rows or columns of a detector, or a line across a film."""
    drawing = draw(np.random.default_rng(3), (640, 500), CC, LEFT, Anatomy(0.33, 0.6, 0.5, None))
    values = np.where(drawing.mask, 0.1 + 0.8 * drawing.tissue, 0.0)
    found = [segment(decoded(values, LEFT), LOG)]
    first, length = (drawing.box.left, drawing.box.width) if axis else (drawing.box.top, drawing.box.height)
    lines = slice(first + int(at * length), first + int(at * length) + round(share * 640))
    values[(slice(None), lines) if axis else lines] = 0
    found.append(segment(decoded(values, LEFT), LOG))
    assert [each.verdict for each in found] == [CropVerdict.GOOD, CropVerdict.DOUBTFUL]


def _pair(folder: Path, negative: bool) -> None:
    """Write CC and MLO of one breast, the MLO as a negative."""
    for i, view in enumerate((CC, MLO)):
        pixels = breast(5, view, LEFT, (640, 500), 12, pedestal=0.02).pixels
        if negative and view is MLO:
            pixels = (4095 - pixels).astype(np.uint16)
        uid = f"2.25.{100 * negative + i + 1}"
        tags = {"view": view, "SOPInstanceUID": uid, "PatientID": f"P{negative:d}"}
        write(folder / f"{negative:d}-{view}.dcm", file_bytes(dataset(pixels, 12, **tags), pixels))


def test_a_pipeline_builds_the_verdicts_that_it_lists(tmp_path: Path) -> None:
    for negative in (False, True):
        _pair(tmp_path / "dicom", negative)
    settings = {"segment": {"method": "otsu_log", "build": ["good", "loose"]}}
    (tmp_path / "strict.yaml").write_text(yaml.safe_dump(settings))
    build(tmp_path / "dicom", tmp_path / "all")
    with open(tmp_path / "all" / "breasts.csv", encoding="utf-8") as table:
        crops = sorted((row["cc_crop"], row["mlo_crop"]) for row in csv.DictReader(table))
    assert crops == [("good", "good"), ("good", "whole_frame")]
    build(tmp_path / "dicom", tmp_path / "strict", pipeline=str(tmp_path / "strict.yaml"))
    with open(tmp_path / "strict" / "breasts.csv", encoding="utf-8") as table:
        assert [(row["cc_crop"], row["mlo_crop"]) for row in csv.DictReader(table)] == [("good", "good")]
    with open(tmp_path / "strict" / "rejected.csv", encoding="utf-8") as table:
        rejected = [row for row in csv.DictReader(table) if row["reason"] == "crop_rejected"]
    assert len(rejected) >= 1
    assert "whole_frame" in rejected[0]["detail"]
    assert "segment.build is good, loose" in rejected[0]["detail"]


def test_direct_has_no_verdicts(tmp_path: Path) -> None:
    _pair(tmp_path / "dicom", negative=False)
    build(tmp_path / "dicom", tmp_path / "out", pipeline="direct")
    assert "cc_crop" not in (tmp_path / "out" / "breasts.csv").read_text().partition("\n")[0]


def test_scores_tell_a_lost_breast() -> None:
    """The measure itself: of a crop that is the whole frame nothing is lost, and the rest is excess."""
    made = draw_archive(archive_case(300, [], longest=480))
    whole = score(made, Segment(method="none"))
    assert isinstance(whole, Score)
    assert (whole.lost, whole.flagged) == (0.0, False)
    assert whole.excess_columns > 0.1
