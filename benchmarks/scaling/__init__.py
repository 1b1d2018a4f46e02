"""What a study and a run on many GPUs take, by a model of the cluster."""
