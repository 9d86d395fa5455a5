"""What a refusal means: servers say "too much" in many ways (facts: Gmail, Exchange Online, Yahoo, Dovecot).

A reply is judged by its text first, then by its response code, then by its status, because the largest providers
put the meaning into the text. Every pattern names the server that sends it.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from imapipe.errors import CommandBad, CommandError, CommandNo, ConnectionLost, ImapipeError, ServerBye, Throttled
from imapipe.providers import quota_seconds
from imapipe.wire.response.response import Code, Tagged

# Exchange Online: "Request is throttled. Suggested Backoff Time: 299961 milliseconds".
LONGEST_BACKOFF_SECONDS = 3600.0
_BACKOFF = re.compile(r"backoff time:\s*(\d{1,9})\s*milliseconds", re.IGNORECASE)
_THROTTLES = re.compile(
    r"request is throttled"  # Exchange Online
    r"|exceeded command or bandwidth limits"  # Gmail
    r"|\[THROTTLED\]"  # Gmail, in the text of an OK
    r"|rate limit hit"  # Yahoo
    r"|too many (?:requests|commands|login attempts)",
    re.IGNORECASE,
)
_REFUSALS = re.compile(
    r"too many simultaneous connections"  # Gmail
    r"|maximum number of connections"  # Dovecot
    r"|too many connections"
    r"|connection limit exceeded"
    r"|server unavailable\. 15",  # Exchange Online
    re.IGNORECASE,
)


STORING = ("APPEND", "UID COPY", "UID MOVE", "CREATE")
"""The commands after which an account holds more."""


def to_error(command: str, tagged: Tagged) -> CommandError:
    """The exception for a reply that is not OK."""
    return status_error(command, tagged.status, tagged.code, tagged.text)


def status_error(command: str, status: str, code: Code | None, text: str) -> CommandError:
    """The exception for a status, tagged or not."""
    code_text = code_words(code)
    is_throttled = code is not None and code.is_throttled and not is_full(command, code_text)
    if is_throttle_text(text) or _REFUSALS.search(text) or is_throttled:
        return _throttled(command, status, code_text, text)
    if status == "BAD":
        return CommandBad(command, code_text, text)
    return CommandNo(command, code_text, text)


def over_quota(error: Throttled) -> str:
    """Why nothing more is asked for, in a sentence."""
    when = "" if error.retry_at is None else f"; at the latest it serves again at {error.retry_at:%Y-%m-%d %H:%M} UTC"
    return f"the account is over its quota ({error}){when}"


def is_full(command: str, code: str) -> bool:
    """Whether a refusal says that the account holds as much as it may (RFC 9208)."""
    return command in STORING and code.upper().partition(" ")[0] == "OVERQUOTA"


def refusal_in(error: ServerBye) -> CommandError:
    """A BYE instead of an answer, which may say that there are too many connections."""
    if is_throttle_text(error.text) or _REFUSALS.search(error.text):
        return _throttled(error.command, "BYE", error.code, error.text)
    return error


def _throttled(command: str, status: str, code: str, text: str) -> Throttled:
    hint = backoff_seconds(text)
    seconds = quota_seconds(text) if hint is None and code.upper().startswith("OVERQUOTA") else hint
    retry_at = None if seconds is None else datetime.now(UTC) + timedelta(seconds=seconds)
    return Throttled(command, status, code, text, retry_after_seconds=hint, retry_at=retry_at)


def as_error_of(command: str, error: BaseException) -> BaseException:
    """What ended a connection, as the owner of one of its commands should see it."""
    if isinstance(error, ServerBye):
        return ServerBye(command, error.code, error.text)
    if isinstance(error, ImapipeError):
        return error
    lost = ConnectionLost(f"the connection was ended by {type(error).__name__}")
    lost.__cause__ = error
    return lost


def code_words(code: Code | None) -> str:
    """A response code as it stood between its brackets, "" without one."""
    if code is None:
        return ""
    return f"{code.name} {code.arguments.decode('utf-8', 'replace')}".rstrip()


def is_throttle_text(text: str) -> bool:
    """Whether a text, of whatever status, asks for less."""
    return bool(_THROTTLES.search(text))


def is_one_too_many(error: CommandError) -> bool:
    """Whether a login was refused because of how many there are, not because of who asks."""
    return isinstance(error, Throttled) or error.code.split(" ")[0] in ("UNAVAILABLE", "INUSE", "LIMIT")


def backoff_seconds(text: str) -> float | None:
    """The server's own hint, at most an hour: nobody is to wait for days because a server cannot count. Or None."""
    match = _BACKOFF.search(text)
    return min(int(match[1]) / 1000, LONGEST_BACKOFF_SECONDS) if match else None
