"""Pack sources into shards, index WebDataset shards, measure statistics, verify datasets."""
