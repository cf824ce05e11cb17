"""YAML in, frozen values out: pipeline files (``pipelines/*.yaml``) and the project's ``params.yaml``.

A misspelt key, a duplicate key or a value out of range is an error that names the nearest right one. Nothing is
guessed and nothing unknown is ignored: a setting that was silently dropped is the one that nobody finds.
"""

from __future__ import annotations

import difflib
import json
import reprlib
import typing
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from blake3 import blake3
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from fvpipe.errors import ParameterError
from fvpipe.types import Digest


class Settings(BaseModel):
    """Base of every settings class: frozen, strict about types, closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


Pair = Annotated[tuple[int, int], Field(strict=False)]
Range = Annotated[tuple[float, float], Field(strict=False)]
Numbers = Annotated[tuple[int, ...], Field(strict=False)]
Names = Annotated[tuple[str, ...], Field(strict=False)]
ModelT = TypeVar("ModelT", bound=BaseModel)


# --- a preprocessing pipeline -----------------------------------------------------------------------------------------


class Segment(Settings):
    """How the breast is found. The paper says "an automated segmentation algorithm" and no more."""

    method: Literal["none", "otsu_log", "otsu_linear", "triangle", "agreement"] = "none"
    engine: Literal["opencv", "simpleitk"] = "opencv"
    margin: Annotated[float, Field(ge=0, le=0.5)] = 0.01  # share of the box's longer side
    mask_outside: bool = False  # also put everything outside the outline at the background

    @model_validator(mode="after")
    def _mask_needs_a_method(self) -> Segment:
        if self.mask_outside and self.method == "none":
            raise ValueError("segment.mask_outside needs a segment.method other than 'none'")
        return self


class Fuse(Settings):
    """How CC and MLO become one image."""

    layout: Literal["side_by_side", "stacked", "channels", "cc", "mlo"] = "side_by_side"
    align: Literal["pad", "each"] = "pad"  # pad both to a common canvas, or resize each view to its own part
    canonical_side: Literal["none", "left"] = "none"  # mirror so that the chest wall is on this side


class Intensity(Settings):
    """How values become [0, 1]."""

    method: Literal["minmax", "minmax_per_view", "percentiles", "percentiles_per_view"] = "minmax"
    percentiles: Range = (0.1, 99.9)

    @field_validator("percentiles")
    @classmethod
    def _ordered(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= value[0] < value[1] <= 100:
            raise ValueError("percentiles must be two numbers, 0 <= low < high <= 100")
        return value

    @property
    def per_view(self) -> bool:
        """Whether CC and MLO are normalised separately."""
        return self.method.endswith("_per_view")


class Resize(Settings):
    """How the fused image is brought to `size`."""

    # area antialiases; wavelet does too, and decodes JPEG 2000 no finer than the image needs
    method: Literal["bilinear", "area", "wavelet"] = "bilinear"
    aspect: Literal["squeeze", "letterbox"] = "squeeze"


class Pipeline(Settings):
    """One preprocessing pipeline: everything that decides a byte of an image, and nothing else."""

    voi: Literal["none", "window", "lut"] = "none"
    segment: Segment = Segment()
    fuse: Fuse = Fuse()
    intensity: Intensity = Intensity()
    resize: Resize = Resize()
    size: Pair = (256, 256)  # rows, columns
    dtype: Literal["uint16", "uint8", "float32"] = "uint16"

    @field_validator("size")
    @classmethod
    def _size_in_range(cls, value: tuple[int, int]) -> tuple[int, int]:
        if not all(16 <= side <= 8192 for side in value):
            raise ValueError("size must be [rows, columns], each from 16 to 8192")
        return value

    def canonical_yaml(self) -> str:
        """Every key with its value, in one fixed form: what the shards carry, whatever the file left out."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=True, default_flow_style=None)

    def digest(self) -> Digest:
        """BLAKE3 of :meth:`canonical_yaml`'s content; comments, order and left-out defaults do not change it."""
        return digest_of(self.model_dump(mode="json"))


# --- a project --------------------------------------------------------------------------------------------------------


class Labels(Settings):
    """The label rules of one data set. The defaults are the paper's; they prove its Table 1."""

    bi_rads_benign: Numbers = (2, 3, 4)
    bi_rads_malignant: Numbers = (5,)  # any BI-RADS in neither list is excluded
    duplicate_patients: Literal["drop", "keep"] = "drop"  # CMMD's four patients with pixels in common
    unlabelled: Literal["unlabelled", "normal"] = "unlabelled"  # normal: a breast without a row counts as benign
    patient_id: str = "patient_id"  # column names of a `table` data set
    laterality: str = "laterality"
    label: str = "label"

    @model_validator(mode="after")
    def _disjoint(self) -> Labels:
        both = set(self.bi_rads_benign) & set(self.bi_rads_malignant)
        if both:
            raise ValueError(f"BI-RADS {sorted(both)} cannot be both benign and malignant")
        unknown = (set(self.bi_rads_benign) | set(self.bi_rads_malignant)) - set(range(7))
        if unknown:
            raise ValueError(f"BI-RADS {sorted(unknown)} does not exist; expected 0 to 6")
        return self


class DataSet(Settings):
    """One data set of the project."""

    adapter: str  # a name of fvpipe.datasets
    dicom: str = ""  # folder; data/<name> where empty
    label_file: str = ""  # where the data set has it elsewhere than in its published place
    made: bool = False  # made data: every result on it says so
    for_processing: bool = False  # also read raw images, flagged
    identifiers: Literal["", "own", "hashed"] = ""  # empty: as the adapter does, `hashed` for `table`
    license: str = ""  # overrides what the adapter knows
    labels: Labels = Labels()


class Shards(Settings):
    """How samples are laid out in files."""

    shard_count: Annotated[int, Field(ge=1, le=100_000)] = 16


class Split(Settings):
    """One evaluation setting: `fvpipe.splits.SplitPlan` says what each key means."""

    setting: Literal["seen", "unseen", "cross", "kfold", "official"]
    datasets: Names
    test: Names = ()
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    validation_share: Annotated[float, Field(gt=0, lt=1)] = 0.125
    folds: Annotated[int, Field(ge=2, le=100)] = 5
    seed: int = 0

    @model_validator(mode="after")
    def _test_only_across(self) -> Split:
        if (self.setting == "cross") != bool(self.test):
            raise ValueError("'test' names the data sets tested on; it goes with the setting 'cross' and with no other")
        if len(set(self.datasets)) < len(self.datasets) or len(set(self.test)) < len(self.test):
            raise ValueError("a data set is named twice")
        if set(self.test) & set(self.datasets):
            raise ValueError("'cross' trains on one data set and tests on another; the same one is in 'datasets' and 'test'")
        return self

    def files(self, name: str) -> list[str]:
        """Stems of the files that this split, called `name`, is written to."""
        return [f"{name}-fold{i}" for i in range(self.folds)] if self.setting == "kfold" else [name]


# --- training ---------------------------------------------------------------------------------------------------------

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Augment(Settings):
    """Changes of a training picture, drawn anew each epoch. The paper has none.

    The fused picture is changed as a whole: a horizontal flip also exchanges the places of CC and MLO.
    """

    horizontal_flip: bool = False
    vertical_flip: bool = False
    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0  # degrees, to either side
    shift: Share = 0.0  # of the picture's height and width
    scale: Share = 0.0


class Cnn(Settings):
    """Layers of the custom CNN that the paper leaves open."""

    batch_norm: bool = False
    dropout: Share = 0.0
    pooling: Literal["flatten", "global"] = "flatten"


class Recipe(Settings):
    """How one model is trained. The defaults are the paper's, or what docs/training.md says where it is silent."""

    weights: str = "imagenet"  # imagenet, none, or a file; a model without published weights (`cnn`) starts at random
    first_layer: Literal["replicate", "adapt"] = "replicate"  # one channel to three, or weights summed to one
    normalize: Literal["none", "imagenet"] = "none"
    fine_tune: Literal["all", "head"] = "all"
    loss: Literal["two_logits", "one_logit"] = "two_logits"
    lr: Positive = 1e-4
    betas: Range = (0.9, 0.999)
    eps: Positive = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    schedule: Literal["cosine", "constant"] = "cosine"
    batch: Annotated[int, Field(ge=1)] = 32
    epochs: Annotated[int, Field(ge=1)] = 50
    min_epochs: Annotated[int, Field(ge=1)] = 30
    patience: Annotated[int, Field(ge=1)] = 10  # epochs without a better validation AUC
    imbalance: Literal["none", "weights", "balanced"] = "none"
    augment: Augment = Augment()
    cnn: Cnn = Cnn()
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: Literal["none", "default", "reduce-overhead"] = "none"  # the last one uses CUDA graphs
    deterministic: bool = True

    @field_validator("betas")
    @classmethod
    def _below_one(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in value):
            raise ValueError("betas must be two numbers, each from 0 to below 1")
        return value

    @model_validator(mode="after")
    def _epochs_in_order(self) -> Recipe:
        if self.min_epochs > self.epochs:
            raise ValueError(f"min_epochs {self.min_epochs} is more than epochs {self.epochs}")
        return self


class Train(Recipe):
    """``train`` of ``params.yaml``: a recipe, and what is otherwise where data are made."""

    demo: dict[str, Any] = {}

    @model_validator(mode="after")
    def _demo_fits(self) -> Train:
        if self.demo:
            self.recipe(made=True)
        return self

    def recipe(self, made: bool) -> Recipe:
        """The recipe for made or for real data: `demo` never touches real ones."""
        plain = self.model_dump(exclude={"demo"})
        return parse(Recipe, {**plain, **self.demo} if made else plain, "train.demo" if made else "train")


class Runs(Settings):
    """Which models are trained: each of `models` with each of `seeds`, by each pipeline, on each of `splits`."""

    splits: Names = ()
    models: Names = ("resnet18", "cnn")
    seeds: Numbers = (0,)


class Evaluate(Settings):
    """How predictions are judged."""

    bootstrap: Annotated[int, Field(ge=100)] = 2000
    bins: Annotated[int, Field(ge=2)] = 15  # of the calibration error
    smallest_group: Annotated[int, Field(ge=1)] = 20  # breasts; figures of smaller subgroups are not shown
    seed: Annotated[int, Field(ge=0)] = 0


class Params(Settings):
    """``params.yaml``."""

    datasets: dict[str, DataSet]
    pipelines: Names = ("direct", "cropped")
    shards: Shards = Shards()
    splits: dict[str, Split] = {}
    train: Train = Train()
    runs: Runs = Runs()
    evaluate: Evaluate = Evaluate()
    phantom: dict[str, Any] = {}  # read by the phantom stages of dvc.yaml

    @field_validator("datasets", "splits")
    @classmethod
    def _names(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if not is_plain_name(name):
                raise ValueError(f"name {name!r}: only a-z, 0-9, '-' and '_', at most 64 characters")
        return value

    @model_validator(mode="after")
    def _splits_fit(self) -> Params:
        for name, split in self.splits.items():
            used = (*split.datasets, *split.test)
            unknown = [dataset for dataset in used if dataset not in self.datasets]
            if unknown:
                near = _nearest(unknown[0], list(self.datasets))
                raise ValueError(f"split '{name}' names the data set '{unknown[0]}', which is not in datasets{near}")
            if len({self.datasets[dataset].made for dataset in used}) > 1:
                raise ValueError(
                    f"split '{name}' mixes made and real data sets; results on made data prove nothing of real ones"
                )
        for file in self.runs.splits:
            self.split_of(file)
        return self

    def split_of(self, file: str) -> Split:
        """The settings behind a split file: one a setting, or ``<name>-fold<i>`` of a ``kfold``.

        Raises
        ------
        ValueError
            There is no such split.
        """
        files = {f: split for name, split in self.splits.items() for f in split.files(name)}
        if file not in files:
            raise ValueError(f"no split '{file}'{_nearest(file, list(files))}; known: {', '.join(files) or 'none'}")
        return files[file]


# --- reading ----------------------------------------------------------------------------------------------------------


def is_plain_name(name: str) -> bool:
    """Whether `name` is safe as a folder name on every system: lower case letters, digits, ``-`` and ``_``."""
    return 0 < len(name) <= 64 and name[0] not in "-_" and all(c in "abcdefghijklmnopqrstuvwxyz0123456789-_" for c in name)


def digest_of(value: Any) -> Digest:
    """BLAKE3 of the canonical JSON of plain `value`."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return Digest(blake3(text.encode()).hexdigest())


def load_pipeline(name: str, project: Path = Path()) -> tuple[str, Pipeline]:
    """Read the pipeline called `name`, or the file `name` where it ends in ``.yaml``.

    The project's ``pipelines/`` folder wins over the files that come with fvpipe.

    Returns
    -------
    (str, Pipeline)
        The pipeline's name (the file's stem) and its settings.

    Raises
    ------
    ParameterError
        No such pipeline, or a wrong file.
    """
    files = pipeline_files(name, project)
    path = files[-1]
    if name.endswith((".yaml", ".yml")) or (path.is_file() and is_plain_name(path.stem)):
        return path.stem, parse(Pipeline, read_yaml(path), str(path))
    known = sorted({other.stem for file in files if file.parent.is_dir() for other in file.parent.glob("*.yaml")})
    raise ParameterError(f"no pipeline {name!r}{_nearest(name, known)}; known: {', '.join(known) or 'none'}")


def pipeline_files(name: str, project: Path = Path()) -> list[Path]:
    """Where :func:`load_pipeline` looks for `name`, up to where it finds it.

    Raises
    ------
    ParameterError
        `name` is a file's whose stem cannot be a pipeline's name.
    """
    if name.endswith((".yaml", ".yml")):
        if not is_plain_name(Path(name).stem):
            found = Path(name).name
            raise ParameterError(f"pipeline file {found!r}: its stem becomes a folder name; use a-z, 0-9, '-' and '_'")
        return [Path(name)]
    package = Path(str(resources.files("fvpipe")))
    folders = [project / "pipelines", package / "pipelines", package.parent / "pipelines"]  # own; in a wheel; in a checkout
    files = [folder / f"{name if is_plain_name(name) else ''}.yaml" for folder in folders]
    first = next((i for i, file in enumerate(files) if file.is_file()), len(files) - 1)
    return files[: first + 1]


def load_params(path: Path) -> Params:
    """Read ``params.yaml``.

    Raises
    ------
    ParameterError
        No such file, or a wrong one.
    """
    return parse(Params, read_yaml(path), str(path))


def read_yaml(path: Path) -> Any:
    """Read a YAML file, refusing duplicate keys and every tag that would run code."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ParameterError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterError(f"{path}: cannot be read as UTF-8 text ({type(error).__name__})") from None
    try:
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a SafeLoader: no tag runs code
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError) as error:  # PyYAML raises them all
        problem = getattr(error, "problem", None) or "not valid YAML"
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise ParameterError(f"{path}{where}: {problem}") from None


class _StrictLoader(yaml.SafeLoader):
    """The safe loader, without YAML's silent "the last duplicate key wins"."""


def _mapping(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is no text", key_node.start_mark)
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"key {key!r} occurs twice", key_node.start_mark)
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def parse(model: type[ModelT], data: Any, where: str) -> ModelT:
    """Turn plain `data` into `model`, or say in one sentence what is wrong with it.

    Raises
    ------
    ParameterError
    """
    try:
        return model.model_validate({} if data is None else data)
    except ValidationError as error:
        raise ParameterError(f"{where}: " + "; ".join(_sentence(model, e) for e in error.errors())) from None


_SHORT = reprlib.Repr()  # a few aliases in YAML stand for a list of billions: a message shows its beginning
_SHORT.maxlevel = 2


def _sentence(model: type[BaseModel], error: Any) -> str:
    path = ".".join(str(part) for part in error["loc"]) or "the file"
    if error["type"] == "extra_forbidden":
        known = _keys_beside(model, error["loc"])
        return f"unknown key '{path}'{_nearest(str(error['loc'][-1]), known)}; known: {', '.join(known)}"
    if error["type"] == "literal_error":
        known = [part.strip(" '") for part in error["ctx"]["expected"].replace(" or ", ", ").split(",")]
        found = _SHORT.repr(error["input"])
        near = _nearest(found.strip("'"), known)
        return f"'{path}' is {found}{near}; expected one of {', '.join(known)}"
    if error["type"] == "missing":
        return f"'{path}' is missing"
    message = error["msg"].removeprefix("Value error, ")
    found = error["input"]
    shown = f", found {_SHORT.repr(found)}" if isinstance(found, str | int | float | bool | list | tuple) else ""
    return f"'{path}': {message}{shown}" if path != "the file" else f"{message}{shown}"


def _keys_beside(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys that the settings class holding the wrong key does know."""
    for part in location[:-1]:
        field = model.model_fields.get(str(part))
        candidates = [model] if field is None else [a for a in _classes(field.annotation) if issubclass(a, BaseModel)]
        if candidates:
            model = candidates[0]
    return list(model.model_fields)


def _classes(annotation: Any) -> list[type]:
    parts = typing.get_args(annotation)
    return [found for part in parts for found in _classes(part)] if parts else [annotation] * isinstance(annotation, type)


def _nearest(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f" (did you mean '{close[0]}'?)" if close else ""
