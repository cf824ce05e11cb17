"""Reports for people: what is done with a file, an audit of a data set, a page of images of the shards."""
