"""Lesions that a data set publishes as masks beside its films: their outlines become findings like those of a table."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, replace
from pathlib import Path

from fvpipe.cache.file_cache import FileCache
from fvpipe.datasets.adapter import LabelTable
from fvpipe.dicom.elements import RejectedFile
from fvpipe.dicom.header import HeaderPolicy
from fvpipe.execution.isolation import Crash
from fvpipe.execution.workers import Workers
from fvpipe.indexing.index import Source
from fvpipe.indexing.records import Records
from fvpipe.io.temp_database import OnDisk
from fvpipe.progress import progress
from fvpipe.reasons import Reason, Rejection
from fvpipe.types import Finding, Laterality, Region, View

Task = tuple[str, str, HeaderPolicy, Callable[[bytes], Region | None]]
"""Input folder, path, how identifiers are kept, and the adapter's reader."""


def with_regions(
    labels: LabelTable,
    records: Records,
    source: Source,
    workers: Workers,
    file_cache: FileCache,
) -> tuple[LabelTable, list[Rejection]]:
    """Read the masks that are new or changed, and lay each on the films of its breast and view that have its size.

    Returns
    -------
    (LabelTable, list of Rejection)
        The table with the findings, and the masks that cannot be read or fit no film.
    """
    reader = source.adapter.read_region
    if reader is None:
        return labels, []
    files, known = records.files, OnDisk[str, str]()

    def new() -> Iterator[str]:
        for path in records.rejected(Reason.REGION_OF_INTEREST):
            text = file_cache.fact(files[path], "region")
            if text is None:
                yield path
            else:
                known[path] = text

    unread = records.unread(new(), lambda path: (str(source.root), path, source.policy, reader))
    unfit: list[Rejection] = []
    with progress(f"regions of {source.name}", len(unread), "files") as advance:
        for batch in workers.run(read_regions, unread, max_in_process=16):
            answers = [(each.task[1], each.rejection(each.task[1])) if isinstance(each, Crash) else each for each in batch]
            read = {path: found for path, found in answers if isinstance(found, str)}
            file_cache.put_facts([(files[path], found) for path, found in read.items()], "region")
            known.update(read)
            unfit += [found for _, found in answers if isinstance(found, Rejection)]
            advance(len(batch))
    findings = OnDisk[str, Sequence[Finding]](labels.findings.items())
    for path in records.rejected(Reason.REGION_OF_INTEREST):
        text = known.get(path)
        if not text:  # a cut-out, or a mask that could not be read
            continue
        patient, letter, name, number, rows, columns, *box = json.loads(text)
        side, view = Laterality(letter), View(name)
        category, bi_rads = labels.regions.get((patient, side, view, number), ("", None))
        films = records.of_breast(patient, side)
        fitting = [r.sop_instance_uid for r in films if (r.view, r.rows, r.columns) == (view, rows, columns)]
        for instance in fitting:
            findings[instance] = [*findings.get(instance, ()), Finding(category, bi_rads, *map(float, box))]
        if not fitting:
            detail = f"no {view} of its breast ({side}) has {rows} x {columns} pixels"
            unfit.append(Rejection(path, Reason.REGION_WITHOUT_IMAGE, detail))
    return replace(labels, findings=findings), unfit


def read_regions(tasks: Sequence[Task]) -> list[tuple[str, str | Rejection]]:
    """On a worker: path and region (as JSON; nothing for a cut-out) of each task."""
    found: list[tuple[str, str | Rejection]] = []
    for root, path, policy, reader in tasks:
        try:
            region = reader((Path(root) / path).read_bytes())
        except RejectedFile as rejected:
            found.append((path, Rejection(path, rejected.reason, rejected.detail)))
        except OSError as error:
            found.append((path, Rejection.unreadable(path, error)))
        else:
            found.append((path, _to_json(region, policy) if region else ""))
    return found


def _to_json(region: Region, policy: HeaderPolicy) -> str:
    patient, *rest, box = astuple(region)
    return json.dumps([policy.identifier("patient", patient), *rest, *box])
