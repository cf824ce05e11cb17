"""Metrics of groups of test breasts, and their differences from the largest group of each kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fvpipe.config.training import Evaluate
from fvpipe.evaluation.metrics.intervals import Estimate
from fvpipe.evaluation.pooled import PooledRuns
from fvpipe.evaluation.text import to_json
from fvpipe.evaluation.training_record import Prediction

OF_GROUPS = ("auc", "recall", "specificity", "brier", "ece")
"""Metrics that are shown of subgroups."""

GROUPS: dict[str, Callable[[Prediction], str]] = {
    "data set": lambda p: p.dataset,
    "views": lambda p: p.views,
    "side": lambda p: p.breast_id.rpartition("_")[2],
    "density": lambda p: p.density or "unknown",
    "age": lambda p: f"{int(p.age) // 10 * 10} to {int(p.age) // 10 * 10 + 9}" if p.age else "unknown",
    "vendor and size": lambda p: f"{p.manufacturer or 'vendor unknown'} {p.size}",
}
"""Kinds of groups: the group of a breast."""


@dataclass(frozen=True, slots=True)
class Subgroup:
    """Metrics of a group of test breasts; where they are too few to be shown, `suppressed` says so and `breasts` is None."""

    by: str
    group: str
    breasts: int | None
    metrics: dict[str, Estimate]
    suppressed: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        results = {"suppressed": self.suppressed} if self.suppressed else to_json(self.metrics)
        return {"by": self.by, "group": self.group, "breasts": self.breasts, **results}


@dataclass(frozen=True, slots=True)
class SubgroupGap:
    """Metrics of a subgroup less those of the largest one of its kind, with the interval of the difference."""

    by: str
    group: str
    reference: str
    metrics: dict[str, Estimate]


def subgroups(pool: PooledRuns, settings: Evaluate) -> tuple[list[Subgroup], list[SubgroupGap]]:
    """Compute the metrics of each group of test breasts that is large enough to be shown, and their gaps to the largest."""
    found, gaps = [], []
    for by, group_of in GROUPS.items():
        groups = np.array([group_of(breast) for breast in pool.test])
        large = {}
        for group in np.unique(groups).tolist():
            chosen = np.flatnonzero(groups == group)
            if len(chosen) < settings.smallest_group:
                found.append(Subgroup(by, group, None, {}, f"fewer than {settings.smallest_group} breasts"))
                continue
            large[group] = chosen
            part = pool.part(chosen)
            estimates = part.estimates(part.metrics(settings.bins), settings)
            found.append(Subgroup(by, group, len(chosen), {name: estimates[name] for name in OF_GROUPS}))
        reference = max(large, key=lambda group: len(large[group]), default="")
        gaps += [
            SubgroupGap(by, group, reference, _gap(pool, chosen, large[reference], settings))
            for group, chosen in large.items()
            if group != reference
        ]
    return found, gaps


def _gap(pool: PooledRuns, group: NDArray[np.int64], reference: NDArray[np.int64], settings: Evaluate) -> dict[str, Estimate]:
    """Compare two groups under the same resampled patients, who may have a breast in each."""
    one, other = (pool.part(chosen).metrics(settings.bins) for chosen in (group, reference))

    def difference(weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        first, second = one(weights[:, group]), other(weights[:, reference])
        return {name: first[name] - second[name] for name in OF_GROUPS}

    return pool.estimates(difference, settings)
