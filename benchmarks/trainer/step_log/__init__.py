"""A hook that notes the optimizer steps of any training process."""
