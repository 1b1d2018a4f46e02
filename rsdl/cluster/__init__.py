"""Kubernetes and Nautilus: manifests from configs, the cluster's rules as code, jobs by kubectl."""
