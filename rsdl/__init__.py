"""rsdl: train deep networks on high-resolution remote-sensing imagery."""

__version__ = "0.1.0"
