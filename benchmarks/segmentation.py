"""Quality of the segmentation: simulated breasts under hard surroundings, compared with their true masks.

`python -m benchmarks.segmentation [COUNT] [FIRST]` (600 and 0 where not given), one seed after the other. Asked: Dice 0.98 in
the mean and 0.95 at the first percentile, fallbacks at most 0.5 %, no box that loses more than 1 % of the breast; exit code 1
where this is not so. `tests/support/variations.py` draws the image of a seed again.
"""

from __future__ import annotations

import sys

import numpy as np

from tests.support.variations import score, variation, varied


def main() -> None:
    """Score all seeds, and list the worst."""
    count, first = map(int, (sys.argv[1:] + ["600", "0"][len(sys.argv) - 1 :])[:2])
    scores = [score(varied(variation(seed))) for seed in range(first, first + count)]
    dice = np.array([s.dice for s in scores])
    fallbacks = sum(s.fallback for s in scores)
    lost = max(s.lost for s in scores)
    print(f"{count} simulated breasts, seeds {first} to {first + count - 1}")
    print(f"Dice: mean {dice.mean():.4f}, first percentile {np.percentile(dice, 1):.4f}, worst {dice.min():.4f}")
    print(f"fallbacks: {fallbacks} ({100 * fallbacks / count:.2f} %); by the triangle: {sum(s.triangle for s in scores)}")
    print(f"boxes that lose more than 1 % of the breast: {sum(s.lost > 0.01 for s in scores)}; worst {100 * lost:.2f} %")
    print(f"seconds an image: {np.mean([s.seconds for s in scores]):.4f} (segmentation alone)")
    for s in [*sorted(scores, key=lambda s: s.dice)[:15], *sorted(scores, key=lambda s: -s.lost)[:8]]:
        print(f"  Dice {s.dice:.3f}, lost {100 * s.lost:.2f} %{', fallback' if s.fallback else ''}: {s.what}")
    held = dice.mean() >= 0.98 and np.percentile(dice, 1) >= 0.95 and fallbacks <= 0.005 * count and lost <= 0.01
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()
