"""Measurements of an audit: ``measure`` on one image, on workers; ``statistics`` and ``brightness`` over all images."""
