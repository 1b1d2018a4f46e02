"""Training, validating, resuming: beside plain loops."""
