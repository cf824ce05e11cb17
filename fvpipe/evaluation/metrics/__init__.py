"""Metrics of predictions: ``binary`` classification, ``clinical`` use, by ``subgroups``, with ``intervals``. Numpy alone."""
