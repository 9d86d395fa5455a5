"""Delivery: the way of a message from the wire to whoever handles it, and of its outcome back."""
