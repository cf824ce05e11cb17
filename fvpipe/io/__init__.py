"""Atomic writes, bounded reads, locks and tables."""
