"""The command line: ``main`` lists the commands, and shows errors as one line with an exit code.

- ``index_and_build``: index, build-shards. ``inspect``: verify, inspect, audit, report. ``datasets``: phantom, fetch, datasets.
- ``evaluation``: split, table1, evaluate, table2. ``training``: train, predict, export.
- ``comparison``: compare, summary. ``figures``: figures.
- ``options``: options that several commands share. ``output``: what is printed.
"""
