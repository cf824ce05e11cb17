"""A model card for each (pipeline, split, model): data, training, metrics, subgroups and limits, as Markdown."""

from __future__ import annotations

import re
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from fvpipe.evaluation.evaluate import ModelEvaluation
from fvpipe.evaluation.text import shown
from fvpipe.evaluation.training_record import NOT_A_DEVICE
from fvpipe.printable import escaped


def model_card(evaluation: ModelEvaluation) -> str:
    """Fill ``templates/model_card.md.jinja`` with the results of one model."""
    environment = Environment(
        loader=PackageLoader("fvpipe.evaluation"),
        autoescape=False,  # noqa: S701 - Markdown, not HTML: `_cell` escapes every value
        finalize=_cell,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    template = environment.get_template("model_card.md.jinja")
    return template.render(one=evaluation, record=evaluation.pool.record, not_a_device=NOT_A_DEVICE)


def _cell(value: Any) -> Any:
    """Format a value of the template: text is escaped and kept on one line, a float has three decimals, None is a dash."""
    if value is None or isinstance(value, float):
        return shown(value)
    if isinstance(value, str):
        return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", escaped(re.sub(r"\s+", " ", value)))
    return value
