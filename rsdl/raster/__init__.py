"""Scenes: open, check, cut into tiles, label and split; the same pixels on every machine."""
