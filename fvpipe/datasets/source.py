"""One data set to read: its folder, its adapter, and the settings that decide how it is read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from fvpipe.config.formats import Format
from fvpipe.config.project import Labels
from fvpipe.datasets.adapter import Adapter
from fvpipe.dicom.header import HeaderPolicy


@dataclass(frozen=True, slots=True)
class Source:
    """One data set to read.

    Attributes
    ----------
    name : str
        Name of the data set in shards, tables and splits.
    root : Path
        The input folder.
    adapter : Adapter
        How its headers depart from the standard, and how its label table is read.
    label_file : Path or None
        The label table, where it is not in the published place.
    labels : Labels
        Label rules.
    simulated : bool
        Whether its images are simulated.
    for_processing : bool
        Whether images FOR PROCESSING are accepted.
    identifier_key : bytes
        Key of the digests that replace identifiers; empty where identifiers are kept.
    license : str
        What its publisher allows; written into every shard.
    formats : tuple of str
        Formats of its images; empty: as the adapter says.
    secondary_capture : bool
        Whether Secondary Capture is accepted, also where the adapter does not.
    """

    name: str
    root: Path
    adapter: Adapter
    label_file: Path | None
    labels: Labels
    simulated: bool
    for_processing: bool
    identifier_key: bytes
    license: str
    secondary_capture: bool = False
    formats: tuple[Format, ...] = ()

    @property
    def policy(self) -> HeaderPolicy:
        """How its headers are read."""
        policy = self.adapter.policy
        film = policy.secondary_capture or self.secondary_capture
        return replace(
            policy,
            formats=self.formats or policy.formats,
            secondary_capture=film,
            for_processing=self.for_processing,
            identifier_key=self.identifier_key,
        )
