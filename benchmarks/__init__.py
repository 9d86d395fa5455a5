"""Measurements, each against a Dovecot of its own: `nox -s bench` runs them."""
