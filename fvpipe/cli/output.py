"""Text output of the commands."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fvpipe.printable import escaped

if TYPE_CHECKING:
    from fvpipe.project.stages import BuildSummary, IndexSummary

SHOWN = 20  # items of a list shown on the screen


def echo(text: str, *, err: bool = False) -> None:
    """Print text, on stdout or stderr. All commands print by this: control characters of files show escaped."""
    click.echo(escaped(text, keep="\n"), err=err)


def say(line: str) -> None:
    """Print a line on stderr."""
    echo(escaped(line), err=True)


def warn(message: str) -> None:
    """Print a warning on stderr."""
    say(f"warning: {message}")


def print_index(result: IndexSummary) -> None:
    """One line for an indexed data set, the facts that are known of it, and its rejections."""
    from fvpipe.indexing.known_facts import known_lines

    breasts = f"{result.breasts} breasts" + (f" and {result.unpaired} without a pair of views" if result.unpaired else "")
    counts = f"{result.images} images, {breasts}, {rejected_words(result.rejections)}"
    counts += f", {result.ignored} other files" if result.ignored else ""
    read = "kept, no input folder" if result.kept else f"{result.read} headers read"
    echo(f"{result.dataset}: {counts}; {read} -> {result.out}")
    for line in known_lines(result.known):
        echo(line)
    _print_rejected_in(result.out)


# Flags of samples that may show something else than they should, with what the cause may be.
_DOUBTS = {
    "chest_wall_conflict": "a view's breast lies on the opposite edge to that of its side, which may be wrong",
    "cc_crop_fallback": "no outline of the CC was found, so that its whole image counts as breast; air may be white",
    "mlo_crop_fallback": "no outline of the MLO was found, so that its whole image counts as breast; air may be white",
    "bits_differ": "the two views' values may not be comparable, of which one may then be all dark",
}


def print_build(result: BuildSummary) -> None:
    """One line for a shard folder that was built, and its rejections."""
    labels = ", ".join(f"{count} {name}" for name, count in result.labels.items())
    where = f"in {result.shards} shard(s), {result.written} written"
    made = f"{result.computed} made, {result.reused} reused in {result.seconds:.1f} s"
    echo(
        f"{result.pipeline}/{result.dataset}: {result.samples} breasts ({labels}) {where}, "
        f"{rejected_words(result.rejections)}; {made} -> {result.out}"
    )
    for flag, why in _DOUBTS.items():
        if count := result.flags.get(flag):
            echo(f"  flagged: {count} {flag}: {why}; `fvpipe audit` shows them")
    _print_rejected_in(result.out)


def _print_rejected_in(folder: str) -> None:
    from fvpipe.io.tables import iterate_table
    from fvpipe.reasons import Reason, Rejection

    rows = iterate_table(Path(folder) / "rejected.csv", ["what", "reason", "detail"])
    print_rejections(Rejection(row["what"], Reason(row["reason"]), row["detail"]) for row in rows)


def explanation_text(found: Mapping[str, Any]) -> str:
    """Format what ``fvpipe index --explain`` found."""
    lines = [f"{found['path']} ({found['dataset']}, adapter {found['adapter']})"]
    if "rejected" in found:
        lines.append(f"  rejected: {found['rejected']['reason']}: {found['rejected']['detail']}")
    if "no_pair" in found:
        only = "only a pipeline of one view (cc, mlo) may show it"
        lines.append(f"  no pair: {found['no_pair']['reason']}: {found['no_pair']['detail']}; {only}")
    lines += [f"  {fact:<12} {row['value']!s:<24} {row['from']}" for fact, row in found["facts"].items()]
    return "\n".join(lines)


def print_profile(results: list[BuildSummary]) -> None:
    """Seconds of all workers together on each step, and milliseconds a breast."""
    for result in results:
        for step, seconds in result.seconds_of_steps.items():
            each = f"{1000 * seconds / max(result.computed, 1):8.1f} ms a breast"
            echo(f"  {result.pipeline}/{result.dataset}: {step:<8} {seconds:8.2f} s {each}")


def rejected_words(reasons: Mapping[str, int]) -> str:
    """Format the number of rejections, in total and by reason.

    Examples
    --------
    >>> rejected_words({"mlo_missing": 1, "label_excluded": 8})
    '9 rejected (8 label_excluded, 1 mlo_missing)'
    """
    words = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    return f"{sum(reasons.values())} rejected" + (f" ({words})" if words else "")


def print_rejections(rejections: Any) -> None:
    """Print one line a reason on stderr; what the label rule leaves out is in the table only."""
    from fvpipe.indexing.rejections import rejection_lines

    for line in rejection_lines(rejections):
        say(line)
