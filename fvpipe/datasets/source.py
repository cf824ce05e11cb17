"""One data set to read: its folder, its adapter, and the settings that decide how it is read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from fvpipe.config.formats import Format
from fvpipe.config.project import Labels
from fvpipe.datasets.adapter import Adapter
from fvpipe.dicom.policy import HeaderPolicy


@dataclass(frozen=True, slots=True)
class Source:
    """One data set to read."""

    name: str  # in shards, tables and splits
    root: Path  # input folder
    adapter: Adapter  # how its headers depart from the standard, and how its label table is read
    label_file: Path | None  # the label table, where it is not in the published place
    labels: Labels
    simulated: bool
    for_processing: bool  # whether images FOR PROCESSING are accepted, also where the adapter does not
    identifier_key: bytes  # key of the digests that replace identifiers; empty where identifiers are kept
    license: str  # what its publisher allows; written into every shard
    secondary_capture: bool = False  # whether Secondary Capture is accepted, also where the adapter does not
    formats: tuple[Format, ...] = ()  # formats of its images; empty: as the adapter says
    outside: bool = False  # whether its adapter is none that comes with fvpipe

    @property
    def policy(self) -> HeaderPolicy:
        """How its headers are read."""
        policy = self.adapter.policy
        film = policy.secondary_capture or self.secondary_capture
        return replace(
            policy,
            formats=self.formats or policy.formats,
            secondary_capture=film,
            for_processing=policy.for_processing or self.for_processing,
            identifier_key=self.identifier_key,
        )
