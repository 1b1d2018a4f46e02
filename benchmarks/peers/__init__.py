"""rsdl and its peers as loaders for one task: one file each, one process each."""
