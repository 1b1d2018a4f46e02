"""Data loading on the GPU where measurements show a gain: resident pixels, decoding, cropping."""
