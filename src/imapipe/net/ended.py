"""What stands in the place of a connection once it belongs to somebody else."""

from __future__ import annotations

from typing import Never

from imapipe.errors import LeaseEnded


class Ended:
    """Raises `LeaseEnded` for whatever is asked of it."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Never:
        raise LeaseEnded

    def __setattr__(self, name: str, value: object) -> Never:
        raise LeaseEnded


ENDED = Ended()
