"""Connections: dialing, authentication, the data plane, the bridge to aioimaplib, and the pool."""
