"""Fetching shards from a store, beside other clients."""
