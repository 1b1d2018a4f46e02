"""What any API server takes in silence and a study suffers from, or what is best told early.

The rest it refuses at once, and says well itself: ``rsdl k8s check --server``.
"""
