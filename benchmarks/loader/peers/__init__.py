"""rsdl and its peers as loaders: one file each, set up as its documentation has it."""
