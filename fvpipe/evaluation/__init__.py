"""Splits, metrics, intervals, shortcut baselines, model cards and the paper's tables. No torch."""
