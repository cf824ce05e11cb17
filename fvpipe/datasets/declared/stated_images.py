"""Statements of the rows of tables that list images, and of the paths, about each image that is there."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fvpipe.config.facts import EXAM_DATE, IDENTITY
from fvpipe.config.formats import RASTER, SUFFIXES
from fvpipe.config.project import Labels
from fvpipe.datasets.adapter import LabelTable, ListedImage, Statement
from fvpipe.datasets.declared.declaration import Column, Declaration, Table
from fvpipe.datasets.declared.listed_images import IMAGE_SUFFIX, in_words, path_key, read_image
from fvpipe.datasets.declared.row_reader import RowReader
from fvpipe.datasets.declared.settings import bi_rads_of
from fvpipe.datasets.declared.values import SIDES
from fvpipe.errors import LabelTableError
from fvpipe.io.folding import folded_name, whole_text
from fvpipe.io.tables import Row
from fvpipe.reasons import Reason
from fvpipe.types import VIEWS, Laterality

_RASTER_SUFFIXES = tuple(suffix for each in RASTER for suffix in SUFFIXES[each])
_WORD = re.compile(r"(?<![^\W_])(?![a-f\d]+(?:[\W_]|$))\d{0,2}([^\W\d_]{3,})\d{0,2}(?![^\W_])")
"""A word in a path, which is no number in hexadecimal digits, without its number, as in `mask1`."""


def state_images(
    declaration: Declaration, paths: Sequence[str], table: LabelTable, rules: Labels
) -> dict[str, list[Statement]]:
    """Find what the tables' rows and its own path say of each image.

    A row's path fits a file where one of the two ends in the other, the file's being that below the input folder.

    Raises
    ------
    LabelTableError
        A row fits two files, or a file two rows that differ.
    """
    pattern = re.compile(declaration.path)
    named = {fact: Column(column=(fact,)) for fact in (*IDENTITY, EXAM_DATE) if fact in pattern.groupindex}
    options, bi_rads = {**declaration.options, **rules.options}, bi_rads_of(declaration, rules)
    # The groups of a path are the cells of a row.
    tables = declaration.tables_of_paths or (Table(from_path=True),)
    readers = [RowReader(each, {**named, **each.columns}, bi_rads, options, declaration.targets) for each in tables]
    by_groups = path_groups_of(declaration) or None
    stated: dict[str, list[Statement]] = {}
    used: dict[str, str] = {}
    exams: defaultdict[tuple[str, ...], dict[str, tuple[str, ...]]] = defaultdict(dict)  # -> path -> `same_in_exam`
    for path in paths:
        match = pattern.search(path) if declaration.path else None
        groups = {name: found or "" for name, found in match.groupdict().items()} if match else {}
        if match and declaration.same_in_exam:
            words = in_words(declaration, groups)
            exams[words.get("patient", ""), words.get("exam", "")][path] = tuple(words[g] for g in declaration.same_in_exam)
        stated[path] = [("path", _of_path(reader, path, in_words(declaration, groups))) for reader in readers if match]
        if match and (ambiguous := _other_side_or_view(declaration, readers[0], match)):
            stated[path].append(("path", ambiguous))
        keys: Iterable[str] = _suffixes(path_key(path))
        if by_groups is not None:
            keys = ["\0".join(whole_text(groups[group]) for group in by_groups)] if match else []
        key = next((key for key in keys if key in table.listed), None)
        if key is not None:
            if used.setdefault(key, path) != path:
                raise _fits_two(table.listed[key], used[key], path)
            stated[path].append(("table", table.listed[key]))
    if by_groups is None:
        for path, row in _by_longer_paths(paths, table.listed, used):
            stated[path].append(("table", row))
    sources = [getattr(declaration.identity, fact) for fact in ("patient", "laterality", "view")]
    # `formats` of params.yaml are not known here.
    rasters = [path for path in paths if "dicom" not in declaration.formats or path.lower().endswith(_RASTER_SUFFIXES)]
    if all("path" in each and "table" not in each for each in sources):
        stated |= {path: [("path", each)] for path, each in _not_told_apart(pattern, rasters)}
    else:
        for path, image in _listed_as_one_view({path: stated[path] for path in rasters}):
            stated[path].append(("table", image))
    names = " and ".join(declaration.same_in_exam)
    for path in (path for found in exams.values() if len(set(found.values())) > 1 for path in found):
        why = f"the paths of this exam's images have several values of {names}; expected one"
        stated[path] = [("path", ListedImage("the path", rejected=(Reason.IMAGE_EXCLUDED, why)))]
    return stated


def path_groups_of(declaration: Declaration | None) -> Mapping[str, str]:
    """Groups of the path by which rows find their images, with their columns; nothing where they do not."""
    tables = declaration.tables if declaration else ()
    return next((table.path_groups for table in tables if table.path_groups), {})


def _other_side_or_view(declaration: Declaration, reader: RowReader, match: re.Match[str]) -> ListedImage | None:
    """A rejection where the pattern finds the other side or view, too, elsewhere in the path: a search takes the first.

    The text of the group is blanked out and the pattern searched again, and so on; all groups but side and view must stay as
    they are: `ALL_CC/R_MLO.png` has both three times.
    """
    groups, known = match.groupdict(), {*Laterality, *VIEWS}

    def value(fact: str, text: str) -> object:
        words = {name: found or "" for name, found in {**groups, fact: text}.items()}
        return getattr(_of_path(reader, match.string, in_words(declaration, words)), fact)

    for fact, reason in (("laterality", Reason.LATERALITY_CONFLICT), ("view", Reason.VIEW_CONFLICT)):
        if "path" not in getattr(declaration.identity, fact) or not groups[fact]:
            continue
        path, other = match.string, match
        while True:
            start, end = other.span(fact)
            path = path[:start] + "\0" * (end - start) + path[end:]
            again = match.re.search(path)
            if again is None or not again[fact] or "\0" in again[fact]:
                break
            other = again
            if any(text != groups[name] for name, text in other.groupdict().items() if name not in ("laterality", "view")):
                break
            first, second = value(fact, groups[fact]), value(fact, other[fact])
            if first != second and first in known and second in known:
                expected = "expected one: let `path` of the declaration begin with (?:^|/) and end with $"
                why = f"the pattern finds {first} and {second} in it; {expected}"
                return ListedImage("the path", rejected=(reason, why))
    return None


def _not_told_apart(pattern: re.Pattern[str], paths: Iterable[str]) -> Iterator[tuple[str, ListedImage]]:
    """Reject images in whose paths the pattern finds the same, although these differ in what it does not read.

    Of those with other words after the match, as masks have, or within it, as in a folder of masks, only one without any is the
    image. Where they differ before it, or in other folders within it, as by a number, they may be of two women, or exams: all
    images of this patient and exam are left out. Other numbers are those of several images of a view.
    """
    alike, unclear = defaultdict[tuple[str | None, ...], list[re.Match[str]]](list), dict[tuple[str | None, ...], str]()
    for match in filter(None, map(pattern.search, sorted(paths))):
        alike[tuple(match.groupdict().values())].append(match)

    def exam(match: re.Match[str]) -> tuple[str | None, ...]:
        return tuple(match.groupdict().get(fact) for fact in ("patient", "exam"))

    for found in alike.values():
        within = [_unread(each) for each in found]
        words = [frozenset(_WORD.findall(text)) for text in within]
        common = frozenset.intersection(*words)
        after = (IMAGE_SUFFIX.sub("", each.string[each.end() :]).casefold() for each in found)
        words = [(each - common).union(_WORD.findall(text)) for each, text in zip(words, after, strict=True)]
        why = f"the pattern finds the same in {found[0].string} and {found[-1].string}"
        apart = f"{why}: take copies out, or let `path` of the declaration read what tells patients or exams apart"
        if len({each.string[: each.start()] for each in found}) > 1:
            unclear[exam(found[0])] = apart
        elif len(set(words)) > 1:
            todo = "let `path` of the declaration fit the images alone: name their folders in it, and end it with $"
            rejected = ListedImage("the path", rejected=(Reason.IMAGE_EXCLUDED, f"{why}: {todo}"))
            yield from ((each.string, rejected) for each, more in zip(found, words, strict=True) if more)
        elif len({text.rpartition("/")[0] for text in within}) > 1:
            unclear[exam(found[0])] = apart
    for match in (match for found in alike.values() for match in found if exam(match) in unclear):
        yield match.string, ListedImage("the path", rejected=(Reason.IDENTIFIER_CONFLICT, unclear[exam(match)]))


def _unread(match: re.Match[str]) -> str:
    """The text within the match that no group has, in lower case, without the suffix of an image."""
    path = match.string
    for name in match.re.groupindex:
        start, end = match.span(name)
        path = path[:start] + "\0" * (end - start) + path[end:] if start >= 0 else path
    return IMAGE_SUFFIX.sub("", path[match.start() : match.end()]).casefold()


def _listed_as_one_view(stated: Mapping[str, Sequence[Statement]]) -> Iterator[tuple[str, ListedImage]]:
    """Reject listed images of one view in whose paths are other words, as a list of all files has masks.

    Nothing else tells which of them is the mammogram, but that the others have more words than it. What their rows say of the
    breast counts, as that of a spot view does. Of other views than CC and MLO none is taken.
    """
    alike = defaultdict[tuple[object, ...], list[str]](list)
    for path, statements in stated.items():
        row = next((image for source, image in statements if source == "table"), None)
        if row and not any(image.rejected for _, image in statements):
            facts = ("patient", "exam", "exam_date", "laterality", "view", "kind", "implant")
            said = [next(filter(None, (getattr(image, fact) for _, image in statements)), "") for fact in facts]
            if said[0] and said[facts.index("laterality")] and said[facts.index("view")] in VIEWS:  # else rejected for that
                alike[*said, row.exam_names].append(path)
    for paths in (paths for paths in alike.values() if len(paths) > 1):
        words = {path: frozenset(_WORD.findall(IMAGE_SUFFIX.sub("", path).casefold())) for path in paths}
        common = frozenset.intersection(*words.values())
        others = [path for path, found in words.items() if found != common]
        for path in others:
            why = f"rows list {others[-1]} and {next(each for each in words if each != others[-1])} as one view, in other words"
            todo = "expected mammograms alone: take masks and copies out of the table, or let its `exclude` do it"
            yield path, ListedImage("the table", rejected=(Reason.IMAGE_KIND_REFUSED, f"{why}; {todo}"))


def _by_longer_paths(
    paths: Sequence[str], listed: Mapping[str, ListedImage], used: Mapping[str, str]
) -> Iterator[tuple[str, ListedImage]]:
    """Rows whose path begins above the input folder, as `/data/set/P1/x.dcm` and `set/P1/x.dcm` do, and their files.

    All begin with the same folders: names alone, such as ``1.png``, would fit another patient's files.
    """
    if len(used) == len(listed):
        return
    files = defaultdict[str, list[str]](list)
    for path in paths:
        files[path_key(path)].append(path)
    rows = {path: listed[key] for key, path in used.items()}
    begins: dict[str, ListedImage] = {}  # the folders above the input, and the first row with them
    for key, row in listed.items():
        end = next((end for end in _suffixes(key) if end in files), "")
        found = files[end] if end and key not in used and end not in used else []  # a row of the very path is there
        if found and begins.setdefault(key.removesuffix(end), row) is row and len(begins) > 1:
            places = " and ".join(each.place for each in begins.values())
            detail = "their paths begin in different folders, and fit files only without them"
            raise LabelTableError(f"{places}: {detail}. Is the input folder one below that where these paths begin?")
        if len(found) > 1:
            raise _fits_two(row, *found[:2])
        for path in found:
            before = rows.setdefault(path, row)
            if before is row:
                yield path, row
            elif before != replace(row, place=before.place):
                where = f"{before.place} and {row.place}: both fit {path}, and differ"
                raise LabelTableError(f"{where}; expected one row. Is the input folder one below that where these paths begin?")


def _fits_two(row: ListedImage, *names: str) -> LabelTableError:
    todo = "take copies out of the input folder, or give more of the path"
    return LabelTableError(f"{row.place}: fits {' and '.join(names)}; expected one file: {todo}")


def _of_path(reader: RowReader, path: str, groups: Mapping[str, str]) -> ListedImage:
    """What a path says; where a part of it has no value, the image is rejected, and not the whole data set."""
    row = Row(Path(path), 0, groups)
    try:
        return read_image(reader, row, "the path")
    except LabelTableError as error:
        why = str(error).removeprefix(f"{row.file}, line {row.line}: ")
        return ListedImage("the path", rejected=(Reason.IMAGE_EXCLUDED, why))


def _suffixes(key: str) -> Iterator[str]:
    parts = key.split("/")
    return ("/".join(parts[i:]) for i in range(len(parts)))


def nearly_listed(
    declaration: Declaration | None, paths: Iterable[str], unlisted: Iterable[str], keys: Iterable[str]
) -> dict[str, list[str]]:
    """Find the rows without a file that may be about a file without a row: by path, their keys.

    Both are spelled alike but for case, spaces, ``.0`` and leading zeros, or have one name in other folders, which no other
    file and no other such row has: `1-1.dcm` may be the name of an image of each patient.

    Parameters
    ----------
    declaration : Declaration or None
        Of the data set.
    paths, unlisted : iterable of str
        Of all files, and of those without a row.
    keys : iterable of str
        Of the rows without a file.
    """
    groups = path_groups_of(declaration)

    def parts(path: str) -> tuple[str, ...]:
        match = re.search(declaration.path, path) if groups and declaration else None
        texts = [match[group] or "" for group in groups] if match else path_key(path).split("/")
        return tuple(map(folded_name, texts))

    files = {path: parts(path) for path in unlisted}
    wanted, separator = {own[-1] for own in files.values()}, "\0" if groups else "/"
    rows, ends = defaultdict[tuple[str, ...], list[str]](list), defaultdict[tuple[str, ...], list[str]](list)
    for key in keys:
        if folded_name(key.rpartition(separator)[2]) in wanted:  # of a part of a data set, most rows have no file
            row = tuple(map(folded_name, key.split(separator)))
            rows[row].append(key)
            for i in range(0 if groups else len(row)):
                ends[row[i:]].append(key)
    names = Counter(folded_name(path_key(path).rpartition("/")[2]) for path in paths if ends)
    found = dict[str, list[str]]()
    for path, own in files.items() if rows else ():
        near = [*ends.get(own, ()), *(key for i in range(len(own)) for key in rows.get(own[i:], ()))]
        of_name = ends.get(own[-1:], []) if names[own[-1]] == 1 else []
        if near := near or (of_name if len(of_name) == 1 else []):
            found[path] = list(dict.fromkeys(near))
    return found


def differing_groups(declaration: Declaration | None, paths: Iterable[str], keys: Iterable[str]) -> str:
    """Say which groups of the path have no text that their columns have; the texts only of side and view.

    Parameters
    ----------
    declaration : Declaration or None
        Of the data set.
    paths, keys : iterable of str
        Of the files, and of the rows.
    """
    by_groups = path_groups_of(declaration)
    if declaration is None or not by_groups:
        return ""
    matches = [match for path in paths if (match := re.search(declaration.path, path))]
    result = []
    for n, (group, column) in enumerate(by_groups.items()):
        texts, cells = {whole_text(match[group] or "") for match in matches}, {key.split("\0")[n] for key in keys}
        if texts and not texts & cells:
            known = {*SIDES, *map(str.casefold, VIEWS)}
            for table in declaration.tables:
                known |= {cell.casefold() for each in table.columns.values() if column in each.column for cell in each.values}
            text, cell = min(texts), min(cells)
            shown = group in ("laterality", "view") and {text.casefold(), cell.casefold()} <= known
            differing = f"{group} of the paths is {text}, column {column} has {cell}"
            result.append(differing if shown else f"no {group} of a path is in column {column}")
    return "; ".join(result)
