"""LOGIN (RFC 9051 §6.2.3): a user and a password, as they are."""

from __future__ import annotations

from imapipe.wire.command.encoder import Dialect, Request


def login(user: str, password: str) -> Request:
    """LOGIN; what is not ASCII goes as a literal, which the server asks for.

    Raises:
        ValueError: CR, LF or NUL in one of them; the error holds neither.
    """
    # Whether literals may go without being asked for is not to be trusted before the login.
    plain = Dialect()
    return Request("LOGIN", plain.string(user), plain.string(password))
