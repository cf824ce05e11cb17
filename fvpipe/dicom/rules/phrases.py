"""Syntax of lists of phrases, as regular expressions to be searched for in :func:`fvpipe.dicom.elements.words`.

The lists themselves are beside the rules that use them: kinds of images, as those of vendors for synthetic ones (`SYNTHETIC`),
in :mod:`fvpipe.dicom.rules.image_kinds`; views in :mod:`fvpipe.dicom.rules.views`; words of other languages in
:mod:`fvpipe.dicom.rules.languages`.
"""

from __future__ import annotations


def phrases(*texts: str) -> str:
    """Build the regular expression that finds any of `texts`, each as whole words.

    Parameters
    ----------
    *texts : str
        Words in capital letters: ``*`` stands for any letters and digits or none, ``_`` for a space or none, and ``?`` after a
        letter for that letter or none.

    Examples
    --------
    >>> import re
    >>> views = re.compile(phrases("C_VIEWS?", "SYNTHETI*"))
    >>> [bool(views.search(text)) for text in ("L CC C VIEW", "CVIEWS", "SYNTHETISED 2D", "C VIEWER", "PHOTOSYNTHETIC")]
    [True, True, True, False, False]
    """
    return r"\b(?:" + "|".join(texts).replace("*", r"\w*").replace("_", " ?") + r")\b"
