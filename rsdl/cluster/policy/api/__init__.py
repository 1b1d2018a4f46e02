"""What the API server of any cluster refuses or warns of, and no schema says."""
