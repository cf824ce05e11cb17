"""What a run is asked to do, and what it found: the values that the stages hand to each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fvpipe.config.pipeline import Pipeline
from fvpipe.reasons import Rejection
from fvpipe.shards.format import Receipt


@dataclass(frozen=True, slots=True)
class Target:
    """Where one pipeline's shards of one data set go.

    Attributes
    ----------
    dataset, pipeline_name : str
    pipeline : Pipeline
    out : Path
        The shard folder.
    build_file : Path
        Versions, host and timings of the last build; not part of the output.
    lock_file : Path
    with_images : bool
        Also write ``images.csv`` into the folder.
    shard_count : int
    """

    dataset: str
    pipeline_name: str
    pipeline: Pipeline
    out: Path
    build_file: Path
    lock_file: Path
    with_images: bool = False
    shard_count: int = 16


@dataclass(frozen=True, slots=True)
class Limits:
    """When a build that ran is not to be trusted. None: no limit.

    Attributes
    ----------
    max_fallback : float
        Percent of breasts with a view that was not cropped; more than this and more than 10 fail the build.
    max_rejected : float or None
        Percent of rejected files and breasts (those that a label rule leaves out not counted).
    """

    max_fallback: float = 2.0
    max_rejected: float | None = None


@dataclass(frozen=True, slots=True)
class Build:
    """What a build did.

    Attributes
    ----------
    receipt : Receipt
    rejections : tuple of Rejection
    computed, reused : int
        Samples that were made now; that came from the store or were already in place.
    written : int
        Shards that were written.
    seconds : float
        That it took.
    steps : mapping of str to float
        Seconds of all workers together on each step of the samples that were made now.
    files : mapping of str to str
        The state of each file of the shard folder, and of the build file, as this build left it.
    """

    receipt: Receipt
    rejections: tuple[Rejection, ...]
    computed: int
    reused: int
    written: int
    seconds: float
    steps: Mapping[str, float]
    files: Mapping[str, str]
