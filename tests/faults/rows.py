"""The faults that fvpipe is tested against, and what it promises for each. `docs/reliability.md` is written from them."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """A fault, and what happens then."""

    fault: str
    promise: str


ROWS: dict[int, Row] = {
    1: Row(
        "SIGKILL while a shard is written",
        "no partial file under a final name; the next build ends with the bytes of a clean one",
    ),
    2: Row("SIGKILL between the rename of a shard and that of the receipt", "the receipt is the only commit point"),
    3: Row("SIGKILL at 20 random times", "the next build ends with the same bytes each time"),
    4: Row("the disk is full", "exit code 1, one sentence, no temporary file left, the previous version whole"),
    5: Row("the output folder is read-only", "exit code 1, nothing partial"),
    6: Row("SIGTERM, Ctrl-C", "no process is left; the next build goes on from there"),
    7: Row("a worker is killed, as for memory", "no hang; another does the work, no file is blamed"),
    8: Row("two builds into one folder", "one has the lock, the other says `locked by pid N`"),
    9: Row("the lock of a dead process", "taken over, with a warning"),
    10: Row("one bit flipped in a shard", "a checksum error names shard and sample; the image is never served"),
    11: Row("a shard cut short, deleted, exchanged", "three named errors, never a shorter epoch"),
    12: Row("a receipt that is empty, no JSON, of an unknown version, with wrong counts", "a named error"),
    13: Row("0, 1, 2, 8 workers; processes or threads", "the same bytes, in the same order"),
    14: Row("other file order, times, time zone, locale, hash seed", "the same bytes"),
    15: Row("a parameter changed", "only what depends on it runs again"),
    16: Row("the bytes of a source file changed, its name, size and time kept", "seen, and its breast made again"),
    17: Row(
        "a DICOM file cut in its pixels or header, or empty",
        "rejected with a reason, the build goes on; with `--strict` or above `--max-rejected` it fails",
    ),
    18: Row("random bytes, or a PNG, named .dcm", "rejected as no DICOM"),
    19: Row("65535 x 65535 in the header", "rejected before decoding, in bounded memory"),
    20: Row("RLE, JPEG 2000 and deflated data that grow a thousandfold", "rejected in bounded memory"),
    21: Row("sequences nested 1,000 deep", "rejected, no crash"),
    22: Row("impossible bits, window, slope, VOI function or lookup table", "rejected or flagged, each by its own reason"),
    23: Row("an image of one value", "zeros, no NaN, a flag"),
    24: Row("a MONOCHROME1 twin of a MONOCHROME2 image", "the same sample"),
    25: Row("the padding value is the maximum", "background"),
    26: Row(
        "one view alone, one twice, three, a magnified one, an implant-displaced one beside a plain one",
        "no pair, or a choice that depends on nothing but the files; a reason for each image left out",
    ),
    27: Row("header and table name two sides; orientation and side contradict", "rejected"),
    28: Row("the same pixels under two patients, in two parts of a split", "the split fails"),
    29: Row("a patient in two parts of an edited split", "training rejects the split"),
    30: Row(
        "a label table with BOM, CRLF, semicolons: read; with contradicting rows, a missing column, an unknown category",
        "an error that names the line",
    ),
    31: Row("`=cmd()` in a cell of a table that fvpipe writes", "no spreadsheet takes it for a formula"),
    32: Row("an identifier that is a path, 64 kB, NUL or GB18030", "file names do not depend on it; no crash"),
    33: Row("symbolic links in a circle, a FIFO, a device in the input", "left out with a reason, no wait"),
    34: Row("pickle in a checkpoint, an `.npy` of objects, YAML that names Python objects", "rejected; no code of it runs"),
    35: Row(
        "a unique name, identifier, birth date, accession number, private element",
        "in no output, message, log or page; of relative paths only those that the documentation names",
    ),
    36: Row(
        "a decoder that ends its process, or never ends",
        "the worker is replaced; the file is rejected after it did so twice alone in a fresh process; the build goes on",
    ),
    37: Row(
        "no network, and pretrained weights that are not there", "an error that says how to give a file; never random weights"
    ),
    38: Row(
        "a validation part of one class", "no training without an epoch to choose; an undefined AUC is null with its reason"
    ),
    39: Row("the loss is not a number", "training stops; the last good checkpoint is kept; exit code 1"),
    40: Row("a checkpoint of another configuration", "rejected by the name of what differs"),
    41: Row("training killed and run again", "the same weights as without, on one device"),
    42: Row("a reader that is open while a build commits", "it keeps its version; a new one sees the new version"),
    43: Row(
        "a worker process that never begins (process limit, script on standard input, memory limit)",
        "it works, or an error of the machine; no file is blamed, nothing is cached",
    ),
    44: Row(
        "workers killed for memory again and again",
        "a named error, the previous version whole; the next build on a healthy machine is complete",
    ),
    45: Row("room on the disk for the shards, and none for tables or receipt", "the previous version whole and readable"),
    46: Row("entries of the sample store or file cache exchanged or renamed", "cache misses; never another breast's image"),
    47: Row("one character changed in any line of the receipt", "mended by the next build; `verify` names it"),
    48: Row("`breasts.csv` changed after the build, or without a row", "readers and training name the file"),
    49: Row("one bit flipped in a checkpoint or a model file", "rejected by name"),
    50: Row(
        "HDF5 features that shards do not have: external storage, links, virtual datasets, other types, filters, huge extents",
        "a `ShardError`; no other file is opened; memory is bounded",
    ),
    51: Row(
        "names in the receipt that leave the folder; a FIFO, device or endless file as receipt, table or shard", "named at once"
    ),
    52: Row("another user of the machine connects to the local workers", "rejected"),
    53: Row("markup in Manufacturer, file name, breast, licence", "text in every page"),
    54: Row("escape sequences in file names, identifiers, keys, paths", "never on the terminal"),
    55: Row("a label table with shifted columns", "the message holds no cell of it"),
    56: Row("a worker stopped (SIGSTOP)", "replaced after the time limit; the build ends"),
    57: Row(
        "a scheduler that accepts and never speaks, or whose workers are stopped; an HTTP server at its address",
        "a named error within a minute",
    ),
    58: Row("a FIFO as key file, lock, receipt or table", "named, no wait"),
    59: Row("a file of 12 GB with holes and a right header", "rejected before it is read; the build goes on"),
    60: Row("a spreadsheet of 20 million texts; a header of a million elements", "named within seconds"),
    61: Row("a file system without locks", "reading works; a build says what it does"),
    62: Row(
        "two users with one sample store, one output, one stale lock", "they work together, or one sentence says permission"
    ),
    63: Row("300 shards where 256 files may be open", "open and read"),
    64: Row("the CPU quota of a container", "that many workers"),
    65: Row("a read-only root with one writable volume", "works, or names TMPDIR"),
    66: Row("SIGHUP", "as SIGTERM"),
}
