"""Packing images and tiling scenes, compared with other packers."""
