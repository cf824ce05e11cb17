"""Forms of the facts that a pipeline names in `targets`, with the classes and counts of a build, for its shards."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from fvpipe.config.loading import nearest
from fvpipe.datasets.source import Source
from fvpipe.errors import ParameterError
from fvpipe.io.folding import folded
from fvpipe.printable import escaped
from fvpipe.shards.targets import BUILT_IN, TargetForm, class_names
from fvpipe.types import Breast


def target_forms(source: Source, names: Iterable[str]) -> list[TargetForm]:
    """Look up what targets mean in a data set; classes that depend on its breasts, and counts, are not filled in.

    Raises
    ------
    ParameterError
        Neither fvpipe nor the data set's declaration knows one.
    """
    declaration = source.adapter.declaration
    known = dict(BUILT_IN)
    for name, each in declaration.targets.items() if declaration else ():
        meaning, unit = (escaped(" ".join(text.split())) for text in (each.meaning, each.unit))
        known[name] = TargetForm(name, "number" if each.unit else "class", meaning, unit)
    for name in names:
        if name not in known:
            raise ParameterError(
                f"targets: data set {source.name!r} (adapter {source.adapter.name!r}) has no fact {name!r}"
                f"{nearest(name, list(known))}; known: {', '.join(known)}. A declaration adds others by its key `targets`; a "
                "pipeline with a target of one data set is built with `--dataset`"
            )
    return [known[name] for name in names]


def filled_forms(source: Source, names: Collection[str], breasts: Collection[Breast]) -> tuple[TargetForm, ...]:
    """Forms of targets with the classes that occur among `breasts`, and the number of breasts of which each is known.

    Raises
    ------
    ParameterError
        Neither fvpipe nor the data set's declaration knows one, or its texts are too many for classes.
    """
    forms = []
    for form in target_forms(source, names):
        cells = [cell_of(form, breast) for breast in breasts]
        try:
            if form.kind == "class" and not form.classes:
                form = replace(form, classes=class_names(cells))
                _check_spelling(form.classes)
            known = int(form.is_known(form.encode(cells)).sum())
        except ValueError as error:
            raise ParameterError(
                f"targets: {form.name!r} of data set {source.name!r} cannot be a target: {error}; give its column `values` "
                "in the adapter's declaration, or leave it out of the pipeline"
            ) from None
        forms.append(replace(form, known=known))
    return tuple(forms)


def _check_spelling(classes: Iterable[str]) -> None:
    """Reject two classes that are one but for what programs and hands change, as ``II`` and ``ii``, or ``1`` and ``1.0``."""
    names: dict[str, str] = {}
    for name in classes:
        if (other := names.setdefault(folded(name), name)) != name:
            raise ValueError(f"its values {other[:40]!r} and {name[:40]!r} differ only by case or `.0`; expected one spelling")


def cell_of(form: TargetForm, breast: Breast) -> str:
    """Text of a target of one breast, as ``breasts.csv`` has it."""
    if form.name not in BUILT_IN:
        return dict(breast.facts.targets).get(form.name, "")
    value = getattr(breast.facts, form.name)
    return "" if value is None else str(value)
