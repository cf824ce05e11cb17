"""Text for the screen: control characters, which files may hold, are found and shown escaped; and its width."""

from __future__ import annotations

import re
from collections.abc import Sequence

CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, those that change the direction or the line of the text, and halves of characters."""

LINE_COLUMNS = 100  # of a line or a table on the screen


def escaped(text: str, keep: str = "") -> str:
    r"""Replace each control character by its number, so that a terminal shows it and does not obey it.

    Parameters
    ----------
    keep : str
        Control characters that stay, as line ends in a text of several lines.

    Examples
    --------
    >>> print(escaped("a\x1b[31mb\n"))
    a\u001b[31mb\u000a
    """
    return CONTROL.sub(lambda found: found[0] if found[0] in keep else f"\\u{ord(found[0]):04x}", text)


def first_names(names: Sequence[object], count: int = 3) -> str:
    """Join the first `count` of some names, and say whether there are more.

    Examples
    --------
    >>> first_names(["a", "b"]), first_names([1, 2, 3, 4])
    ('a, b', '1, 2, 3, ...')
    """
    return ", ".join([*map(str, names[:count]), *["..."] * (len(names) > count)])
