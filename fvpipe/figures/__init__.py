"""Figures of the paper, drawn from what the code does and what the project holds.

- ``draw``: `fvpipe figures`, all of them. ``workflow``: Figure 1. ``network``: 2. ``pipelines``, from ``steps``: 3 and 4.
  ``protocols``: 5. ``differences``: what comparisons of pipelines found.
- ``style``: page width, colors and reproducible files.
"""
