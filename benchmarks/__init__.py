"""Speed, memory and recovery of fvpipe, each against a named baseline: ``make bench``."""
