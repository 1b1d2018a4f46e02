"""Rules for errors that an API server accepts silently or that are best reported early.

The server rejects the rest at once, with a clear message: ``rsdl k8s check --server``.
"""
