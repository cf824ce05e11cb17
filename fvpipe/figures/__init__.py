"""Figures of the paper, drawn from what the code does and what the project holds."""
