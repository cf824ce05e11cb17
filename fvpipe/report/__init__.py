"""Reports for people: decisions on a file, audit of a data set, page of images of the shards.

- ``inspect`` and ``rule_report``: every decision on one file, or a shard folder. ``compare_decoders``: against another library.
- ``audit``: a data set before it is built, from ``measurements``.
- ``shard_page``: images of the shards, with ``finding_boxes`` and ``figure_list``.
- ``drawing`` and ``html``: parts of pages.
"""
