"""What fvpipe costs, measured beside what cannot be avoided and beside others: `make bench`."""
