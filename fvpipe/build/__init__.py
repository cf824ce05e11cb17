"""Plan, make and commit the shards of one data set by one pipeline, as :func:`fvpipe.flow.build_shards` does.

- ``plan``: which samples are in the store, and which must be made; settings and limits of a build.
- ``schedule``: gives the missing samples to the workers; a crash there becomes a rejection of the file. ``sample`` is the work.
- ``commit``: shards, tables and receipt, written aside and renamed. ``target_forms``: facts beside the label in the shards;
  ``build_file``: versions, host and timings, beside them.
"""
