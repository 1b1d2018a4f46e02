"""Training with Lightning: step, optimizer, checkpoints, preemption, run record."""
