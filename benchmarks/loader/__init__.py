"""Loading from shards to batches, compared with peers."""
