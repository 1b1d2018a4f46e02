"""What every room may use: errors, the world of processes, and the batch that travels between rooms."""
