"""rsdl and its peers as loaders of one task: each in a file of its own, each in its own process."""
