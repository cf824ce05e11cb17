"""The part of each breast: train, validation or test.

- ``assign``: breasts -> parts, and the check for leaks. ``listed_breasts``, ``near_duplicates``: what it needs to know of them.
- ``make_splits``: ``fvpipe split``. ``split_table``: the table that it writes.
"""
