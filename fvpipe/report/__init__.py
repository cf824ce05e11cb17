"""Reports for people: decisions on a file, audit of a data set, page of images of the shards."""
