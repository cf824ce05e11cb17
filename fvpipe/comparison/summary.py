"""Results of a project as questions with answers: one table, with which `make demo` ends."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fvpipe.comparison.pipelines import CHANCE
from fvpipe.config.loading import digest_of
from fvpipe.errors import InputError, ReceiptError
from fvpipe.evaluation.tables.table1 import POOLED
from fvpipe.evaluation.text import text_table
from fvpipe.evaluation.training_record import titled
from fvpipe.printable import escaped
from fvpipe.shards.format import read_receipt


@dataclass(frozen=True, slots=True)
class Answer:
    """One line of the summary."""

    question: str  # in words
    answer: str
    value: float | None  # an area under the ROC curve, or a difference of two
    low: float | None  # its 95 % interval
    high: float | None
    neutral: float  # the value that means nothing: .5 for an area, 0 for a difference
    source: str  # where the number comes from
    simulated: bool


def read_answers(folder: Path, shortcuts: Path | None = None) -> list[Answer]:
    """Answer from the results of `fvpipe compare --out` in a folder; those about models only where models were compared.

    Parameters
    ----------
    folder : Path
        Holds the results as JSON files.
    shortcuts : Path or None
        What `fvpipe table1 --out` wrote: then the best score without an image is printed, too.

    Raises
    ------
    InputError
        A file is not a result of `fvpipe compare`.
    """
    found: list[Answer] = []
    for path in [*([shortcuts] if shortcuts is not None and shortcuts.is_file() else []), *sorted(folder.glob("*.json"))]:
        try:
            result = json.loads(path.read_bytes())
            answers = _of_shortcuts(result) if path == shortcuts else _of_comparison(result)
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            command = "table1" if path == shortcuts else "compare"
            raise InputError(
                f"{path}: is not a result of `fvpipe {command} --out` ({type(error).__name__}); run it again"
            ) from None
        found += [answer for answer in answers if answer not in found]
    return found


def outdated_comparisons(folder: Path, shards: Path) -> Iterator[str]:
    """Name the results of :func:`read_answers` that compare other shards than those that are below `shards` now."""
    for path in sorted(folder.glob("*.json")):
        compared: Mapping[str, str] = json.loads(path.read_bytes()).get("shards", {})
        others = [name for name, digest in compared.items() if _digest(shards / name) not in ("", digest)]
        if others:
            yield f"{path}: {shards / others[0]} was built again since; run the `fvpipe compare` that wrote it again"


def _digest(folder: Path) -> str:
    try:
        return digest_of(read_receipt(folder).to_json())
    except ReceiptError:  # only results were downloaded, or a build is under way
        return ""


def summary_text(answers: list[Answer]) -> str:
    """Lay out the answers as a table of at most 100 columns."""
    rows = []
    for each in answers:
        sign = "+" if each.neutral == 0 else ""
        numbers = ["-" if number is None else f"{number:{sign}.2f}" for number in (each.value, each.low, each.high)]
        interval = f" ({numbers[1]} to {numbers[2]})" if each.low is not None else ""
        rows.append((each.question, each.answer, numbers[0] + interval, each.source))
    text = text_table(("question", "answer", "AUC, or difference (95 %)", "of"), rows, left=2)
    return text + ("\nSimulated data: nothing follows for real breasts." if any(each.simulated for each in answers) else "")


def _of_shortcuts(metrics: Mapping[str, Any]) -> list[Answer]:
    """The best score without an image, over all real or all simulated data sets together: what a model on them must beat."""
    answers = []
    for simulated in (False, True):
        floors = metrics.get(titled(POOLED, simulated), {}).get("floors", {})
        areas = {escaped(name): area for name, floor in floors.items() if (area := _number(floor.get("auc"))) is not None}
        if areas:
            best, source = max(areas, key=lambda name: max(areas[name], 1 - areas[name])), titled("all data sets", simulated)
            answers.append(Answer("Best score without an image?", best, areas[best], None, None, CHANCE, source, simulated))
    return answers


def _of_comparison(result: Mapping[str, Any]) -> list[Answer]:
    return [*_of_models(result), *(each for data_set in result["data_sets"] for each in _of_data_set(data_set))]


def _of_models(result: Mapping[str, Any]) -> Iterator[Answer]:
    for model in result["models"]:
        if model["result"] is None:
            continue
        source = f"{model['model']}, {model['split']}"
        for side in ("first", "second"):
            name, area = result["data_sets"][0][side], model["result"][side]
            learnt = area["low"] is not None and area["low"] > CHANCE
            yield _answer(f"Is the lesion learnt, {name}?", "yes" if learnt else "not shown", area, CHANCE, source, model)


def _of_data_set(data_set: Mapping[str, Any]) -> Iterator[Answer]:
    if not data_set["detectability"]:
        return
    first, second, source = data_set["first"], data_set["second"], f"{data_set['dataset']}, noise {255 * data_set['noise']:.0f}"
    row = data_set["detectability"][0]
    answer = {"first": "yes", "second": "no, the reverse"}.get(row["verdict"], "undecided")
    yield _answer(f"Is {first} better than {second}?", answer, row["difference"], 0.0, source, data_set)
    words = "yes" if data_set["control_at_chance"] else "NO: distrust all of this"
    yield _answer(f"Shuffled labels at chance, {first}?", words, data_set["control"], CHANCE, source, data_set)


def _answer(
    question: str, answer: str, estimate: Mapping[str, Any], neutral: float, source: str, of: Mapping[str, Any]
) -> Answer:
    value, low, high = (_number(estimate[name]) for name in ("value", "low", "high"))
    return Answer(escaped(question), answer, value, low, high, neutral, escaped(source), bool(of["simulated"]))


def _number(value: Any) -> float | None:
    """A finite number, or None; raises TypeError or ValueError for what is none."""
    found = None if value is None else float(value)
    return found if found is None or math.isfinite(found) else None
