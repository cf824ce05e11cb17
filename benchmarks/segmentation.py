"""How well the breast is found: simulated breasts under hard surroundings, scored against their true outlines.

`python benchmarks/segmentation.py [COUNT] [FIRST]` (600 where not given), one seed after the other. Held to: Dice 0.98 in the
mean and 0.95 at the first percentile, fallbacks at most 0.5 %, no box that loses more than 1 % of the breast. Exit code 1
where it is not. A seed in the output is drawn again by `tests/support/variations.py`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.variations import score, variation, varied  # noqa: E402


def main() -> None:
    """Score, and say what was worst."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 600
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    scores = [score(varied(variation(seed))) for seed in range(first, first + count)]
    dice = np.array([s.dice for s in scores])
    fallbacks = sum(s.fallback for s in scores)
    lost = max(s.lost for s in scores)
    print(f"{count} simulated breasts, seeds {first} to {first + count - 1}")
    print(f"Dice: mean {dice.mean():.4f}, first percentile {np.percentile(dice, 1):.4f}, worst {dice.min():.4f}")
    print(f"fallbacks: {fallbacks} ({100 * fallbacks / count:.2f} %); by the triangle: {sum(s.triangle for s in scores)}")
    print(f"boxes that lose more than 1 % of the breast: {sum(s.lost > 0.01 for s in scores)}; worst {100 * lost:.2f} %")
    print(f"seconds an image: {np.mean([s.seconds for s in scores]):.4f} (segmentation alone)")
    for s in sorted(scores, key=lambda s: s.dice)[:15]:
        print(f"  Dice {s.dice:.3f}, lost {100 * s.lost:.2f} %{', fallback' if s.fallback else ''}: {s.what}")
    for s in sorted(scores, key=lambda s: -s.lost)[:8]:
        print(f"  lost {100 * s.lost:.2f} %, Dice {s.dice:.3f}: {s.what}")
    held = dice.mean() >= 0.98 and np.percentile(dice, 1) >= 0.95 and fallbacks <= 0.005 * count and lost <= 0.01
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()
