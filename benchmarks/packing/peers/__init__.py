"""rsdl and its peers as packers and tilers: one file each, set up as its documentation has it."""
