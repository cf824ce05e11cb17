"""Comparison of two pipelines on the same breasts: which is better, and whether the difference is real."""
