"""Loading: from shards to batches, beside peers."""
