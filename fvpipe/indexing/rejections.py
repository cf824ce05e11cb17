"""Summary of rejections for the screen, and the errors of a data set without a breast or with labels of others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from fvpipe.datasets.declared.stated_images import path_groups_of
from fvpipe.datasets.registry import declarations, get_adapter
from fvpipe.datasets.source import Source
from fvpipe.dicom.header import read_header
from fvpipe.errors import LabelTableError, QualityError
from fvpipe.indexing.index import Index
from fvpipe.indexing.notes import in_two_studies
from fvpipe.printable import LINE_COLUMNS, escaped
from fvpipe.reasons import NOT_BROKEN, Reason, Rejection

NAMES = 3  # shown of each reason
SECONDARY = (NOT_BROKEN - {Reason.LABEL_EXCLUDED}) | {Reason.VIEW_UNREADABLE}
"""Reasons that follow from another one, or leave nothing out."""


def rejection_lines(rejections: Iterable[Rejection]) -> Iterator[str]:
    r"""Make one line for each reason, the most frequent first: count, three names and the first detail.

    Parameters
    ----------
    rejections : iterable of Rejection
        Those that only say what a label rule leaves out are passed over. None is kept.

    Examples
    --------
    >>> print(*rejection_lines(Rejection(f"{i}.dcm", Reason.COLOUR, "3 samples per pixel") for i in range(5)), sep="\n")
      rejected: 5 colour: 0.dcm, 1.dcm, 2.dcm, ... (3 samples per pixel)
    """
    found: dict[Reason, tuple[int, list[str], str]] = {}
    for rejection in rejections:
        if rejection.reason not in NOT_BROKEN:
            count, names, detail = found.get(rejection.reason, (0, [], rejection.detail))
            names = [*names, rejection.what] if len(names) < NAMES else names
            found[rejection.reason] = count + 1, names, detail
    for reason, (count, names, detail) in sorted(found.items(), key=lambda item: (-item[1][0], item[0])):
        line = f"  rejected: {count} {reason.value}: "
        more = ", ..." if count > len(names) else ""
        each = (LINE_COLUMNS - len(line) - len(more) - 2 * len(names)) // len(names)
        line += ", ".join(_shortened(escaped(name), each, from_left=True) for name in names) + more
        left = LINE_COLUMNS - len(line) - 3
        yield line + (f" ({_shortened(escaped(detail), left)})" if left >= min(len(detail), 16) else "")


def _shortened(text: str, length: int, *, from_left: bool = False) -> str:
    if len(text) <= length:
        return text
    return f"...{text[-(length - 3) :]}" if from_left else f"{text[: length - 3]}..."


def require_breasts(found: Index) -> None:
    """Check that an index gives a breast that some pipeline builds, and that its label table, if there is one, fits.

    Raises
    ------
    QualityError
        No breast; the message has the most frequent reason, and what to do.
    LabelTableError
        No row of the label table describes an image.
    """
    if found.files and not found.all_breasts:
        raise QualityError(nothing_to_build(found, found.rejections))
    if found.labels_unmatched:
        rows = [rejection for rejection in found.rejections if rejection.reason is Reason.LABEL_WITHOUT_IMAGE]
        table = found.source.label_file or f"the label table of {found.source.root}"
        counts = _by_reason(found.rejections)
        if not rows and counts:
            raise LabelTableError(
                f"{table}: the images that it describes are rejected, so every breast would be unlabelled; "
                f"{_most_often(counts)} Expected a table and headers that agree: is it the table of these images?"
            )
        details = [rejection.detail for rejection in rows]
        first = next((hint for hint in found.label_hints if hint in details), "".join(details[:1]))
        of_images = any(rejection.is_of_label_table for rejection in rows)
        found_none = "no row" if of_images else f"none of its {len(rows)} rows"
        without = " Without a label table (no --labels, no `label_file` in params.yaml) a `table` data set is unlabelled"
        without = without if found.source.label_file and found.source.adapter.name == "table" else ""
        expected = "paths of the input's files, or ends of them" if of_images else "the Patient ID and side of the headers"
        if by_groups := path_groups_of(found.source.adapter.declaration) if of_images else {}:
            expected = f"in columns {', '.join(by_groups.values())} the texts of the path's groups, before `path_values`"
        raise LabelTableError(
            f"{table}: {found_none} matches an imaged breast, so every breast would be unlabelled; {first}. "
            f"Expected {expected}, character by character: is it the table of these images?{without}"
        )


def nothing_to_build(found: Index, rejections: Sequence[Rejection]) -> str:
    """Explain why no breast of `found` is left, with the most frequent reason and what to do."""
    counts = _by_reason(rejections)
    message = f"{found.source.root}: {len(found.files)} files, but no breast to build; "
    if not counts:
        return f"{message}{'; '.join(found.passed_over.describe()) or 'none was rejected'}. Nothing was written"
    reason, (first, *_) = max(counts.items(), key=lambda item: len(item[1]))
    message += f"{_most_often(counts)} "
    if reason in (Reason.CC_MISSING, Reason.MLO_MISSING):
        message += "".join(f"{note[0].upper()}{note[1:]}. " for note in in_two_studies(found.images))
        message += "Is a part of the files missing? A pipeline of one view (`cc`, `mlo`) builds breasts without the other."
    elif reason is Reason.LABEL_EXCLUDED:
        message += "See `labels` of params.yaml for the rule."
    elif reason is Reason.IMAGE_NOT_LISTED:
        rows = [r.detail for r in found.rejections if r.is_of_label_table and r.reason is Reason.LABEL_WITHOUT_IMAGE]
        message += f"Of the label table, {rows[0]}. " if rows else ""
        message += "Is it the table of these images, and is the input folder that in which its paths begin?"
    elif fitting := _fitting_adapters(found.source, first):
        asked = " or ".join(f"{title}? `--adapter {name}`" for name, title in fitting.items())
        message += f"Is this {asked} reads this file (in a project: `adapter` of params.yaml)."
    else:
        message += (
            "See `fvpipe inspect` of a file; is `--adapter` (in a project, `adapter` of params.yaml) that of the data set?"
        )
    return f"{message} Nothing was written"


def _by_reason(rejections: Sequence[Rejection]) -> dict[Reason, list[Rejection]]:
    counts: dict[Reason, list[Rejection]] = {}
    for rejection in [r for r in rejections if r.reason not in SECONDARY] or rejections:
        counts.setdefault(rejection.reason, []).append(rejection)
    return counts


def _most_often(counts: Mapping[Reason, Sequence[Rejection]]) -> str:
    reason, (first, *others) = max(counts.items(), key=lambda item: len(item[1]))
    return f"most often {reason.value} ({1 + len(others)} times: {reason.meaning}), as {first.what}: {first.detail}."


def _fitting_adapters(source: Source, rejection: Rejection) -> dict[str, str]:
    """Names and titles of the other adapters whose header rules accept a file that this one's reject."""
    path = source.root / rejection.what
    if not path.is_file() or not isinstance(read_header(source.root, rejection.what, source.policy), Rejection):
        return {}
    titles = {each.name: each.title for each in declarations() if each.name != source.adapter.name}
    return {
        name: title
        for name, title in titles.items()
        if not isinstance(read_header(source.root, rejection.what, get_adapter(name).policy), Rejection)
    }
