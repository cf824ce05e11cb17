"""Quality of the segmentation: simulated breasts under hard surroundings, compared with their true masks.

`python -m benchmarks.segmentation [COUNT] [FIRST]` takes one seed after the other. Three sets of images are scored, and the
worst listed; the exit code is 1 where a set is not as asked.

- Real films (`tests/support/films.py`), with disturbances of their air: no edge off by 6 % of the frame without a flag.
- Variations (`tests/support/variations.py`): Dice 0.98 in the mean and 0.95 at the first percentile, fallbacks at most 0.5 %,
  no box that loses more than 1 % of the breast.
- Situations of archives (`tests/support/archive.py`), by kind: the same with Dice 0.985; in addition at most 3 % loose or
  doubtful crops, and at most 2 % of MLO with more than 10 % of the columns beyond the breast. A lost part of the breast counts
  where no flag says so. A negative is right if its crop is right or flagged, and counts in nothing else.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from fvpipe.datasets.cbis import copy_sample
from tests.support import archive, archive_scores, variations
from tests.support.factory import MLO
from tests.support.films import disturbed_films

LOST, EXCESS, FILM_BOUND = 0.01, 0.10, 0.06
HEAD = ("kind", "n", "Dice mean", "p1", "lost, silent", "loose, doubt", "whole frame", "excess (MLO)")


def main() -> None:
    """Score all seeds of the chosen sets."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.segmentation", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("count", nargs="?", type=int, default=600, help="number of seeds (600)")
    parser.add_argument("first", nargs="?", type=int, default=0, help="first seed (0)")
    parser.add_argument("--set", choices=("all", "films", "variations", "archive"), default="all", help="images to score (all)")
    parser.add_argument("--processes", type=int, default=2, help="seeds drawn and scored at a time (2)")
    chosen = parser.parse_args()
    seeds = range(chosen.first, chosen.first + chosen.count)
    held = _report_films() if chosen.set in ("all", "films") else True
    with multiprocessing.Pool(chosen.processes, cv2.setNumThreads, (1,)) as pool:
        for name, one, report in (("variations", _variation, _report_variations), ("archive", _archive, _report_archive)):
            if chosen.set in ("all", name):
                print(f"{name}: {chosen.count} simulated breasts, seeds {chosen.first} to {seeds[-1]}")
                held &= report(pool.map(one, seeds, chunksize=4))
                print(flush=True)
    sys.exit(0 if held else 1)


def _report_films() -> bool:
    """Print how far the boxes of real films with disturbed air lie from those drawn by hand."""
    with tempfile.TemporaryDirectory() as folder:
        copy_sample(Path(folder))
        films = list(disturbed_films(Path(folder)))
    print("films: eight, with disturbances; edges of the box from those drawn by hand, as shares of the frame")
    for kind in dict.fromkeys(film.kind for film in films):
        group = [film for film in films if film.kind == kind]
        off = [float(np.abs(film.moved).max()) for film in group if not film.flagged]
        within = ", ".join(f"within {100 * share:g} % {sum(o <= share for o in off)}" for share in (0.02, 0.05))
        flagged, worst = len(group) - len(off), 100 * max(off, default=0.0)
        print(f"  {kind:<11}{len(group):>4} images: {within}, flagged {flagged}, worst without a flag {worst:.1f} %")
    print(flush=True)
    return all(film.flagged or np.abs(film.moved).max() <= FILM_BOUND for film in films)


def _variation(seed: int) -> variations.Score:
    return variations.score(variations.varied(variations.variation(seed)))


def _archive(seed: int) -> archive_scores.Score:
    return archive_scores.score(archive.draw_archive(archive.archive_case(seed)))


def _report_variations(scores: Sequence[variations.Score]) -> bool:
    """Print Dice, fallbacks and losses, and the worst; return whether they are as asked."""
    count, dice = len(scores), np.array([s.dice for s in scores])
    fallbacks = sum(s.fallback for s in scores)
    lost = max(s.lost for s in scores)
    print(f"Dice: mean {dice.mean():.4f}, first percentile {np.percentile(dice, 1):.4f}, worst {dice.min():.4f}")
    print(f"fallbacks: {fallbacks} ({100 * fallbacks / count:.2f} %); by the triangle: {sum(s.triangle for s in scores)}")
    print(f"boxes that lose more than 1 % of the breast: {sum(s.lost > LOST for s in scores)}; worst {100 * lost:.2f} %")
    print(f"seconds an image: {np.mean([s.seconds for s in scores]):.4f} (segmentation alone)")
    for s in [*sorted(scores, key=lambda s: s.dice)[:15], *sorted(scores, key=lambda s: -s.lost)[:8]]:
        print(f"  Dice {s.dice:.3f}, lost {100 * s.lost:.2f} %{', fallback' if s.fallback else ''}: {s.what}")
    return bool(dice.mean() >= 0.98 and np.percentile(dice, 1) >= 0.95 and fallbacks <= 0.005 * count and lost <= LOST)


def _report_archive(scores: Sequence[archive_scores.Score]) -> bool:
    """Print a row for each kind, the bounds, and the worst of each fault; return whether all bounds are held."""
    positive = [s for s in scores if not s.case.negative]
    groups = {"clean": [s for s in positive if not s.case.kinds]}
    groups |= {kind: [s for s in positive if kind in s.case.kinds] for kind in archive.KINDS if kind != "negative"}
    rows = [_row(kind, group) for kind, group in {**groups, "all": positive}.items() if group]
    for cells in (HEAD, *rows):
        print(f"{cells[0]:<11}{cells[1]:>5}" + "".join(f"{cell:>14}" for cell in cells[2:]))
    negatives = [s for s in scores if s.case.negative]
    wrong = [s for s in negatives if not s.right and not s.flagged]
    print(f"negative   {len(negatives):>5}   wrong and silent {len(wrong)}, flagged {sum(s.flagged for s in negatives)}")
    print(f"seconds an image: {np.mean([s.seconds for s in scores]):.4f} (segmentation alone)")
    if not positive:
        return not wrong
    dice, mlo = np.array([s.dice for s in positive]), [s for s in positive if s.case.view is MLO]
    held = True
    for what, value, low, high in (
        ("lost > 1 % and silent", _count(positive, _silent), 0, 0),
        ("loose or doubtful, %", _percent(positive, _loose), 0, 3),
        ("whole frame, %", _percent(positive, lambda s: s.fallback), 0, 0.5),
        ("columns in excess > 10 % of MLO, %", _percent(mlo, _wide), 0, 2),
        ("Dice, mean", float(dice.mean()), 0.985, 1),
        ("Dice, first percentile", float(np.percentile(dice, 1)), 0.95, 1),
        ("negatives wrong and silent", len(wrong), 0, 0),
    ):
        bound = f"at least {low}" if high == 1 else f"at most {high}"
        print(f"  {'held  ' if low <= value <= high else 'FAILED'} {what:<36}{value:>9.4g}  ({bound})")
        held &= low <= value <= high
    for title, faulty, worst in (
        ("silent losses", [s for s in positive if _silent(s)], lambda s: -s.lost),
        ("excess columns in MLO", [s for s in mlo if _wide(s)], lambda s: -s.excess_columns),
        ("least Dice", positive, lambda s: s.dice),
        ("negatives wrong and silent", wrong, lambda s: s.dice),
    ):
        print(f"{title}: {len(faulty)}" if faulty is not positive else title)
        for s in sorted(faulty, key=worst)[:8]:
            print(f"  Dice {s.dice:.3f}, lost {100 * s.lost:.1f} %, excess {100 * s.excess_columns:.0f} %: {s.case}")
    return held


def _silent(s: archive_scores.Score) -> bool:
    return s.lost > LOST and not s.flagged


def _loose(s: archive_scores.Score) -> bool:
    return s.flagged and not s.fallback


def _wide(s: archive_scores.Score) -> bool:
    return s.excess_columns > EXCESS


def _count(scores: Sequence[archive_scores.Score], fault: Callable[[archive_scores.Score], bool]) -> int:
    return sum(map(fault, scores))


def _percent(scores: Sequence[archive_scores.Score], fault: Callable[[archive_scores.Score], bool]) -> float:
    return 100 * _count(scores, fault) / max(len(scores), 1)


def _row(kind: str, scores: Sequence[archive_scores.Score]) -> tuple[str, ...]:
    dice, mlo = [s.dice for s in scores], [s for s in scores if s.case.view is MLO]
    shares = _percent(scores, _loose), _percent(scores, lambda s: s.fallback), _percent(mlo, _wide)
    return (
        kind, str(len(scores)), f"{np.mean(dice):.4f}", f"{np.percentile(dice, 1):.4f}", str(_count(scores, _silent)),
        *(f"{share:.1f} %" for share in shares),
    )  # fmt: skip


if __name__ == "__main__":
    main()
