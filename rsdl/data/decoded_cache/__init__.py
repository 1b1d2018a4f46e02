"""Decoded pixels kept on the node: which file, and what is in it."""
