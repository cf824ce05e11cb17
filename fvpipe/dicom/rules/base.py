"""The parts of a header rule: its context, its definition, its result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydicom.dataset import Dataset

from fvpipe.config.formats import RASTER
from fvpipe.dicom.policy import HeaderPolicy
from fvpipe.dicom.reader import OpenedDicom
from fvpipe.reasons import Reason
from fvpipe.types import NOTHING_STATED, StatedImage

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RuleContext:
    """Input of a check: the opened file, the policy of its data set, and the facts of the rules before it."""

    opened: OpenedDicom
    policy: HeaderPolicy
    path: str = ""  # path of the record, relative to the input folder
    stated: StatedImage = NOTHING_STATED  # what label table and path say of the image
    facts: dict[Callable[[RuleContext], Any], Any] = field(default_factory=dict)  # fact of each rule that passed, by its check

    @property
    def dataset(self) -> Dataset:
        """Everything before Pixel Data."""
        return self.opened.dataset

    def is_from_header(self, fact: str) -> bool:
        """Whether patient, exam, laterality or view is read from the header; files that are not DICOM have none of them."""
        return fact in self.policy.from_header and self.opened.transfer_syntax_uid not in RASTER

    def fact(self, check: Callable[[RuleContext], T]) -> T:
        """Return the fact of a rule that passed."""
        found: T = self.facts[check]
        return found


@dataclass(frozen=True, slots=True)
class Rule(Generic[T]):
    """One rule of the header."""

    name: str  # as `fvpipe inspect` shows it
    # RuleContext -> fact. Raises `RejectedFile` with the reason code and a detail that identifies no patient.
    check: Callable[[RuleContext], T]
    describe: Callable[[T], str]  # fact -> text that `fvpipe inspect` shows; it identifies no patient
    needs: tuple[Callable[[RuleContext], Any], ...] = ()  # checks of the earlier rules whose facts `check` reads
    # HeaderPolicy -> why the rule does not apply to the data set; empty where it does
    skip: Callable[[HeaderPolicy], str] = lambda policy: ""


@dataclass(frozen=True, slots=True)
class RuleResult:
    """Result of one rule."""

    rule: str
    found: str  # the fact, the detail of the rejection, or why the rule was not asked
    reason: Reason | None = None  # None where the rule passed or was not asked
    asked: bool = True  # False where the rule does not apply, or needs the fact of one that rejected the file

    @property
    def verdict(self) -> str:
        """``passed``, ``rejected`` or ``not asked``."""
        return "rejected" if self.reason else "passed" if self.asked else "not asked"
