"""Requests into batches, batches to replicas, outputs back into answers."""
