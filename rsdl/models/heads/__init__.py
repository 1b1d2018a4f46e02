"""Heads for dense prediction, on the maps of :mod:`rsdl.models.pyramid`."""
