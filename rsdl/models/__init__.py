"""Networks by name: the nine architectures of the case study, and any other timm model.

timm builds every network. This package adds checks of image sizes that would crash or lose pixels,
loading of weights from any file without executing code from it, and clear error messages.
"""
