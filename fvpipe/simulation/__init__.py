"""Simulated mammograms (phantoms) with known truth, in published forms."""
