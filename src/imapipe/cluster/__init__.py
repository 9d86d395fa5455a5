"""Limits that hold over many processes and machines: connections, rates and bytes a day of accounts."""

from __future__ import annotations

from imapipe.cluster.limits import Limits

__all__ = ["Limits"]
