"""Licenses of the data that a model was trained on, and of the data behind its initial weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from fvpipe.datasets.registry import declarations, get_adapter
from fvpipe.errors import CheckpointError, ParameterError
from fvpipe.evaluation.training_record import Record, read_record
from fvpipe.project.sharing import INITIAL


def initial_record(weights: str) -> Record | None:
    """Read the record of the training that wrote initial weights; None for weights of other origin.

    Parameters
    ----------
    weights : str
        ``imagenet``, ``none``, or a file; only a ``.safetensors`` file of ``fvpipe train`` has a record.

    Raises
    ------
    CheckpointError
        No such file, or a damaged one.
    InputError
        Its record is of another version.
    """
    from safetensors import SafetensorError, safe_open

    if not weights.endswith(".safetensors"):
        return None
    try:
        with safe_open(weights, "pt") as file:
            text = (file.metadata() or {}).get("fvpipe", "")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{weights}: cannot be read as weights ({type(error).__name__})") from None
    return read_record(text, weights) if text else None


def initial_licenses(record: Record | None) -> dict[str, tuple[str, str]]:
    """Adapter and license of the real data sets behind initial weights, by name: a model made from them has seen those, too."""
    return {
        name.removesuffix(INITIAL) + INITIAL: (adapter, record.licenses[name])
        for name, adapter in (record.adapters.items() if record else ())
        if record and not _is_simulated(record, name)
    }


def seen_before(record: Record | None, split_digest: str, tested: Iterable[str]) -> list[str]:
    """Name the data sets of a test part that initial weights were trained on by another split."""
    if record is None:
        return []
    others = [name for name in record.adapters if name.endswith(INITIAL) or record.split_digest != split_digest]
    return [name for name in tested if name in {name.removesuffix(INITIAL) for name in others}]


def restricting_licenses(record: Record, project: Path | None) -> dict[str, str]:
    """Licenses of the data sets that a model was trained on, of those whose models are not to be released, by data set.

    Parameters
    ----------
    record : Record
        Of the model.
    project : Path or None
        The folder that paths of declarations are relative to; None: such declarations are not at hand.
    """
    forbidding = {each.license for each in declarations() if not each.release_models}

    def is_free(name: str, adapter: str) -> bool:
        # By it, shards are known that were built before `params.yaml` named another adapter, or called them simulated.
        if record.licenses[name] in forbidding:
            return False
        if _is_simulated(record, name):
            return True
        if project is None and adapter.endswith((".yaml", ".yml")):
            return False
        try:
            return get_adapter(adapter, project or Path()).release_models
        except ParameterError:  # a declaration that is not at hand
            return False

    return {name: record.licenses[name] for name, adapter in record.adapters.items() if not is_free(name, adapter)}


def license_text(record: Record, restricting: Mapping[str, str]) -> str:
    """Text to lie beside an exported model, the restricting licenses first; empty where all data are simulated.

    A license that only forbids commerce goes with the model, too.
    """
    real = {name: license for name, license in record.licenses.items() if not _is_simulated(record, name)}
    lines = [f"{name}: {license}" for name, license in ({**restricting} | real).items()]
    head = "Not to be released." if restricting else "Trained on:"
    return "\n".join([head, *lines, ""]) if lines else ""


def _is_simulated(record: Record, name: str) -> bool:
    return record.simulated and not name.endswith(INITIAL)
