"""Measurements of rsdl beside its peers; each file is a benchmark with ``run`` and ``main``."""
