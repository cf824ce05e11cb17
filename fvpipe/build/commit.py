"""A shard folder as it is committed: planned, written aside and synced as a whole, then renamed, its receipt last.

Whatever happens on the way, a reader finds the version before or the version after, or a folder that says it is neither.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import astuple, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fvpipe.build.build_file import build_record
from fvpipe.build.plan import Limits, ShardOutput
from fvpipe.build.schedule import Samples
from fvpipe.build.target_forms import cell_of, filled_forms
from fvpipe.config.loading import digest_of
from fvpipe.errors import QualityError, ReceiptError, StorageError
from fvpipe.indexing.index import Index
from fvpipe.indexing.labels.statements import declared_exclusions
from fvpipe.indexing.manifests.tables import breasts_table, findings_table, images_table, rejected_table
from fvpipe.indexing.rejections import nothing_to_build
from fvpipe.io.atomic import sync_folder, write_aside, write_atomic
from fvpipe.io.read import file_state
from fvpipe.progress import progress
from fvpipe.reasons import NO_FLAG, NOT_BROKEN, Flag, Reason, Rejection
from fvpipe.regular_files import open_regular, read_regular
from fvpipe.shards.format import MAX_RECEIPT_BYTES, RECEIPT, Receipt, ShardEntry, read_receipt, shard_index, shard_name
from fvpipe.shards.targets import TargetForm
from fvpipe.shards.writer import ShardRow, stored_facts, write_shard
from fvpipe.types import LABEL_NAMES, Breast, Digest
from fvpipe.versions import PREPROCESSING_VERSION, SCHEMA_VERSION

FALLBACKS = Flag.CC_CROP_FALLBACK | Flag.MLO_CROP_FALLBACK


@dataclass(frozen=True, slots=True)
class Build:
    """Result of a build.

    Attributes
    ----------
    receipt : Receipt
        Of the shard folder, as committed.
    samples : Samples
        What the shards hold, and what is rejected.
    written : int
        Shards that were written; the others were up to date.
    seconds : float
        Duration of the build.
    """

    receipt: Receipt
    samples: Samples
    written: int
    seconds: float


def commit(samples: Samples, limits: Limits, begun: float, say: Callable[[str], None]) -> Build:
    """Write what is not up to date aside, shards, tables and receipt; check, and rename all, the receipt last.

    Parameters
    ----------
    samples : Samples
        Everything that the folder will hold.
    limits : Limits
        Beyond them nothing is committed.
    begun : float
        ``time.perf_counter()`` at the start of the build.
    say : callable
        Takes a warning about what does not matter to the shards.

    Raises
    ------
    QualityError
        No sample of a folder with files in it, or more fallbacks or rejections than `limits`; nothing was committed.
    ParameterError
        A target has too many different texts to be classes.
    StorageError
        The folder cannot be written, or holds files that fvpipe did not write.
    """
    output, found = samples.output, samples.found
    if not samples.keys and found.files:
        raise QualityError(nothing_to_build(found, samples.rejections))
    _check_rejected(samples.rejections, len(found.files), limits, declared_exclusions(found.source.adapter.declaration))
    forms = filled_forms(found.source, output.pipeline.targets, [breast for breast, _ in samples.keys])
    by_shard = _by_shard(samples)
    with _Aside(output.folder) as aside:
        shards = _write_shards(samples, by_shard, forms, aside)
        written = len(aside.parts)
        fallbacks = [breast_id for breast_id, flags in shards.flags.items() if flags & FALLBACKS]
        _check_fallbacks(output, len(samples.keys), limits, fallbacks)
        breasts = [breast for members in by_shard.values() for breast, _ in members]
        tables = _tables(samples, breasts, shards)
        receipt = _receipt(found, output, shards.entries, breasts, samples.rejections, tables, forms)
        aside.rename({**tables, RECEIPT: receipt.to_json().encode()})  # the receipt is the last
    _remove_strays(output.folder, receipt, say)
    build = Build(receipt, samples, written, time.perf_counter() - begun)
    states = {entry.file: file_state(os.stat(output.folder / entry.file)) for entry in receipt.shards}
    states[RECEIPT] = _sha256_of(output.folder / RECEIPT)
    if samples.computed or written or recorded_states(output.build_file) != states:
        record = build_record(samples, written, build.seconds, states)
        try:
            write_atomic(output.build_file, record, durable=False)
        except StorageError as error:
            say(f"warning: {error}; the shards are complete, the next build reads them through")
    return build


class _Aside:
    """Files of a folder that are written under other names, and renamed together; of those that are not, none is left.

    Raises
    ------
    StorageError
        From the context: the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parts: list[tuple[Path, Path]] = []  # each file, and its final name

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        for part, _ in self.parts:
            with suppress(OSError):  # the next build removes it; the error that is under way says what is wrong
                part.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise StorageError(f"{self.folder}: cannot be written ({error.strerror})") from None

    def new(self, name: str) -> Path:
        """Return the path to write a file to; nobody can have linked its name to another file in advance."""
        _make_folder(self.folder)
        part = self.folder / f".{name}.{secrets.token_hex(8)}.part"
        self.parts.append((part, self.folder / name))
        return part

    def drop(self) -> None:
        """Remove the last file: the one that is there is the same."""
        self.parts.pop()[0].unlink()

    def rename(self, more: Mapping[str, bytes]) -> None:
        """Write `more` files where they differ from those that are there, sync all, and rename them in their order."""
        _make_folder(self.folder)
        for name, data in more.items():
            if part := write_aside(self.folder / name, data):
                self.parts.append((part, self.folder / name))
        sync_folder(self.folder)
        for part, final in self.parts:
            os.replace(part, final)
        sync_folder(self.folder)


@dataclass(frozen=True, slots=True)
class _Shards:
    """The shards of a folder, up to date or written aside: their entries, and what they store, by breast."""

    entries: list[ShardEntry] = field(default_factory=list)
    flags: dict[str, Flag] = field(default_factory=dict)
    resized: dict[str, tuple[str, str]] = field(default_factory=dict)


def _by_shard(samples: Samples) -> dict[int, list[tuple[Breast, Digest]]]:
    """Breasts and sample keys of each shard, in their order."""
    by_shard: defaultdict[int, list[tuple[Breast, Digest]]] = defaultdict(list)
    for breast, key in sorted(samples.keys, key=lambda sample: sample[0].key.breast_id):
        by_shard[shard_index(breast.key.patient, samples.output.shard_count)].append((breast, key))
    return dict(sorted(by_shard.items()))


def _write_shards(
    samples: Samples, by_shard: Mapping[int, Sequence[tuple[Breast, Digest]]], forms: tuple[TargetForm, ...], aside: _Aside
) -> _Shards:
    """Write the shards that are not up to date."""
    output, found, shards = samples.output, samples.found, _Shards()
    old, attributes = _committed(output), _attributes(found, output)
    # A shard that nobody touched since the last build is taken as written. With `--reread`, or where the receipt is not what
    # that build wrote, every one is written again, and compared.
    trusted = recorded_states(output.build_file)
    reread = samples.file_cache.reread or trusted.get(RECEIPT) != _sha256_of(output.folder / RECEIPT)
    trusted = {} if reread else trusted
    with progress(f"write {output.pipeline_name}/{found.source.name}", len(by_shard), "shards") as advance:
        for i, members in by_shard.items():
            rows = [_row(breast, samples.shared) for breast, _ in members]
            held: list[object] = [attributes, [[key, *astuple(row)] for (_, key), row in zip(members, rows, strict=True)]]
            cells = {form: [cell_of(form, breast) for breast, _ in members] for form in forms}
            held += [[form.path, form.attributes, each] for form, each in cells.items()]
            content = digest_of(held)
            known = entry = _unchanged(output.folder, old, i, content, trusted)
            file = output.folder / shard_name(i)
            if entry is None or reread:
                part = aside.new(shard_name(i))
                targets = [(form, form.encode(each)) for form, each in cells.items()]
                arrays = (samples.load(breast, key) for breast, key in members)
                entry = write_shard(part, rows, arrays, {**attributes, "shard_index": i}, content, targets)
                if entry == known:
                    aside.drop()
                else:
                    file = part
            shards.entries.append(entry)
            names = [breast.key.breast_id for breast, _ in members]
            stored_flags, stored_resizing = stored_facts(file)
            shards.flags.update(zip(names, stored_flags, strict=True))
            shards.resized.update(zip(names, stored_resizing, strict=False))
            advance(1)
    return shards


def _tables(samples: Samples, breasts: Sequence[Breast], shards: _Shards) -> dict[str, bytes]:
    """The tables beside the shards, by name; `breasts` in the order of the shards."""
    output, found, keys = samples.output, samples.found, {breast.key: key for breast, key in samples.keys}
    warps, cropped = output.pipeline.resize.method == "equal_area", output.pipeline.segment.method != "none"
    resized = shards.resized if warps else None
    tables = {
        "breasts.csv": breasts_table(breasts, found.exam_order, shards.flags if cropped else None, resized=resized),
        "rejected.csv": rejected_table(samples.rejections),
        "findings.csv": findings_table(found, breasts, lambda breast: samples.load(breast, keys[breast.key]), warps),
        "images.csv": images_table(found) if output.with_images else None,
    }
    return {name: b"".join(lines) for name, lines in tables.items() if lines is not None}


def _row(breast: Breast, shared: Mapping[str, Flag]) -> ShardRow:
    flags = shared.get(breast.key.breast_id, NO_FLAG)
    key, (cc, mlo) = breast.key, (image.upright_spacing if image else (None, None) for image in breast.views)
    return ShardRow(key.breast_id, key.patient, key.laterality, breast.facts.label, flags, (cc, mlo))


def _attributes(found: Index, output: ShardOutput) -> dict[str, Any]:
    """Attributes that each shard and the receipt share: of the data set and the pipeline."""
    return {
        "schema_version": SCHEMA_VERSION,
        "preprocessing_version": PREPROCESSING_VERSION,
        "dataset": found.source.name,
        "pipeline": output.pipeline_name,
        "pipeline_digest": output.pipeline.digest(),
        "pipeline_yaml": output.pipeline.canonical_yaml(),
        "license": found.source.license,
        "shard_count": output.shard_count,
    }


OWN_FILES = re.compile(r"shard-\d{5,}\.h5|index\.json|(breasts|rejected|images|findings)\.csv|build\.json|\..*")
STRAY = re.compile(r"shard-\d{5,}\.h5|findings\.csv|\..*\.part")


def _committed(output: ShardOutput) -> Receipt | None:
    """Read the present receipt, or None; a folder with anything that fvpipe did not write is rejected."""
    try:
        foreign = sorted(name for name in os.listdir(output.folder) if not OWN_FILES.fullmatch(name))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"{output.folder}: is not a usable folder ({error.strerror}); choose another one") from None
    if foreign:
        raise StorageError(f"{output.folder}: holds {foreign[0]!r}, not part of a shard folder; choose an empty folder")
    try:
        old = read_receipt(output.folder)
    except ReceiptError:
        return None
    if (old.dataset, old.pipeline) != (output.dataset, output.pipeline_name):
        raise StorageError(f"{output.folder}: holds the shards of {old.pipeline}/{old.dataset}; choose another folder")
    return old


def recorded_states(build_file: Path) -> dict[str, str]:
    """State in which the last build left each shard's file: name -> size, times and inode; of the receipt its SHA-256."""
    try:
        found = json.loads(read_regular(build_file, MAX_RECEIPT_BYTES))["shard_files"]
        return {str(name): str(state) for name, state in found.items()}
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return {}


def _unchanged(out: Path, old: Receipt | None, i: int, content: str, trusted: Mapping[str, str]) -> ShardEntry | None:
    """The committed shard, where it was made from the same content and still holds it.

    A file that nobody touched since it was written is taken as written; any other is read through.
    """
    entry = next((e for e in old.shards if e.index == i), None) if old else None
    if entry is None or entry.content != content:
        return None
    try:
        status = os.stat(out / entry.file)
        if status.st_size != entry.bytes:
            return None
        if trusted.get(entry.file) == file_state(status):
            return entry
        with open_regular(out / entry.file) as file:
            return entry if hashlib.file_digest(file, "sha256").hexdigest() == entry.sha256 else None
    except OSError:
        return None


def _sha256_of(file: Path) -> str:
    try:
        return hashlib.sha256(read_regular(file, MAX_RECEIPT_BYTES)).hexdigest()
    except OSError:
        return ""


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder}: cannot be made ({error.strerror}); choose another output folder") from None


def _receipt(
    found: Index,
    output: ShardOutput,
    entries: Sequence[ShardEntry],
    breasts: Sequence[Breast],
    rejections: Sequence[Rejection],
    tables: Mapping[str, bytes],
    forms: tuple[TargetForm, ...],
) -> Receipt:
    counted = Counter(breast.facts.label for breast in breasts)
    flags: Counter[str] = Counter()
    for entry in entries:
        flags.update(entry.flags)
    return Receipt(
        **_attributes(found, output),
        simulated=found.source.simulated,
        samples=len(breasts),
        labels={name: counted[label] for label, name in LABEL_NAMES.items()},
        rejections=dict(Counter(rejection.reason.value for rejection in rejections)),
        flags=dict(flags),
        tables={name: hashlib.sha256(data).hexdigest() for name, data in tables.items()},
        shards=tuple(entries),
        targets=forms,
    )


def _remove_strays(out: Path, receipt: Receipt, say: Callable[[str], None]) -> None:
    """Shards that the new receipt does not list, and what a killed build left half-written."""
    known = {entry.file for entry in receipt.shards}
    for file in out.iterdir():
        listed = file.name in known or file.name in receipt.tables
        if STRAY.fullmatch(file.name) and not listed:
            try:
                file.unlink(missing_ok=True)
            except OSError as error:
                say(f"warning: {file}: cannot be removed ({error.strerror}); the shards are complete without it")


def _check_fallbacks(output: ShardOutput, samples: int, limits: Limits, names: Sequence[str]) -> None:
    if len(names) > 10 and len(names) > limits.max_fallback / 100 * samples:
        raise QualityError(
            f"{output.folder}: {len(names)} of {samples} breasts have a view that could not be cropped, more than "
            f"--max-fallback {limits.max_fallback:g} %: {', '.join(names[:50])}{' ...' if len(names) > 50 else ''}; look at "
            "them with `fvpipe inspect`. Nothing was committed"
        )


def _check_rejected(rejections: Sequence[Rejection], files: int, limits: Limits, excluded: Set[tuple[Reason, str]]) -> None:
    faults = [
        r
        for r in rejections
        if r.reason not in NOT_BROKEN and not any(r.reason is reason and r.detail.endswith(end) for reason, end in excluded)
    ]
    # A breast whose view was rejected is named beside the file, and counted with it.
    broken = sum(r.reason is not Reason.VIEW_UNREADABLE for r in faults)
    if limits.max_rejected is None or broken <= limits.max_rejected / 100 * files:
        return
    named = ", ".join(f"{r.what} ({r.reason})" for r in faults)
    raise QualityError(
        f"{broken} rejections on {files} files, more than --max-rejected {limits.max_rejected:g} % (--strict is 0): "
        f"{named[:2000]}. Mend or remove them, or raise the limit; nothing was committed"
    )
