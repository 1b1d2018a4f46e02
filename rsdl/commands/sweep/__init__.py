"""``rsdl sweep``: a study on a cluster, from its manifests to its models."""
