"""Fitting a network with Lightning: the step, the optimizer, checkpoints, preemption, the record."""
