"""Adapters that are declarations: YAML files, of which ``docs/adapters.md`` has every key.

- ``declaration``: their schema. ``unused_keys`` rejects keys that would have no effect; ``facts`` says which facts a table
  can give.
- ``tables``: the adapter that a declaration describes, and its tables. ``settings`` chooses the files, columns and label rule
  of a table; ``contents`` holds what the rows of its files say.
- ``row_reader`` reads one row, with the parsers of ``values``; ``listed_images`` reads rows about images.
- ``stated_images`` joins those rows, and the paths, to the files that are there.

Settings of the user (``labels`` of params.yaml, ``--column`` and ``--class``) come as :class:`fvpipe.config.project.Labels` to
:func:`fvpipe.datasets.declared.tables.read_declared`, and :func:`fvpipe.datasets.declared.settings.make_row_reader` puts its
columns over the declared ones.
"""
