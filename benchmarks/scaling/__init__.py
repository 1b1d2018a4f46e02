"""Estimates for a study and for a run on many GPUs, by a model of the cluster."""
