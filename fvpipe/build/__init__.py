"""Plan, make and commit the shards of one data set by one pipeline."""
