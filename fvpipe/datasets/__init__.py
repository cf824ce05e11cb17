"""One adapter per data set."""
