"""Kubernetes and Nautilus: render manifests, check them against rules, manage Jobs by kubectl."""
