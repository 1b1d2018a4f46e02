"""Networks by name: the nine architectures of the case study, and any other model of timm.

timm builds every network; this room adds what timm leaves to its caller: sizes that are refused
before they crash or lose pixels, weights from any file without executing what is in it, and errors
in a user's words.
"""
