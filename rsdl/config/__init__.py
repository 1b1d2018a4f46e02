"""The typed configuration of a run, and its loading from YAML."""
