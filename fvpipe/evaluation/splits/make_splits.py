"""``fvpipe split``: manifests and shards -> one table a split, written only if no split leaks."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fvpipe.config.pipeline import REDUCED, stored_pipeline
from fvpipe.config.project import Split
from fvpipe.errors import InputError
from fvpipe.evaluation.splits.assign import (
    Assignment,
    Candidate,
    Leak,
    Part,
    balance,
    leak_rate,
    reject_leaks,
    shared_identifiers,
    split,
)
from fvpipe.evaluation.splits.listed_breasts import NO_BREAST, listed_breasts
from fvpipe.evaluation.splits.near_duplicates import Fingerprints, fingerprints, near_pairs
from fvpipe.evaluation.splits.split_table import COLUMNS
from fvpipe.io.atomic import write_if_changed
from fvpipe.io.csv_lines import format_csv
from fvpipe.io.tables import Row, read_table
from fvpipe.project.project import Project
from fvpipe.project.sharing import keep_splits_in_git
from fvpipe.shards.format import RECEIPT
from fvpipe.shards.reader import Shards, open_shards


def write_splits(project: Project, names: Sequence[str], id_key: Path | None = None) -> list[dict[str, Any]]:
    """Make the named splits of ``params.yaml``, and write them after all have passed the leak check.

    Parameters
    ----------
    id_key : Path or None
        Key of hashed identifiers, as :func:`fvpipe.config.identifier_key.identifier_key` takes it: patients of data sets with
        hashed and with their own identifiers are compared by it.

    Returns
    -------
    list of dict
        For each split: counts by part and label, leak rate, near-duplicates, path.

    Raises
    ------
    InputError
        A data set was not indexed yet, a split has no test breast, or a publisher's split has other words than it should.
    LeakError
        A setting that keeps patients apart does not.
    """
    keep_splits_in_git(project.folder, project.params)  # before a row that must not be published is written
    used = dict.fromkeys(dataset for name in names for dataset in project.params.splits[name].all_datasets)
    candidates, near, comparable = _candidates(project, used)
    candidates = _with_digests(project, candidates, id_key)
    results, tables = [], {}
    for name in names:
        settings = project.params.splits[name]
        _check_subsets(name, settings, candidates)
        for fold, file in enumerate(settings.files(name)):
            assignments = split(candidates, settings, fold)
            reject_leaks(assignments, settings, f"split '{file}'", _what_to_do)
            if not any(a.part is Part.TEST for a in assignments):
                raise InputError(f"split '{file}': no test breast; {_why_empty(settings, candidates)}. Nothing was written")
            path = project.splits / f"{file}.csv"
            rows = ([*a.candidate.key, a.candidate.patient_id, a.part.value] for a in assignments)
            tables[path] = format_csv(COLUMNS, rows)
            results.append(_result(file, settings, assignments, near, comparable, path))
    for path, table in tables.items():
        write_if_changed(path, table)
    _remove_strays(project)
    return results


def _check_subsets(name: str, settings: Split, candidates: Sequence[Candidate]) -> None:
    """Check that each breast of a publisher's split is in one of its parts: all that is not test would be trained on."""
    used = Counter(c.subset for c in candidates if c.label >= 0 and c.dataset in settings.datasets)
    wrong = {subset: count for subset, count in used.items() if subset not in ("training", "train", "test")}
    if settings.setting == "official" and wrong and set(used) != {""}:
        found = ", ".join(f"{count} {subset[:40]!r}" for subset, count in sorted(wrong.items())[:5])
        raise InputError(
            f"split '{name}': the subset of {sum(wrong.values())} labelled breast(s) is neither training nor test ({found}); "
            "write one of these words in the label table, or let `values` of the declaration's column do so"
        )


def _why_empty(settings: Split, candidates: Sequence[Candidate]) -> str:
    having = {
        v: sum(c.label >= 0 and v in c.views and c.dataset in settings.datasets for c in candidates) for v in ("cc", "mlo")
    }
    if settings.views == "both" and not any("both" in c.views and c.label >= 0 for c in candidates) and any(having.values()):
        counts = " and ".join(f"{count} a labelled breast's {view.upper()}" for view, count in having.items() if count)
        return f"no labelled breast has a pair of views, {counts}; set `views: cc` or `views: mlo` of the split in params.yaml"
    if settings.setting == "official":
        return "the data set has no split of its own in its label table"
    near = sum(bool(c.near) for c in candidates if c.label >= 0 and c.dataset in settings.datasets)
    kept = f" ({near} have nearly the same images as others, with which they are kept together)" if near else ""
    return f"there are too few labelled breasts for these shares{kept}"


def _remove_strays(project: Project) -> None:
    """Remove the tables of splits and folds that ``params.yaml`` no longer has."""
    known = {f"{file}.csv" for name, settings in project.params.splits.items() for file in settings.files(name)}
    for path in project.splits.glob("*.csv"):
        if path.name not in known:
            path.unlink()


def _candidates(project: Project, datasets: Iterable[str]) -> tuple[list[Candidate], list[tuple[str, str]], dict[str, int]]:
    """Read all breasts of the data sets, with digests where shards exist, and find near-duplicates among those.

    Returns
    -------
    (list of Candidate, list of (str, str), dict of str to int)
        Breasts; near-duplicates; and for each data set whose images were decoded whole, the preprocessing version: pixel
        digests may be compared between data sets of the same version.
    """
    comparable: dict[str, int] = {}
    candidates: list[Candidate] = []
    prints: list[Fingerprints] = []
    owners: list[tuple[str, str]] = []
    breasts: list[str] = []
    for name in datasets:
        manifest = project.manifests(name) / "breasts.csv"
        if not manifest.is_file():
            raise InputError(f"{manifest}: not found; run `fvpipe index --dataset {name}` first")
        folders = _shard_folders(project, name)
        files, has_uids = listed_breasts(project.manifests(name)), project.has_study_uids(name)
        digests = {
            breast: found
            for shards in reversed(folders)
            for i, breast in enumerate(shards.breast_ids.tolist())
            # Shards of other files than the manifest lists, as before one was replaced, tell nothing of those.
            if set((found := Candidate.digests_of(shards, i))[0]) <= set(files.get(breast, NO_BREAST).files)
        }
        if folders and not _decoded_in_part(folders[0]):
            comparable[name] = folders[0].receipt.preprocessing_version
        for row in read_table(manifest, ["breast_id", "patient_id", "study", "label", "subset"]):
            sources, pixels = digests.get(row["breast_id"], (files.get(row["breast_id"], NO_BREAST).files, ()))
            ids, label = (row["breast_id"], row["patient_id"], row["study"] if has_uids else ""), int(row["label"])
            candidates.append(Candidate(name, *ids, label, row["subset"], sources, pixels, _views(row)))
        seen: set[str] = set()
        for shards in folders:
            new = [i for i, breast in enumerate(shards.breast_ids.tolist()) if breast not in seen]
            seen.update(shards.breast_ids.tolist())
            prints.append(fingerprints(shards, new))
            owners += [(name, patient) for patient in shards.patient_ids[new].tolist()]
            breasts += [f"{name}/{breast}" for breast in shards.breast_ids[new].tolist()]
    places = near_pairs(Fingerprints.joined(prints), owners) if prints else []
    pairs = [(breasts[i], breasts[j]) for i, j in places]
    near: dict[str, list[str]] = defaultdict(list)
    for pair in pairs:
        for breast in pair:
            near[breast].append(" ".join(pair))
    return [replace(c, near=tuple(near["/".join(c.key)])) for c in candidates], pairs, comparable


def _with_digests(project: Project, candidates: list[Candidate], id_key: Path | None) -> list[Candidate]:
    """Add the digests of patients to data sets with identifiers of their own, where others have nothing else."""
    hashed = {name: project.has_hashed_identifiers(name) for name in {c.dataset for c in candidates}}
    if len({*hashed.values()}) < 2:
        return candidates
    policy = project.source(next(name for name, is_hashed in hashed.items() if is_hashed), id_key).policy
    return [c if hashed[c.dataset] else replace(c, digest=policy.identifier("patient", c.patient_id)) for c in candidates]


def _views(row: Row) -> frozenset[str]:
    """Values of `Split.views` that the breast of a row of ``breasts.csv`` meets."""
    if row.get("paired") != "false":
        return frozenset({"cc", "mlo", "both"})
    return frozenset(view for view in ("cc", "mlo") if row.get(f"{view}_rows"))


def _shard_folders(project: Project, dataset: str) -> list[Shards]:
    """Open the shard folders of images that were decoded whole, whose digests do not depend on the pipeline; else one other.

    A pipeline of one view may hold breasts that the others lack.
    """
    folders = [project.shards / pipeline / dataset for pipeline in project.params.pipelines]
    found = [open_shards(folder) for folder in folders if (folder / RECEIPT).is_file()]
    return [shards for shards in found if not _decoded_in_part(shards)] or found[:1]


def _decoded_in_part(shards: Shards) -> bool:
    """Whether the pipeline decodes at a reduced resolution, where the pixel digest depends on the image's encoding."""
    return stored_pipeline(shards.receipt.pipeline_yaml, f"the pipeline of {shards.folder}").resize.method in REDUCED


def _what_to_do(leak: Leak, settings: Split) -> str:
    if leak.kind == "patient" and settings.setting == "official":
        what = "The publisher's own parts share patients: use the setting `unseen` or `kfold`"
    elif leak.kind in ("file", "pixels") and len({breast.partition("/")[0] for breast in leak.breasts}) > 1:
        what = "The data sets have images in common: leave one of the data sets out"
    else:
        what = "Leave one of these breasts out by the label table"
    return f". {what}; nothing was written"


def _result(
    name: str,
    settings: Split,
    assignments: Sequence[Assignment],
    near: Sequence[tuple[str, str]],
    comparable: dict[str, int],
    path: Path,
) -> dict[str, Any]:
    parts = {"/".join(a.candidate.key): a.part for a in assignments}
    across = [pair for pair in near if pair[0] in parts and pair[1] in parts and parts[pair[0]] != parts[pair[1]]]
    return {
        "split": name,
        "setting": settings.setting,
        "parts": {p.value: {"benign": c[0], "malignant": c[1]} for p, c in balance(assignments).items()},
        "leak_rate": leak_rate(assignments),
        "digests_checked": all(a.candidate.pixels and a.candidate.dataset in comparable for a in assignments)
        and len({comparable[a.candidate.dataset] for a in assignments}) == 1,
        "shared_identifiers_across_parts": shared_identifiers(assignments, settings),
        "near_duplicates_across_parts": [list(pair) for pair in across],
        "out": str(path),
    }
