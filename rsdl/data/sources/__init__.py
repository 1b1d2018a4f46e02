"""Data sets and layouts that can be packed, one file each; every one is a ``Source``."""
