"""One typed description of a run, and the way from YAML to it."""
