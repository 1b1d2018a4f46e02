"""Benchmarks of rsdl and its peers; each file is one benchmark with ``run`` and ``main``."""
