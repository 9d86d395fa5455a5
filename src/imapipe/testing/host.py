"""What a session knows of its server: the account, its mailboxes, the options, and the log of what happened.

Invariant: nothing here knows of connections; the server that owns them is built on this.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal

from .extensions import choose_extensions
from .faults import Fault, Faults
from .mailbox import Mailbox
from .mailboxes import Mailboxes
from .messages import make_messages
from .quota import Quota
from .records import CommandLog, Counters
from .structure import StringStyle
from .throttle import Throttle

# Not Iterable[bytes]: next to it type checkers cannot tell what a dict of mailboxes is.
Messages = (
    int | Sequence[bytes] | Iterator[bytes] | Mailbox | Mailboxes | Mapping[str, "int | Iterable[bytes] | Mailbox"]
)
"""What a server may be filled with: a number of made messages, raw messages, or mailboxes by name."""

FetchOrder = Literal["asked", "uid_last", "shuffled"]
ExpungedFetch = Literal["leave_out", "nil", "invent"]

_TOO_MANY: dict[str, tuple[str, str]] = {
    "dovecot": (
        "UNAVAILABLE",
        "Maximum number of connections from user+IP exceeded (mail_max_userip_connections={limit})",
    ),
    "gmail": ("ALERT", "Too many simultaneous connections. (Failure)"),
}


def _now() -> datetime:
    return datetime.now(UTC)


class Host:
    """Account, mailboxes and options of a ``Server``; its arguments are described there."""

    def __init__(
        self,
        messages: Messages = 0,
        *,
        user: str = "ann",
        password: str = "secret",
        token: str = "token",
        extensions: str | Iterable[str] = "modern",
        add_extensions: Iterable[str] = (),
        remove_extensions: Iterable[str] = (),
        mechanisms: Iterable[str] = ("PLAIN", "XOAUTH2", "OAUTHBEARER"),
        capability_codes: bool = True,
        latency_seconds: float = 0.0,
        bandwidth_bytes_per_second: float | None = None,
        line_bytes_per_second: float | None = None,
        max_connections: int | None = None,
        too_many_style: Literal["dovecot", "gmail"] = "dovecot",
        tls: ssl.SSLContext | None = None,
        starttls: ssl.SSLContext | None = None,
        login_disabled: bool = False,
        faults: Iterable[Fault] = (),
        throttle: Throttle | None = None,
        message_limit: int | None = None,
        visible_limit: int | None = None,
        visible_side: Literal["newest", "oldest"] = "newest",
        minimum_uid_batch: int = 500,
        strings: StringStyle = "auto",
        fetch_order: FetchOrder = "asked",
        search_charsets: Iterable[str] = ("us-ascii", "utf-8"),
        max_command_bytes: int = 65_536,
        max_literal_bytes: int = 64 << 20,
        expunged_fetch: ExpungedFetch | None = None,
        tell_unchanged: bool | None = None,
        append_limit: int | None = None,
        quota: Quota | None = None,
        seed: int = 0,
        now: Callable[[], datetime] = _now,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        added = list(add_extensions)
        added += ["MESSAGELIMIT"] if message_limit is not None else []
        added += ["APPENDLIMIT"] if append_limit is not None else []
        added += ["QUOTA"] if quota is not None else []
        self.extensions = choose_extensions(extensions, added, remove_extensions)
        self.user, self.password, self.token = user, password, token
        self.mechanisms = tuple(mechanisms)
        self.capability_codes = capability_codes
        self.latency_seconds = latency_seconds
        self.bandwidth_bytes_per_second = bandwidth_bytes_per_second
        self.line_bytes_per_second = line_bytes_per_second
        self.max_connections = max_connections
        self.tls, self.starttls, self.login_disabled = tls, starttls, login_disabled
        self.faults = Faults(faults)
        self.throttle = throttle
        self.message_limit = message_limit
        self.visible_limit, self.visible_side = visible_limit, visible_side
        self.minimum_uid_batch = minimum_uid_batch
        self.strings: StringStyle = strings
        self.fetch_order: FetchOrder = fetch_order
        self.search_charsets = frozenset(name.lower() for name in search_charsets)
        self.max_command_bytes, self.max_literal_bytes = max_command_bytes, max_literal_bytes
        self.expunged_fetch: ExpungedFetch = expunged_fetch or ("nil" if extensions == "dovecot" else "leave_out")
        self.tell_unchanged = extensions != "dovecot" if tell_unchanged is None else tell_unchanged
        self.append_limit = append_limit
        self.quota = quota
        self.seed = seed
        self.now = now
        self.clock = clock
        self.sleep = sleep
        self.mailboxes = messages if isinstance(messages, Mailboxes) else Mailboxes()
        self.commands = CommandLog()
        self.counters = Counters()
        self.client_ids: dict[int, dict[str, str | None]] = {}
        self.logged_in_sessions = 0
        self._too_many_style = too_many_style
        if not isinstance(messages, Mailboxes):
            self._fill(messages)

    def _fill(self, messages: Messages) -> None:
        boxes: Mapping[str, int | Iterable[bytes] | Mailbox]
        boxes = messages if isinstance(messages, Mapping) else {"INBOX": messages}
        for name, content in boxes.items():
            if isinstance(content, Mailbox):
                self.mailboxes.add(name, content)
            else:
                raw = make_messages(content, seed=self.seed) if isinstance(content, int) else content
                self.mailboxes.add(name).extend(raw)
        if "INBOX" not in self.mailboxes:
            self.mailboxes.add("INBOX")

    @property
    def too_many_connections(self) -> tuple[str, str]:
        """Response code and text of a login above ``max_connections``."""
        code, text = _TOO_MANY[self._too_many_style]
        return code, text.format(limit=self.max_connections)

    def quota_code(self, count: int, size: int) -> str:
        """Response code when ``count`` more messages of ``size`` bytes exceed the quota, else ""."""
        if self.quota is None or not self.quota.is_exceeded(self.mailboxes.values(), count, size):
            return ""
        return "OVERQUOTA"
