"""Comparison of two pipelines on the same breasts: which is better, and whether the difference is real.

- ``pipelines``: `fvpipe compare`, from ``detectability`` (for the model ``observer``), ``finding_pixels``, and ``models`` where
  some were trained.
- ``text`` prints it, ``page`` shows it; ``summary`` has the answers of a whole project.
"""
