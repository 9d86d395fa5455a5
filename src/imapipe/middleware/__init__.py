"""Layers around the fetching of a batch: progress, metrics, checkpoint, retry, rate limit."""
