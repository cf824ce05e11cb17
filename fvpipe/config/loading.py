"""Parsing of YAML into frozen, typed settings; messages name the file, the key and the nearest known key."""

from __future__ import annotations

import difflib
import json
import re
import reprlib
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from blake3 import blake3
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fvpipe.errors import ParameterError
from fvpipe.regular_files import read_regular_text
from fvpipe.types import Digest

MAX_YAML_BYTES = 1 << 20
MAX_YAML_NODES = 1 << 16  # an alias counts as all that it stands for


class Settings(BaseModel):
    """Base of every settings class: frozen, strict about types, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


Pair = Annotated[tuple[int, int], Field(strict=False)]
Range = Annotated[tuple[float, float], Field(strict=False)]
Numbers = Annotated[tuple[int, ...], Field(strict=False)]
Names = Annotated[tuple[str, ...], Field(strict=False)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
ModelT = TypeVar("ModelT", bound=BaseModel)


def is_plain_name(name: str) -> bool:
    """Whether `name` is safe as a folder name on every system: lower case letters, digits, ``-`` and ``_``.

    Examples
    --------
    >>> [is_plain_name(name) for name in ("vindr-mammo", "CMMD", "../data")]
    [True, False, False]
    """
    return re.fullmatch("[a-z0-9][a-z0-9_-]{0,63}", name) is not None


def digest_of(value: Any) -> Digest:
    """Return the BLAKE3 digest of the canonical JSON of `value`."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return Digest(blake3(text.encode()).hexdigest())


def read_yaml(path: Path) -> Any:
    """Read a YAML file, rejecting duplicate keys and every tag that would run code.

    Raises
    ------
    ParameterError
        No such file, or not valid YAML.
    """
    try:
        text = read_regular_text(path, MAX_YAML_BYTES, "utf-8-sig")
    except FileNotFoundError:
        raise ParameterError(f"{path}: no such file") from None
    except OSError as error:
        raise ParameterError(f"{path}: cannot be read ({error.strerror}); expected a YAML file") from None
    except UnicodeDecodeError as error:
        raise ParameterError(f"{path}: cannot be read as UTF-8 text ({type(error).__name__})") from None
    return parse_yaml(text, path)


def parse_yaml(text: str, where: object) -> Any:
    """Parse YAML as :func:`read_yaml` does; messages name `where`.

    Raises
    ------
    ParameterError
        Not valid YAML.
    """
    try:
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a SafeLoader: no tag runs code
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError) as error:  # PyYAML raises them all
        problem = getattr(error, "problem", None) or "not valid YAML"
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise ParameterError(f"{where}{line}: {problem}") from None


class _StrictLoader(yaml.SafeLoader):
    """PyYAML's safe loader, which lets the last of duplicate keys win, with an error for them, and bounds what aliases say."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._count = 0
        self._counts: dict[int, int] = {}  # of each node, and those below it

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose the next node, and count it: a few aliases of aliases can stand for billions of values."""
        before, is_alias = self._count, self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        self._count += self._counts.get(id(node), 1) if is_alias else 1
        self._counts.setdefault(id(node), self._count - before)
        if self._count > MAX_YAML_NODES:
            problem = f"more than {MAX_YAML_NODES} values, counted again wherever an alias repeats them"
            raise yaml.MarkedYAMLError(problem=problem)
        return node


def _mapping(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is not text; quote it", key_node.start_mark)
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"key {key!r} occurs twice", key_node.start_mark)
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def parse(model: type[ModelT], data: Any, where: str) -> ModelT:
    """Validate `data` as an instance of `model`.

    Parameters
    ----------
    model : type of pydantic.BaseModel
        The settings to make.
    data : object
        As YAML gives it; None: all defaults.
    where : str
        Beginning of each message.

    Raises
    ------
    ParameterError
        One sentence for each key that is wrong.
    """
    try:
        return model.model_validate({} if data is None else data)
    except ValidationError as error:
        raise ParameterError(f"{where}: " + "; ".join(_sentence(model, e) for e in _of_one_form(error.errors()))) from None


_SHORT = reprlib.Repr()  # a few aliases in YAML can stand for a list of billions: a message shows its beginning
_SHORT.maxlevel = 2


def _of_one_form(errors: Sequence[Any]) -> list[Any]:
    """Leave out what is said of the other form of a value that may be a word or a list."""
    words = [e for e in errors if e["type"] == "literal_error" and "[" in str(e["loc"][-1])]
    is_list = {e["loc"][:-1]: isinstance(e["input"], list | dict) for e in words}

    def fits(error: Any) -> bool:
        value = next((loc for loc in is_list if error["loc"][: len(loc)] == loc), None)
        return value is None or (error in words) != is_list[value]

    return [error for error in errors if fits(error)]


def _sentence(model: type[BaseModel], error: Any) -> str:
    path = ".".join(str(part) for part in error["loc"] if "[" not in str(part)) or "the file"  # no name of a form
    if error["type"] == "extra_forbidden":
        known = _keys_beside(model, error["loc"])
        return f"unknown key '{path}'{nearest(str(error['loc'][-1]), known)}; known: {', '.join(known)}"
    if error["type"] == "literal_error":
        known = [word for part in error["ctx"]["expected"].replace(" or ", ", ").split(",") if (word := part.strip(" '"))]
        found = _SHORT.repr(error["input"])
        near = nearest(found.strip("'"), known)
        return f"'{path}' is {found}{near}; expected one of {', '.join(known)}"
    if error["type"] == "missing":
        return f"'{path}' is missing"
    if error["type"] == "tuple_type":
        return f"'{path}' is {_SHORT.repr(error['input'])}; expected a list, as in [a, b]"
    found = error["input"]
    if error["type"] == "string_type" and isinstance(found, bool | int | float):  # 0365 is 245 to YAML, and no is false
        return f"'{path}' is read as {json.dumps(found)}; expected text: write it in quotes"
    message = error["msg"].removeprefix("Value error, ")
    shown = f", found {_SHORT.repr(found)}" if isinstance(found, str | int | float | bool | list | tuple) else ""
    return f"'{path}': {message}{shown}" if path != "the file" else f"{message}{shown}"


def _keys_beside(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Return the keys of the settings class in which the unknown key at `location` stands."""
    for part in location[:-1]:
        field = model.model_fields.get(str(part))
        candidates = [model] if field is None else [a for a in _classes(field.annotation) if issubclass(a, BaseModel)]
        if candidates:
            model = candidates[0]
    return list(model.model_fields)


def _classes(annotation: Any) -> list[type]:
    parts = typing.get_args(annotation)
    return [found for part in parts for found in _classes(part)] if parts else [annotation] * isinstance(annotation, type)


def nearest(word: str, known: list[str]) -> str:
    """Format a suggestion for the end of a message: the known word that resembles `word`, or empty text."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f" (did you mean '{close[0]}'?)" if close else ""
