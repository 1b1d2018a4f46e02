"""The cache of a node: what its processes have fetched, shared by all of them."""
