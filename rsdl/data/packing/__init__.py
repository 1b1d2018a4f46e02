"""From sources to shards: pack, index what others packed, statistics, verify."""
