"""Simulated mammograms ("phantoms") in the published forms of VinDr-Mammo and CMMD."""
