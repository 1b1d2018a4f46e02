"""The shard cache of a node, shared by all its processes."""
