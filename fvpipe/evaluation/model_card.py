"""A model card for each (pipeline, split, model), and reporting checklists as far as the records answer them: Markdown."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from importlib import resources
from typing import Any, TypeVar

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from fvpipe.config.loading import parse_yaml
from fvpipe.evaluation.evaluate import ModelEvaluation
from fvpipe.evaluation.pooled import PooledRuns
from fvpipe.evaluation.text import shown, span
from fvpipe.evaluation.training_record import NOT_A_DEVICE, Record
from fvpipe.imaging.canvas import needed_views
from fvpipe.printable import escaped

CHECKLIST = "templates/checklist.yaml"

T = TypeVar("T")


class _NotKnown(Exception):
    """A value of an answer is not in the records."""


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
    return environment.get_template("model_card.md.jinja").render(_facts(evaluation))


def checklist(evaluation: ModelEvaluation) -> str:
    """Fill the items of TRIPOD+AI and CLAIM that the records answer, and mark those that the author has to write."""
    lines = [f"# Reporting checklists: {_cell(' / '.join(evaluation.pool.key))}", ""]
    lines += ["> **Simulated data.** Nothing here holds for real patients.", ""] if evaluation.pool.record.simulated else []
    lines += ["Filled from the records of training and evaluation alone; **author** marks what is for you to write."]
    guideline = ""
    for name, number, topic, answer, rest in checklist_items(evaluation):
        if name != guideline:
            lines += ["", f"## {name}", "", "| item | topic | |", "|---|---|---|"]
            guideline = name
        missing = rest or ("" if answer else "not in the records")
        cells = [answer] * bool(answer) + [f"**author**: {missing}"] * bool(missing)
        lines.append(f"| {number} | {topic} | {'; '.join(cells)} |")
    return "\n".join(lines) + "\n"


def checklist_items(evaluation: ModelEvaluation) -> Iterator[tuple[str, str, str, str, str | None]]:
    """Yield guideline, number, topic, answer (empty where a value is not known) and what the author has to write."""
    content = parse_yaml(resources.files("fvpipe.evaluation").joinpath(CHECKLIST).read_text("utf-8"), CHECKLIST)
    environment = Environment(autoescape=False, finalize=_known, undefined=StrictUndefined)  # noqa: S701 - as above
    facts, answers = _facts(evaluation), dict[str | None, str]({None: ""})
    for name, source in content["answers"].items():
        template = environment.from_string(source)
        with suppress(_NotKnown):
            by_run = _by_run(evaluation.pool, partial(_answer, template, facts))
            answers[name] = "; ".join(f"{_cell(runs)}: {text}" if runs else text for runs, text in by_run)
    for guideline, items in content["guidelines"].items():
        for number, topic, answer, rest in items:
            yield guideline, number, topic, answers.get(answer, ""), rest


def _answer(template: Template, facts: dict[str, Any], record: Record) -> str:
    return template.render(facts | {"record": record}).strip()


def _by_run(pool: PooledRuns, of: Callable[[Record], T]) -> list[tuple[str, T]]:
    """Facts of the records, each with its split or run; one without a name where all agree."""
    records = [run.record for run in pool.runs]
    found = [of(record) for record in records]
    if all(each == found[0] for each in found):
        return [("", found[0])]
    by_split = {record.run.split: each for record, each in zip(records, found, strict=True)}
    if all(by_split[record.run.split] == each for record, each in zip(records, found, strict=True)):
        return [*by_split.items()]
    return [(f"{record.run.split}, seed {record.run.seed}", each) for record, each in zip(records, found, strict=True)]


def _facts(evaluation: ModelEvaluation) -> dict[str, Any]:
    pool = evaluation.pool
    changes = [name for name, value in pool.record.recipe.augment.model_dump().items() if value]
    return {
        "one": evaluation,
        "record": pool.record,
        "views": [view.value for view in needed_views(pool.record.pipeline)],
        "augmentation": ", ".join(changes).replace("_", " ") or "none",
        "dropped": _by_run(pool, lambda record: record.dropped),
        "software": _by_run(pool, lambda record: f"{record.device} with torch {record.torch}"),
        "not_a_device": NOT_A_DEVICE,
        "estimate": lambda found: None if found.value is None else span(found),
    }


def _known(value: Any) -> Any:
    if value is None or (isinstance(value, str) and not value.strip()):
        raise _NotKnown
    return _cell(value)


def _cell(value: Any) -> Any:
    """Format a value of the template: text is escaped and kept on one line, a float has three decimals, None is a dash."""
    if value is None or isinstance(value, float):
        return shown(value)
    if isinstance(value, str):
        return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", escaped(re.sub(r"\s+", " ", value)))
    return value
