"""Fetching shards from a store, compared with other clients."""
