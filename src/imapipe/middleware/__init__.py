"""Layers around the fetching of a batch: progress, metrics, checkpoint, retry, rate limit.

Each is imported from its own module, so that a job pays only for the layers it uses.
"""
