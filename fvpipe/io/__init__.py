"""Atomic writes, bounded reads, the lock, and CSV and XLSX tables."""
