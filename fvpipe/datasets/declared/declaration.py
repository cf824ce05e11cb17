"""The declaration of a data set, a YAML file: where each fact of an image or a breast comes from, and the label rule.

Shipped declarations are in ``fvpipe/datasets/declarations``; a user's own is the same kind of file. What every key means, with
an example: ``docs/adapters.md``.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from fvpipe.config.facts import FACTS, IDENTITY, check_fact
from fvpipe.config.formats import DICOM, Formats
from fvpipe.config.loading import Names, Numbers, Settings, is_plain_name, nearest
from fvpipe.config.project import check_bi_rads
from fvpipe.reasons import Reason

Where = Literal["header", "table", "path"]
"""Sources of identity."""

LABELS = {"malignant": 1, "benign": 0, "unlabelled": -1}
"""Labels by the words of declarations."""

EXCLUDED = "excluded:"
"""Begins the outcome of a label rule that leaves a breast out; the reason follows."""

OUTCOMES = f"{', '.join(LABELS)}, or 'excluded: why'"
"""Allowed outcomes of a label rule, for messages."""


def _texts(value: Any) -> Any:
    """Reject what YAML does not read as text: 0123 would be 83."""
    if isinstance(value, bool | int | float):
        raise ValueError("numbers, and yes, no, on, off, true and false must be quoted: a table holds words")
    if isinstance(value, dict):
        return {_texts(key): _texts(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_texts(each) for each in value]
    return value


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str | int) else value


Sources = Annotated[tuple[Where, ...], Field(strict=False, min_length=1)]
Texts = Annotated[Names, BeforeValidator(lambda value: _texts(_listed(value)))]
Cells = Annotated[Texts, Field(min_length=1)]
Values = Annotated[dict[str, str], BeforeValidator(_texts)]


class Column(Settings):
    """The column that gives one fact."""

    column: Cells  # its name; of several, the first that is not empty
    values: Values = Field(default_factory=dict)  # cell -> value, in any case; "*": every other cell, "": an empty one
    pattern: str = ""  # regular expression whose first group is the value inside the cell
    needed: bool = False  # an empty cell is an error

    @field_validator("pattern")
    @classmethod
    def _has_a_group(cls, value: str) -> str:
        return check_pattern(value, has_group=True)


ColumnOrName = Annotated[
    Column, BeforeValidator(lambda value: value if isinstance(value, dict | Column) else {"column": value})
]


class Case(Settings):
    """One case of a label rule: the first whose conditions all hold decides."""

    when: dict[str, Cells] = Field(default_factory=dict)  # column -> cells; * and ? are wildcards, $side is the row's side
    then: str  # malignant, benign, unlabelled, `excluded: why`, or $name of an option
    confirmed: bool = False  # by pathology: decides over earlier exams, and by $side over the breast that its row does not name
    pending: bool = False  # left out only as long as no pathology at a later exam decides

    @field_validator("then")
    @classmethod
    def _is_an_outcome(cls, value: str) -> str:
        return check_outcome(value)

    @property
    def names_side(self) -> bool:
        """Whether a cell must name the side of the breast."""
        return any("$side" in cells for cells in self.when.values())


class Exclusion(Settings):
    """Images that are left out by what their row says."""

    when: dict[str, Cells]
    reason: Literal["image_excluded", "view_modified", "image_kind_refused", "view_not_pairable"] = "image_excluded"
    why: str

    @property
    def code(self) -> Reason:
        """The reason."""
        return Reason(self.reason)


class DeclaredTarget(Settings):
    """A further fact of a breast, for `targets` of a pipeline."""

    meaning: Annotated[str, Field(min_length=1, max_length=1000)]
    unit: Annotated[str, Field(max_length=64, pattern=r"^(|.*\S.*)$")] = (
        ""  # of a number, "1" where it has none; empty: it is a class
    )


class FollowUp(Settings):
    """Pathology at a later exam of the same breast decides over an earlier one."""

    date: str  # column of the exam's day, YYYY-MM-DD or YYYYMMDD; in tables without `follow_up` it is their study_date
    days: Annotated[  # how many later, or $name of an option
        str, Field(pattern=r"^([0-9]{1,5}|\$.+)$"), BeforeValidator(lambda value: str(value) if type(value) is int else value)
    ]
    pattern: str = ""  # regular expression with groups `year`, `month` and `day`, where the column has no such dates

    @field_validator("pattern")
    @classmethod
    def _has_a_day(cls, value: str) -> str:
        check_pattern(value, has_group=bool(value))
        if value and not {"year", "month", "day"} <= re.compile(value).groupindex.keys():
            raise ValueError("expected groups (?P<year>...), (?P<month>...) and (?P<day>...)")
        return value


class Table(Settings):
    """One table, or several of one form."""

    file: Texts = ()  # patterns of its path below the input folder; the first that fits a file
    from_path: bool = False  # no file: the groups of the path are the columns of a row
    sheet: str = ""  # name of the sheet of a workbook; the first where none has it
    every: bool = False  # read every file that fits, instead of the first
    optional: bool = False
    subset_by_name: Values = Field(default_factory=dict)  # part of the file's name -> subset of all its rows
    path: str = ""  # column of each image's path, or of the end of it
    path_parts: int = 0  # how many folders and name of that cell count; 0: all
    path_groups: Values = Field(default_factory=dict)  # or: group of `path` (of the declaration) -> column
    instance: str = ""  # or: column of the SOP Instance UID, which is compared with the header
    columns: dict[str, ColumnOrName] = Field(default_factory=dict)  # fact -> its column
    exclude: Annotated[tuple[Exclusion, ...], Field(strict=False)] = ()
    may_lack: Texts = ()  # columns of cases that a table need not have: a case about one then holds for no row
    label: Literal["", "label", "bi_rads"] | Annotated[tuple[Case, ...], Field(strict=False)] = ""
    adds: bool = (
        False  # gives BI-RADS, density, subtype and targets of breasts that the tables before describe, where these do not
    )
    combine: Literal["same", "first", "worst"] = "same"  # rows of a breast: all agree; their labels do; the worst one counts
    follow_up: FollowUp | None = None
    contralateral: Annotated[tuple[Case, ...], Field(strict=False)] = ()  # of the side of an exam that has no row

    @field_validator("label", mode="before")
    @classmethod
    def _is_a_rule(cls, value: Any) -> Any:
        if isinstance(value, list | tuple) or value in ("", "label", "bi_rads"):
            return value
        near = nearest(str(value), ["label", "bi_rads"])
        expected = "label, whose column and words stand below `columns`, bi_rads, or a list of cases"
        raise ValueError(f"no rule{near}; expected {expected}, as {{when: {{column: cell}}, then: malignant}}")

    @field_validator("columns")
    @classmethod
    def _have_outcomes(cls, value: dict[str, Column]) -> dict[str, Column]:
        for fact, column in value.items():
            for word in column.values.values():
                if fact == "label" and (word.startswith("$") or not check_outcome(word)):
                    raise ValueError(f"{word!r} is not a label; expected {OUTCOMES}")
                if fact == "laterality" and word not in ("L", "R", "both", ""):
                    raise ValueError(f"{word!r} is not a side; expected L, R or both")
        return value

    @field_validator("file")
    @classmethod
    def _are_relative(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            if pattern.startswith("/") or any("**" in part and part != "**" for part in pattern.split("/")):
                expected = "a path below the input folder; '**' stands for folders, as in '**/x.csv'"
                raise ValueError(f"{pattern!r}: expected {expected}")
        return value

    @property
    def cases(self) -> tuple[Case, ...]:
        """Cases of the label rule, where it has any."""
        return self.label if isinstance(self.label, tuple) else ()

    @property
    def names(self) -> set[str]:
        """Names of all columns that it may read."""
        rules = [rule.when for rule in (*self.cases, *self.contralateral)] + [rule.when for rule in self.exclude]
        found = {name for column in self.columns.values() for name in column.column} | {name for when in rules for name in when}
        return (found | {self.path, self.instance, *self.path_groups.values()}) - {""}

    @property
    def lists_images(self) -> bool:
        """Whether each row is about one image, found by its path."""
        return bool(self.path or self.path_groups or self.from_path)

    @property
    def labels_shown_breasts(self) -> bool:
        """Whether each row is about the breast that an image shows, found by its SOP Instance UID."""
        return bool(self.instance and self.label) and "patient" not in self.columns


class Headers(Settings):
    """Departures of the headers from the standard."""

    secondary_capture: bool = False  # also read digitized film, as `secondary_capture` of params.yaml does
    for_processing: bool = False  # also read raw images, flagged, as `for_processing` of params.yaml does
    inverted: bool = False  # low values are white in images that cannot say so: PNG, JPEG, PGM, NRRD
    view_in_patient_orientation: bool = False
    ml_is_mlo: bool = False
    patient_from: Literal["patient_id", "study"] = "patient_id"
    patient_pattern: str = ""
    region_pattern: str = ""
    studies_apart: bool = True  # pair views only within a study

    @field_validator("patient_pattern", "region_pattern")
    @classmethod
    def _compile(cls, value: str, given: ValidationInfo) -> str:
        return check_pattern(value, has_group=given.field_name == "patient_pattern")


class BiRads(Settings):
    """BI-RADS that are benign and malignant in this data set, unless ``params.yaml`` says otherwise."""

    benign: Numbers = (2, 3, 4)
    malignant: Numbers = (5,)

    @model_validator(mode="after")
    def _are_of_one_class(self) -> BiRads:
        check_bi_rads(self.benign, self.malignant)
        return self


class Identity(Settings):
    """Sources of each fact that groups images, in their order; where several speak they must agree."""

    patient: Sources = ("header",)
    exam: Sources = ("header",)  # their names differ by source, so that the header comes first or is left out
    laterality: Sources = ("header",)
    view: Sources = ("header",)

    @field_validator("exam")
    @classmethod
    def _header_comes_first(cls, value: tuple[Where, ...]) -> tuple[Where, ...]:
        if "header" in value[1:]:
            raise ValueError("the header comes first, or is left out: a table names exams otherwise")
        return value


class Declaration(Settings):
    """A data set's declaration."""

    name: str
    version: Annotated[int, Field(ge=1)] = 1  # the ADAPTER_VERSION that it was written for
    title: str = ""
    images: Annotated[int, Field(ge=0)] = 0  # as published; 0: not known
    source: str = ""  # where to get it, in words
    license: str  # what its publisher allows, with the citation that it asks for
    hashed: bool = True  # identifiers are replaced by keyed digests
    publishable: bool = False  # rows may be committed
    redistribute_shards: bool = False
    release_models: bool = True
    seen: str = ""  # which real files this project has read; empty: none
    formats: Annotated[Formats, Field(min_length=1)] = DICOM  # of the files that are images; all others are passed over
    headers: Headers = Headers()
    identity: Identity = Identity()
    path: str = ""  # regular expression of the path; groups patient, exam, laterality, view and others
    path_values: dict[str, Values] = Field(default_factory=dict)  # group -> text -> value
    same_in_exam: Texts = ()  # groups of `path` that are the same for all images of an exam, or all of them are left out
    tables: Annotated[tuple[Table, ...], Field(strict=False)] = ()
    targets: dict[str, DeclaredTarget] = Field(default_factory=dict)  # further facts that columns give, by name
    bi_rads: BiRads = BiRads()
    options: Values = Field(default_factory=dict)  # name -> default; `labels.options` of params.yaml overrides it
    duplicate_patients: Values = Field(default_factory=dict)  # patient -> the one that it has pixels in common with
    code: str = ""  # module with what cannot be declared: read_region, read_findings, settle_labels, default_labels

    @field_validator("name")
    @classmethod
    def _is_plain(cls, value: str) -> str:
        if not is_plain_name(value):
            raise ValueError(f"name {value!r}: only a-z, 0-9, '-' and '_', at most 64 characters")
        return value

    @field_validator("license")
    @classmethod
    def _is_said(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("is empty; expected what may be done with the data, such as 'ours, not to be shared'")
        return value

    @field_validator("path")
    @classmethod
    def _compiles(cls, value: str) -> str:
        return check_pattern(value)

    @field_validator("targets")
    @classmethod
    def _are_new(cls, value: dict[str, DeclaredTarget]) -> dict[str, DeclaredTarget]:
        for name in value:
            if not is_plain_name(name) or name in FACTS:
                raise ValueError(
                    f"target {name!r}: only a-z, 0-9, '-' and '_', at most 64 characters, and no fact of fvpipe's own"
                )
        return dict(sorted(value.items()))

    @property
    def tables_of_paths(self) -> tuple[Table, ...]:
        """Tables whose rows are paths."""
        return tuple(table for table in self.tables if table.from_path)

    @field_validator("options")
    @classmethod
    def _are_outcomes(cls, value: dict[str, str]) -> dict[str, str]:
        for name, default in value.items():
            check_option(name, default, default)
        return value

    @model_validator(mode="after")
    def _sources_exist(self) -> Declaration:
        groups = re.compile(self.path).groupindex
        for fact in IDENTITY:
            sources = getattr(self.identity, fact)
            if "path" in sources and fact not in groups:
                raise ValueError(f"identity.{fact} names the path, and 'path' has no group (?P<{fact}>...)")
            if "table" in sources and not any(fact in table.columns for table in self.tables):
                raise ValueError(f"identity.{fact} names the table, and no table has a column for it")
        named = [("same_in_exam", group) for group in self.same_in_exam]
        for key, group in [*named, *(("path_groups", group) for table in self.tables for group in table.path_groups)]:
            if group not in groups:
                raise ValueError(f"{key} names {group!r}, and 'path' has no group (?P<{group}>...)")
        for table in self.tables:
            for fact in table.columns:
                check_fact(fact, self.targets)
        return self

    @model_validator(mode="after")
    def _options_are_taken(self) -> Declaration:
        taken = [(case.then, False) for table in self.tables for case in (*table.cases, *table.contralateral)]
        taken += [(table.follow_up.days, True) for table in self.tables if table.follow_up]
        taken = [(text, is_days) for text, is_days in taken if text.startswith("$")]
        for text, is_days in taken:
            if text[1:] not in self.options:
                raise ValueError(f"{text} is not an option; known: {', '.join(self.options) or 'none'}")
            default = self.options[text[1:]]
            if default.isdecimal() != is_days:
                expected, key = ("a number of days", "days") if is_days else (OUTCOMES, "then")
                raise ValueError(f"option {text[1:]!r} is {default!r}, and `{key}` takes it; expected {expected}")
        for name in self.options:
            if f"${name}" not in dict(taken):
                raise ValueError(f"option {name!r} does nothing: no `then` or `days` takes it as ${name}")
        return self


def check_pattern(pattern: str, *, has_group: bool = False) -> str:
    """Return a regular expression that compiles, with a group that is the value where it must have one.

    Raises
    ------
    ValueError
        It does not.
    """
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
    if pattern and has_group and not groups:
        raise ValueError(f"{pattern!r} has no group (...), which is the value")
    return pattern


def check_outcome(outcome: str) -> str:
    """Return an outcome of a label rule.

    Raises
    ------
    ValueError
        It is none.
    """
    if outcome in LABELS or outcome.startswith("$") or (outcome.startswith(EXCLUDED) and outcome[len(EXCLUDED) :].strip()):
        return outcome
    raise ValueError(f"{outcome!r} is not a label; expected {OUTCOMES}")


def check_option(name: str, default: str, value: str) -> str:
    """Return a value of an option: a number of days where its default is one, else an outcome of a label rule.

    Raises
    ------
    ValueError
        It is none.
    """
    if default.isdecimal():
        if not value.isdecimal():
            raise ValueError(f"option {name!r} is {value!r}; expected a number of days")
    elif value.startswith("$"):
        raise ValueError(f"option {name!r} is {value!r}; expected {OUTCOMES}")
    else:
        check_outcome(value)
    return value
