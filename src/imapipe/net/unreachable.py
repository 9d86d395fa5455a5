"""Why a server cannot be reached: what the operating system and TLS say, as one sentence that says what to do."""

from __future__ import annotations

import errno
import re
import socket
import ssl
from typing import Final

from imapipe.errors import ConnectionFailed

# EAI_NODATA is not everywhere. EAI_AGAIN is a name server that does not answer, which passes.
_NO_SUCH_NAME: Final = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})


def unreachable(error: OSError, host: str, port: int, *, name_is_right: bool, tls_advice: str) -> ConnectionFailed:
    """The sentence for what kept a connection from being made.

    Args:
        error: What the operating system or TLS said.
        host: Where to.
        port: And to which port.
        name_is_right: The host was reached by this name before, so that its absence is an outage.
        tls_advice: What may be the matter where no TLS is spoken.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return ConnectionFailed(
            f"the TLS certificate was not accepted: {error.verify_message}; check the host name, or "
            "give an ssl_context that knows the certificate",
            host=host,
            port=port,
            is_permanent=True,
        )
    if isinstance(error, ssl.SSLError):
        return ConnectionFailed(f"TLS failed ({error.reason or error}); maybe {tls_advice}", host=host, port=port)
    if isinstance(error, socket.gaierror):
        if error.errno not in _NO_SUCH_NAME:
            reason = "its name could not be looked up, as no name server answered; check the network"
            return ConnectionFailed(reason, host=host, port=port)
        reason = "the host name is not known; check its spelling"
        return ConnectionFailed(reason, host=host, port=port, is_permanent=not name_is_right)
    # Several addresses that all failed come as one exception without a number.
    numbers = {error.errno} if error.errno else {int(n) for n in re.findall(r"\[Errno (\d+)\]", str(error))}
    if numbers == {errno.ECONNREFUSED}:
        return ConnectionFailed("the port refused it; check the port, and that the server runs", host=host, port=port)
    return ConnectionFailed(error.strerror or str(error) or type(error).__name__, host=host, port=port)
