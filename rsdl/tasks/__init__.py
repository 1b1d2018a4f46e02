"""Tasks, one file each, with their targets, loss and metrics."""
