"""Commands that the server answered with something other than OK, and what it does not offer (RFC 9051 §7.1)."""

from __future__ import annotations

from datetime import datetime

from imapipe.errors.base import ImapipeError
from imapipe.errors.said import cut, written_out


class CommandError(ImapipeError):
    """The server answered a command with something other than OK (RFC 9051 §7.1).

    Attributes:
        command: The name of the command, such as `UID FETCH`; never its arguments.
        status: `NO`, `BAD` or `BYE`.
        code: The response code without brackets, such as `UNAVAILABLE`, or "" when there is none.
        text: The human-readable text of the server, as it came; the text of the exception has control characters
            written out. Of it and of the code, no more than `MAX_TEXT` characters are kept: an error may be kept for
            each of many messages.
    """

    def __init__(self, command: str, status: str, code: str = "", text: str = "") -> None:
        code, text = cut(code), cut(text)
        self.command = command
        self.status = status
        self.code = code
        self.text = text
        bracketed = f" [{code}]" if code else ""
        # A traceback goes to a terminal, where what a server says must only be shown.
        super().__init__(written_out(f"{command}: {status}{bracketed} {text}".rstrip()))


class CommandNo(CommandError):
    """The command failed: NO."""

    def __init__(self, command: str, code: str = "", text: str = "") -> None:
        super().__init__(command, "NO", code, text)


class CommandBad(CommandError):
    """The server did not understand the command: BAD."""

    def __init__(self, command: str, code: str = "", text: str = "") -> None:
        super().__init__(command, "BAD", code, text)


class ServerBye(CommandError):
    """The server said BYE while commands were pending."""

    def __init__(self, command: str, code: str = "", text: str = "") -> None:
        super().__init__(command, "BYE", code, text)


class AuthenticationFailed(CommandError):
    """The server refused the credentials."""


class TokenRefused(AuthenticationFailed):
    """An OAuth server gives no access token (RFC 6749 §4.1.2.1, §5.2; RFC 8628 §3.5).

    Attributes:
        error: Its word for the reason, such as `invalid_grant` or `access_denied`.
        description: What it says besides, or "".
    """

    def __init__(self, error: str, description: str = "") -> None:
        self.error = cut(error)
        self.description = cut(description)
        said = f"{self.error}: {self.description}" if self.description else self.error
        super().__init__("AUTHENTICATE", "NO", "", f"the OAuth server gives no token ({said})")


class Throttled(CommandError):
    """The server asks for less: too many connections, commands or bytes.

    Attributes:
        retry_after_seconds: The server's own hint, or None.
        retry_at: When it serves again, at the latest: by its hint, or by what is known of a provider that counts by the
            day; None where nothing says.
        is_quota: Of the account's quota is nothing left: nothing else is served either.
    """

    def __init__(
        self,
        command: str,
        status: str,
        code: str = "",
        text: str = "",
        *,
        retry_after_seconds: float | None = None,
        retry_at: datetime | None = None,
    ) -> None:
        self.retry_after_seconds = retry_after_seconds
        self.retry_at = retry_at
        self.is_quota = code.upper().partition(" ")[0] == "OVERQUOTA"
        super().__init__(command, status, code, text)


class CapabilityMissing(ImapipeError):
    """The server does not offer a capability that the request cannot do without."""

    def __init__(self, capability: str, reason: str = "") -> None:
        self.capability = capability
        super().__init__(f"the server does not offer {capability}" + (f": {reason}" if reason else ""))
