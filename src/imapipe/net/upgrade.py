"""STARTTLS (RFC 9051 §6.2.1): from plain text to TLS on one connection.

Invariant: nothing that was received before the handshake is read as an answer to anything after it.
"""

from __future__ import annotations

import asyncio
import ssl

from imapipe.errors import ConnectionLost, ProtocolError
from imapipe.net.command import Command
from imapipe.net.dataplane import Dataplane
from imapipe.net.signals import as_error_of
from imapipe.wire.command.starttls import starttls
from imapipe.wire.response.response import Tagged


async def start_tls(plane: Dataplane, context: ssl.SSLContext, server_hostname: str) -> Tagged:
    """Send STARTTLS; after OK the connection is encrypted.

    Returns:
        The reply; after NO or BAD all is as it was.

    Raises:
        ProtocolError: Bytes stood behind the OK: somebody in the middle put them there. The connection is ended.
        ssl.SSLError, OSError: The handshake failed; the connection is ended.
        ConnectionLost: It ended meanwhile.

    Cancelling it ends the connection.
    """
    command = Command.of(starttls())
    tagged = await plane.begin_tls(command)
    if tagged.status != "OK" or plane.transport is None:
        return tagged
    if plane.unread():
        injected = ProtocolError("bytes came before the TLS handshake (a STARTTLS injection)")
        plane.abort(injected)
        raise injected
    loop = asyncio.get_running_loop()
    try:
        upgraded = await loop.start_tls(plane.transport, plane, context, server_hostname=server_hostname)
    except BaseException:
        plane.abort(ConnectionLost("the TLS handshake failed"))
        raise
    if upgraded is None:
        # Lost in the moment in which the handshake ended.
        plane.abort(ConnectionLost("it ended during the TLS handshake"))
    if plane.error is not None or upgraded is None:
        raise as_error_of(command.name, plane.error or ConnectionLost())
    plane.take_over(upgraded)
    return tagged
