"""Training, validating and resuming, compared with plain loops."""
