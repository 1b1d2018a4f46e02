"""What every room may use: errors, the processes, and the batch that travels."""
