"""What a network is trained for: one file a task, with its targets, loss and metrics."""
