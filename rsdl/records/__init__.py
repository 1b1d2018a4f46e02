"""Typed records of runs and evaluations, which reports are made from."""
