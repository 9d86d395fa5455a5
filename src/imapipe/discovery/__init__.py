"""Finding the mail server of an address: `autodiscover`."""

from __future__ import annotations

from imapipe.discovery.autodiscover import Discovered, autodiscover

__all__ = ["Discovered", "autodiscover"]
