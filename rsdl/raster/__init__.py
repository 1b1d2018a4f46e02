"""Scenes: opened, checked, cut into tiles, labelled and split; everybody sees the same pixels."""
