"""Packing images and cutting scenes, beside other packers."""
