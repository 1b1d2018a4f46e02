"""Shared parts of the benchmarks: interleaving, results, plots, worker processes, and data."""
