"""rsdl and its peers as trainers of one network: one file each, as its documentation has it."""
