"""A trained network outside of its run: loaded in Python, or written in formats of others.

Preprocessing is part of the network here: it takes raw pixels of images of any size.
"""
