"""Settings of a project, params.yaml: data sets, label rules, splits, and the number of shards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, ValidationInfo, field_validator, model_validator

from fvpipe.config.formats import Formats
from fvpipe.config.loading import Names, Numbers, Settings, is_plain_name, nearest, parse, read_yaml
from fvpipe.config.training import Evaluate, Runs, Train

COLUMNS = {"patient_id": "patient"} | {name: name for name in ("laterality", "label", "study_uid", "accession", "study_date")}
"""Keys of `labels` that name a column: key -> fact."""


def check_bi_rads(benign: Sequence[int], malignant: Sequence[int]) -> None:
    """Check that BI-RADS exist, and that none is of both classes.

    Raises
    ------
    ValueError
        One is not so.
    """
    if unknown := {*benign, *malignant} - set(range(7)):
        raise ValueError(f"BI-RADS {sorted(unknown)} does not exist; expected 0 to 6")
    if both := set(benign) & set(malignant):
        raise ValueError(f"BI-RADS {sorted(both)} would be both benign and malignant; give `benign` and `malignant` together")


class Labels(Settings):
    """Label rules of one data set. The defaults are the paper's, and reproduce its Table 1."""

    bi_rads_benign: Numbers = (2, 3, 4)
    bi_rads_malignant: Numbers = (5,)  # any BI-RADS in neither list is excluded
    duplicate_patients: Literal["drop", "keep"] = "drop"  # CMMD's four patients with pixels in common
    unlabelled: Literal["unlabelled", "normal"] = "unlabelled"  # normal: a breast without a row counts as benign
    columns: dict[str, str] = Field(default_factory=dict)  # fact or declared target -> column, over the adapter's
    classes: dict[str, Literal["malignant", "benign", "unlabelled"]] = Field(default_factory=dict)  # cell of the label's column
    label_from: Literal["", "label", "bi_rads"] = ""  # the fact that decides, over the adapter's
    options: dict[str, str] = Field(default_factory=dict)  # of the adapter's label rule

    @model_validator(mode="before")
    @classmethod
    def _columns_by_short_names(cls, value: Any) -> Any:
        """Take ``patient_id: pid`` as ``columns: {patient: pid}``."""
        if not isinstance(value, dict):
            return value
        short = {key: value[key] for key in COLUMNS if key in value}
        columns = value.get("columns", {})
        for key in short if isinstance(columns, dict) else ():
            if COLUMNS[key] in columns:
                raise ValueError(f"{key!r} and 'columns.{COLUMNS[key]}' name the same column; expected one of them")
        return {k: v for k, v in value.items() if k not in short} | (
            {"columns": {**{COLUMNS[key]: name for key, name in short.items()}, **columns}} if short else {}
        )

    @field_validator("classes")
    @classmethod
    def _are_distinct(cls, value: dict[str, str]) -> dict[str, str]:
        classes: dict[str, str] = {}
        for cell, word in value.items():
            if classes.setdefault(cell.casefold(), word) != word:
                raise ValueError(f"{cell!r} is of two classes: upper and lower case count as the same")
        return value

    @model_validator(mode="after")
    def _disjoint(self) -> Labels:
        both_given = {"bi_rads_benign", "bi_rads_malignant"} <= self.model_fields_set  # else the other is the adapter's
        check_bi_rads(self.bi_rads_benign, self.bi_rads_malignant if both_given else ())
        check_bi_rads((), self.bi_rads_malignant)
        return self


class DataSet(Settings):
    """One data set of the project."""

    adapter: str  # a name of fvpipe.datasets
    dicom: str = ""  # folder; data/<name> where empty
    label_file: str = ""  # empty: where the publisher puts it in the folder
    simulated: bool = Field(default=False, validation_alias=AliasChoices("simulated", "made"))  # marked so in every result
    for_processing: bool = False  # also read raw images, flagged; some adapters always do
    secondary_capture: bool = False  # also read Secondary Capture (digitized film); some adapters always do
    formats: Formats = ()  # of its images, over the adapter's: dicom, png, jpeg, tiff, pgm, nrrd
    identifiers: Literal["", "own", "hashed"] = ""  # empty: as the adapter does, `hashed` for `table`
    license: str = ""  # overrides what the adapter knows
    labels: Labels = Labels()


class Shards(Settings):
    """How samples are laid out in files."""

    shard_count: Annotated[int, Field(ge=1, le=100_000)] = 16


class Split(Settings):
    """One evaluation setting."""

    setting: Literal["seen", "unseen", "cross", "kfold", "official"]
    datasets: Names  # pooled; of `cross` those of training
    test: Names = ()  # of `cross`: those of the test part
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.2  # of the test part in each stratum
    validation_share: Annotated[float, Field(gt=0, lt=1)] = 0.125  # of the validation part in the rest
    folds: Annotated[int, Field(ge=2, le=100)] = 5  # of `kfold`
    seed: int = 0
    views: Literal["both", "cc", "mlo"] = "both"  # breasts with a pair of views, or with this view

    @model_validator(mode="after")
    def _test_only_across(self) -> Split:
        if (self.setting == "cross") != bool(self.test):
            raise ValueError("'test' names the data sets tested on; it goes with the setting 'cross' and with no other")
        if len(set(self.datasets)) < len(self.datasets) or len(set(self.test)) < len(self.test):
            raise ValueError("a data set is named twice")
        if set(self.test) & set(self.datasets):
            raise ValueError("'cross' trains on one data set and tests on another; the same one is in 'datasets' and 'test'")
        return self

    @property
    def all_datasets(self) -> tuple[str, ...]:
        """Data sets of all its parts."""
        return *self.datasets, *self.test

    @property
    def patients_apart(self) -> bool:
        """Whether no patient may be in two parts."""
        return self.setting != "seen"

    def files(self, name: str) -> list[str]:
        """Return the stems of the files that this split, called `name`, is written to."""
        return [f"{name}-fold{i}" for i in range(self.folds)] if self.setting == "kfold" else [name]


class Compare(Settings):
    """Pipelines that ``dvc repro`` compares; the stage of dvc.yaml reads them."""

    dataset: str = ""  # of which each of these pipelines has shards
    noise: Annotated[float, Field(ge=0, le=255)] = 16.0  # of 255, for the model observer
    pairs: dict[str, str] = Field(default_factory=dict)  # pipeline -> pipeline that it is compared with


class Params(Settings):
    """``params.yaml``."""

    datasets: dict[str, DataSet]
    pipelines: Names = ("direct", "cropped")
    shards: Shards = Shards()
    splits: dict[str, Split] = Field(default_factory=dict)
    train: Train = Train()
    runs: Runs = Runs()
    evaluate: Evaluate = Evaluate()
    phantom: dict[str, Any] = Field(default_factory=dict)  # read by the stages of dvc.yaml, as is
    compare: Compare = Compare()
    accept_license: Names = ()  # data sets that `dvc push` may take along although their license forbids to share them

    @field_validator("datasets", "splits")
    @classmethod
    def _names(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if not is_plain_name(name):
                raise ValueError(f"name {name!r}: only a-z, 0-9, '-' and '_', at most 64 characters")
        return value

    @field_validator("compare")
    @classmethod
    def _has_shards(cls, value: Compare, info: ValidationInfo) -> Compare:
        known = {"data set": list(info.data.get("datasets", ())), "pipeline": list(info.data.get("pipelines", ()))}
        named = [("pipeline", pipeline) for pair in value.pairs.items() for pipeline in pair]
        for kind, name in [("data set", value.dataset), *named] if value.pairs else ():
            if name not in known[kind]:
                raise ValueError(f"no {kind} '{name}'{nearest(name, known[kind])}; known: {', '.join(known[kind]) or 'none'}")
        return value

    @field_validator("accept_license")
    @classmethod
    def _are_data_sets(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        known = list(info.data.get("datasets", ()))
        if unknown := [name for name in value if name not in known]:
            raise ValueError(f"no data set '{unknown[0]}'{nearest(unknown[0], known)}; known: {', '.join(known) or 'none'}")
        return value

    @model_validator(mode="after")
    def _have_places_of_their_own(self) -> Params:
        if "splits" in self.datasets:
            raise ValueError("data set 'splits': its tables would lie among those of splits, in manifests/splits; rename it")
        files = [file for name, split in self.splits.items() for file in split.files(name)]
        if twice := next((file for file in files if files.count(file) > 1), ""):
            raise ValueError(f"two splits would be written to {twice}.csv: a `kfold` split and one of that name; rename one")
        return self

    @model_validator(mode="after")
    def _splits_fit(self) -> Params:
        for name, split in self.splits.items():
            unknown = [dataset for dataset in split.all_datasets if dataset not in self.datasets]
            if unknown:
                near = nearest(unknown[0], list(self.datasets))
                raise ValueError(f"split '{name}' names the data set '{unknown[0]}', which is not in datasets{near}")
            if len({self.datasets[dataset].simulated for dataset in split.all_datasets}) > 1:
                raise ValueError(
                    f"split '{name}' mixes simulated and real data sets; results on simulated data prove nothing of real ones"
                )
        for name in self.runs.splits:
            self.split_files(name)
        return self

    def split_of(self, file: str) -> Split:
        """Return the split that a file belongs to.

        Parameters
        ----------
        file : str
            Stem of the file: the split's name, or ``<name>-fold<i>`` of a ``kfold``.

        Raises
        ------
        ValueError
            There is no such split.
        """
        files = {f: split for name, split in self.splits.items() for f in split.files(name)}
        if file not in files:
            raise ValueError(f"no split '{file}'{nearest(file, list(files))}; known: {', '.join(files) or 'none'}")
        return files[file]

    def split_files(self, name: str) -> list[str]:
        """List the files that a name stands for: a split's own, all folds of a ``kfold``, or one fold by its own name.

        Raises
        ------
        ValueError
            There is no such split.
        """
        if name in self.splits:
            return self.splits[name].files(name)
        self.split_of(name)
        return [name]


def load_params(path: Path) -> Params:
    """Read ``params.yaml``.

    Raises
    ------
    ParameterError
        No such file, or a wrong key or value in it.
    """
    return parse(Params, read_yaml(path), str(path))
