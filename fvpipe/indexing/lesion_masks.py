"""Lesions that a data set publishes as masks beside its films: the outline of each becomes a finding."""

from __future__ import annotations

import inspect
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import astuple, replace
from pathlib import Path
from typing import NamedTuple

from fvpipe.cache.file_cache import FileCache
from fvpipe.config.loading import digest_of
from fvpipe.datasets.adapter import Region
from fvpipe.datasets.source import Source
from fvpipe.dicom.elements import RejectedFile
from fvpipe.dicom.policy import HeaderPolicy
from fvpipe.execution.workers import Workers
from fvpipe.indexing.files.cached_values import read_values
from fvpipe.indexing.labels.breast_labels import BreastLabels
from fvpipe.reasons import Reason, Rejection
from fvpipe.types import BreastFacts, Finding, ImageRecord, Laterality, SourceFile, View


class MaskTask(NamedTuple):
    """One lesion mask that a worker reads."""

    root: str  # the input folder
    path: str
    policy: HeaderPolicy
    reader: Callable[[bytes], Region | None]  # of the adapter


def with_mask_findings(
    labels: BreastLabels,
    headers: Mapping[str, ImageRecord | Rejection],
    source: Source,
    files: Mapping[str, SourceFile],
    workers: Workers,
    file_cache: FileCache,
) -> tuple[BreastLabels, list[Rejection]]:
    """Read the lesion masks that are new or changed, and add each as a finding to the images of its breast, view and size.

    Parameters
    ----------
    labels : BreastLabels
        The label table, without the masks' findings.
    headers : mapping of str to ImageRecord or Rejection
        By path; masks are the files rejected as ``region_of_interest``.
    source, files, workers, file_cache
        As for :func:`fvpipe.indexing.files.headers.read_headers`.

    Returns
    -------
    labels : BreastLabels
        With the findings.
    rejections : list of Rejection
        Masks that cannot be read, or that fit no image.
    """
    reader = source.adapter.read_region
    if reader is None:
        return labels, []
    masks = [p for p, header in headers.items() if isinstance(header, Rejection) and header.reason is Reason.REGION_OF_INTEREST]
    tasks = {path: MaskTask(str(source.root), path, source.policy, reader) for path in masks}
    kind, title = cached_as(reader), f"lesion masks of {source.name}"
    regions, unreadable = read_values(
        read_regions, tasks, files, workers, file_cache, kind=kind, title=title, max_in_process=16
    )
    records = [header for header in headers.values() if isinstance(header, ImageRecord)]
    findings, unfit = _findings(regions, records, labels)
    return replace(labels, mask_findings=findings), [*unreadable, *unfit]


def _findings(
    regions: Mapping[str, str], records: Iterable[ImageRecord], labels: BreastLabels
) -> tuple[dict[str, list[Finding]], list[Rejection]]:
    """Findings of masks, by path of the film, since some films have no UID; and the masks that fit none."""
    films = defaultdict[tuple[str, Laterality, View], list[ImageRecord]](list)
    for record in records:
        films[record.patient_id, record.laterality, record.view].append(record)
    findings, rejections = defaultdict[str, list[Finding]](list), list[Rejection]()
    for path, text in regions.items():
        if not text:  # it outlines nothing
            continue
        patient, letter, name, number, rows, columns, kind, *box = json.loads(text)
        side, view = Laterality(letter), View(name)
        category, bi_rads = _lesion(labels.table.regions.get((patient, side, view, number), set()), kind)
        of_breast = films.get((patient, side, view), [])
        fitting = [record for record in of_breast if (record.rows, record.columns) == (rows, columns)]
        for record in fitting if box else ():
            top, bottom, left, right = map(float, box)
            findings[record.path].append(Finding(category, bi_rads, top, bottom, left, right))
        detail = ""
        if box and not fitting:
            sizes = " or ".join(sorted({f"{record.rows} x {record.columns}" for record in of_breast}))
            film = f"every {view} of its breast ({side}) {sizes}" if of_breast else f"there is no {view} of its breast ({side})"
            detail = f"the mask has {rows} x {columns} pixels, {film}; expected a film of the same size"
        elif fitting and not box:
            detail = "as large as its film, with the values of an image; expected a mask of two values, or a smaller cut-out"
        if detail:
            rejections.append(Rejection(path, Reason.REGION_WITHOUT_IMAGE, detail))
    return dict(findings), rejections


def cached_as(reader: Callable[[bytes], Region | None]) -> str:
    """Kind of a mask's outline in the file cache; of a reader that is not fvpipe's, with no version, by its module's code."""
    name = getattr(reader, "func", reader).__module__ or ""  # of a declaration it is a `partial`
    if name.startswith("fvpipe."):
        return "region"
    try:
        code = inspect.getsource(sys.modules[name])
    except (KeyError, OSError, TypeError):  # it has no source, as a compiled module
        code = name
    return f"region of {digest_of(code)}"


def with_outlined_breasts(labels: BreastLabels, images: Iterable[ImageRecord]) -> BreastLabels:
    """Let boxes and masks describe their breast: one that nothing else describes is not normal for want of a row."""
    if labels.match is None or labels.default == BreastFacts():
        return labels
    outlined = {(image.patient_id, image.laterality) for image in images if labels.findings_of(image)}
    return replace(labels, match=replace(labels.match, described=labels.match.described | outlined))


def _lesion(said: Set[tuple[str, int | None]], kind: str) -> tuple[str, int | None]:
    """Category and BI-RADS of the rows whose category begins with `kind`, or is not given; nothing of what they contradict."""
    of_kind = [each for each in said if not each[0] or each[0].casefold().startswith(kind.casefold())]
    categories, assessments = {category for category, _ in of_kind}, {bi_rads for _, bi_rads in of_kind}
    return categories.pop() if len(categories) == 1 else "", assessments.pop() if len(assessments) == 1 else None


def read_regions(tasks: Sequence[MaskTask]) -> list[tuple[str, str | Rejection]]:
    """On a worker: path and region (as JSON; nothing where there is none) of each task."""
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
    patient, *rest, box, kind = astuple(region)
    return json.dumps([policy.identifier("patient", patient), *rest, kind, *(box or ())])
