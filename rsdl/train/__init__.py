"""Fitting a network with Lightning: step, optimizer, checkpoints, preemption, record."""
