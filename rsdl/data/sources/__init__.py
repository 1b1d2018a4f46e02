"""Datasets and layouts that can be packed, one file each; each implements ``Source``."""
