"""Two pipelines by the models that were trained on their samples, on the same test breasts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fvpipe.comparison.detectability import Detectability
from fvpipe.config.training import Evaluate
from fvpipe.evaluation.metrics.binary import roc_auc_of_weights
from fvpipe.evaluation.metrics.intervals import bootstrap
from fvpipe.evaluation.pooled import PooledRuns, differences_text, on_common_breasts, pool_runs, training_differences
from fvpipe.evaluation.text import to_json
from fvpipe.evaluation.training_record import RECORD, TrainedRun, read_run
from fvpipe.shards.format import Receipt


@dataclass(frozen=True, slots=True)
class TrainedComparison:
    """One model on one split, trained on the samples of both pipelines.

    Attributes
    ----------
    split, model : str
        Names.
    simulated : bool
        Whether a data set of the split is simulated.
    result : Detectability or None
        Areas under the ROC curve on the test breasts that both predicted, of the mean over seeds; None where the trainings
        differ in more than the pipeline.
    differs : tuple of str
        In what.
    """

    split: str
    model: str
    simulated: bool
    result: Detectability | None
    differs: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        verdict = {"verdict": self.result.verdict} if self.result else {}
        return {name: to_json(getattr(self, name)) for name in self.__slots__} | verdict


def trained_on_both(
    models: Path, first: Receipt, second: Receipt, datasets: Collection[str]
) -> tuple[Sequence[TrainedRun], Sequence[TrainedRun]]:
    """Read the models that were trained on the samples of each of two pipelines.

    Parameters
    ----------
    models : Path
        Folder ``cache/models`` of a project.
    first, second : Receipt
        Of shards of both pipelines: models of other settings under the same names are left out.
    datasets : collection of str
        Compared data sets; models that were trained or tested on others are left out.

    Raises
    ------
    CheckpointError, InputError
        A finished training is damaged, of another version or in the folder of another.
    """
    one, two = (
        [
            run
            for run in _trained(models, receipt.pipeline)
            if run.record.pipeline_digest == receipt.pipeline_digest and set(run.record.datasets) <= set(datasets)
        ]
        for receipt in (first, second)
    )
    return one, two


def compare_runs(first: Sequence[TrainedRun], second: Sequence[TrainedRun], settings: Evaluate) -> list[TrainedComparison]:
    """Compare trainings on one pipeline with those of the same split and model on another.

    Parameters
    ----------
    settings : Evaluate
        Of the bootstrap over patients.

    Raises
    ------
    InputError
        Seeds and folds do not fit together.
    """
    one, two = ({pool.key[1:]: pool for pool in pool_runs(runs)} for runs in (first, second))
    return [_compare(one[key], two[key], settings) for key in one if key in two]


def _trained(models: Path, pipeline: str) -> Sequence[TrainedRun]:
    places = [record.parent.relative_to(models) for record in sorted(models.glob(f"{pipeline}/*/*/{RECORD}"))]
    return [read_run(models, place) for place in places]


def _compare(first: PooledRuns, second: PooledRuns, settings: Evaluate) -> TrainedComparison:
    _, split, model = first.key
    differs = differences_text(training_differences(first, second))
    if differs:
        return TrainedComparison(split, model, first.record.simulated, None, tuple(differs))
    mine, theirs = on_common_breasts(first, second)
    truth = mine.truth

    def areas(weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        one, two = (roc_auc_of_weights(truth, pool.mean_scores, weights) for pool in (mine, theirs))
        return {"first": one, "second": two, "difference": one - two}

    estimates = bootstrap(areas, mine.patients, settings.bootstrap, settings.seed)
    result = Detectability("test", int(truth.sum()), int((truth == 0).sum()), **estimates)
    return TrainedComparison(split + first.missing_folds, model, first.record.simulated, result, ())
