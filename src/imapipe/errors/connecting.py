"""Connections and pools: what could not be made, ended early, broke the grammar, or took too long."""

from __future__ import annotations

from imapipe.errors.base import ImapipeError
from imapipe.errors.said import cut, written_out


class ProtocolError(ImapipeError):
    """The server sent what the grammar of RFC 9051 §9 does not allow.

    Attributes:
        offset: Byte offset in the response where parsing stopped.
        excerpt: A short redacted piece of the response: its structure, never mail content.
    """

    def __init__(self, reason: str, *, offset: int = 0, excerpt: str = "") -> None:
        self.reason = reason
        self.offset = offset
        self.excerpt = excerpt
        near = f" near {excerpt!r}" if excerpt else ""
        super().__init__(f"the server broke the IMAP grammar: {reason} (byte {offset}{near})")


class ResponseTooLarge(ProtocolError):
    """A line, a literal or a whole response is larger than the limit set for it."""

    def __init__(self, reason: str, *, size: int, limit: int, offset: int = 0) -> None:
        self.size = size
        self.limit = limit
        super().__init__(f"{reason}: {size} bytes, the limit is {limit}", offset=offset)


class NestedTooDeeply(ProtocolError):
    """A value has more levels of lists than are taken apart. The server may be right: such mail exists.

    Attributes:
        limit: How many levels may be.
    """

    def __init__(self, limit: int, offset: int = 0) -> None:
        super().__init__("lists are nested too deeply", offset=offset)
        self.limit = limit
        self.args = (f"lists are nested too deeply to be taken apart: more than {limit} levels",)


class ConnectionFailed(ImapipeError, ConnectionError):
    """A connection could not be made: name, port, TLS or greeting.

    Attributes:
        reason: What is wrong, cut to 1,000 characters: a proxy says what it likes.
        host: Where it was to lead, or "".
        port: And at which port.
        is_permanent: Trying again cannot help: a setting or a certificate must change.
    """

    def __init__(self, reason: str, *, host: str = "", port: int = 0, is_permanent: bool = False) -> None:
        self.reason = cut(reason)
        self.host = host
        self.port = port
        self.is_permanent = is_permanent
        where = f" to {host}:{port}" if host else ""
        super().__init__(written_out(f"no connection{where}: {self.reason}"))


class ConnectionLost(ConnectionFailed):
    """A connection that worked has ended before its commands did.

    `host` and `port` are named where it ended while it was being made ready: no command of the caller was sent.
    """

    def __init__(self, reason: str = "the server closed the connection", *, host: str = "", port: int = 0) -> None:
        super().__init__(reason, host=host, port=port)


class CommandTimeout(ImapipeError, TimeoutError):
    """The server did not answer, or stopped in the middle of an answer, for too long; or got on too slowly.

    Attributes:
        command: The command.
        timeout_seconds: What it took too long for.
        was_silent: Nothing came for so long; else it was the whole command that took longer.
    """

    def __init__(self, command: str, *, timeout_seconds: float, was_silent: bool = True) -> None:
        self.command = command
        self.timeout_seconds = timeout_seconds
        self.was_silent = was_silent
        super().__init__(
            f"{command}: nothing came from the server for {timeout_seconds:g} seconds"
            if was_silent
            else f"{command}: the server was not silent, but too slow: so much may take {timeout_seconds:.0f} seconds "
            "(command_timeout_seconds, minimum_bytes_per_second)"
        )


class PoolTimeout(ImapipeError, TimeoutError):
    """No connection of the pool became free in time."""

    def __init__(self, *, timeout_seconds: float, max_size: int, reason: str = "") -> None:
        self.timeout_seconds = timeout_seconds
        self.max_size = max_size
        super().__init__(
            reason
            or f"no connection became free in {timeout_seconds:g} seconds; all {max_size} are leased "
            "(release some, or raise max_size)"
        )


class PoolClosed(ImapipeError):
    """The pool is closed: open another one with `create_pool`."""

    def __init__(self) -> None:
        super().__init__("the pool is closed; make another one with create_pool()")


class LeaseEnded(ImapipeError):
    """A leased connection, or something that was kept of it, was used after it was given back to the pool."""

    def __init__(self) -> None:
        super().__init__("this lease has ended: the connection went back to the pool; acquire() another one")
