"""The parts of a header rule: its context, its definition, its result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydicom.dataset import Dataset

from fvpipe.dicom.policy import HeaderPolicy
from fvpipe.dicom.reader import OpenedDicom
from fvpipe.reasons import Reason
from fvpipe.types import NOTHING_STATED, StatedImage

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RuleContext:
    """Input of a check: the opened file, the policy of its data set, and the facts of the rules before it.

    Attributes
    ----------
    path : str
        Path of the record, relative to the input folder.
    stated : StatedImage
        What label table and path say of the image.
    facts : dict
        Fact of each rule that passed, by its check.
    """

    opened: OpenedDicom
    policy: HeaderPolicy
    path: str = ""
    stated: StatedImage = NOTHING_STATED
    facts: dict[Callable[[RuleContext], Any], Any] = field(default_factory=dict)

    @property
    def dataset(self) -> Dataset:
        """Everything before Pixel Data."""
        return self.opened.dataset

    def fact(self, check: Callable[[RuleContext], T]) -> T:
        """Return the fact of a rule that passed."""
        found: T = self.facts[check]
        return found


@dataclass(frozen=True, slots=True)
class Rule(Generic[T]):
    """One rule of the header.

    Attributes
    ----------
    name : str
        As `fvpipe inspect` shows it.
    check : callable
        RuleContext -> fact. Raises :class:`RejectedFile` with the reason code and a detail that identifies no patient.
    describe : callable
        Fact -> text that `fvpipe inspect` shows; it identifies no patient.
    needs : tuple of callable
        Checks of the earlier rules whose facts `check` reads.
    skip : callable
        HeaderPolicy -> why the rule does not apply to the data set; empty where it does.
    """

    name: str
    check: Callable[[RuleContext], T]
    describe: Callable[[T], str]
    needs: tuple[Callable[[RuleContext], Any], ...] = ()
    skip: Callable[[HeaderPolicy], str] = lambda policy: ""


@dataclass(frozen=True, slots=True)
class RuleResult:
    """Result of one rule.

    Attributes
    ----------
    rule : str
        Name of the rule.
    found : str
        The fact, the detail of the rejection, or why the rule was not asked.
    reason : Reason or None
        None where the rule passed or was not asked.
    asked : bool
        False where the rule does not apply, or needs the fact of one that rejected the file.
    """

    rule: str
    found: str
    reason: Reason | None = None
    asked: bool = True

    @property
    def verdict(self) -> str:
        """``passed``, ``rejected`` or ``not asked``."""
        return "rejected" if self.reason else "passed" if self.asked else "not asked"
