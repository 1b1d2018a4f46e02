"""``rsdl sweep``: run a study on a cluster or one machine, from its manifests to its models."""
