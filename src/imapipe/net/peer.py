"""Who is at the other end of a connection, and how what is said is encrypted."""

from __future__ import annotations

import ssl

from imapipe.net.account import is_loopback_address
from imapipe.net.connection import Connection


def tls_of(connection: Connection) -> ssl.SSLObject | None:
    """What encrypts the connection, or None where nothing does."""
    found = _asked(connection, "ssl_object")
    return found if isinstance(found, ssl.SSLObject) else None


def is_local(connection: Connection) -> bool:
    """Whether the address that the socket has is one of this machine."""
    peer = _asked(connection, "peername")
    # That of a socket of another family is no address, and where it leads nobody can tell.
    return isinstance(peer, tuple) and is_loopback_address(str(peer[0]))


def _asked(connection: Connection, name: str) -> object:
    transport = connection.plane.transport
    return transport.get_extra_info(name) if transport is not None else None
