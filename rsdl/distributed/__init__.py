"""Distributed training: ranks, rendezvous, heartbeats and the propagation of failures."""
