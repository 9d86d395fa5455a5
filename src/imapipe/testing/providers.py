"""The servers of mail providers as data: what they offer, what they limit, and in which words they say so.

The numbers and words are those that are documented or reported (`docs/rate_limits.md`); a limit that takes a day at the
provider is one of `provider_server`'s arguments, so that a test meets it within a second.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from .faults import Bye, Fault, OmitUids, Reply
from .host import Messages
from .mailbox import Mailbox
from .mailboxes import Mailboxes
from .records import CommandRecord
from .server import Server
from .throttle import Throttle, ThrottleStyle

DAY_SECONDS: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class ServerProfile:
    """How the IMAP servers of a provider behave.

    Attributes:
        extensions: Name of the set of extensions; see `PROFILES`.
        max_connections: How many may be logged in at a time.
        too_many_style: The words for one more.
        bytes_per_day: What may be sent to the account within a day, or None for no limit.
        session_seconds: How long a connection lasts, or None for as long as it likes.
        session_words: What ends it.
        throttle_style: The words of a rate that is too high.
        special_uses: Mailboxes beside INBOX, by name.
        message_limit: Messages in one command (MESSAGELIMIT).
        visible_limit: Messages of a mailbox that can be seen without UIDONLY.
        forgets_every: One in so many messages is left out of the first FETCH that asks for it, which ends with OK.
    """

    extensions: str
    max_connections: int
    too_many_style: Literal["dovecot", "gmail"] = "dovecot"
    bytes_per_day: int | None = None
    session_seconds: float | None = None
    session_words: str = "Session expired, please login again."
    throttle_style: ThrottleStyle = "limit"
    special_uses: Mapping[str, str] = field(default_factory=dict)
    message_limit: int | None = None
    visible_limit: int | None = None
    forgets_every: int | None = None


PROVIDERS: Final[Mapping[str, ServerProfile]] = {
    "gmail": ServerProfile(
        "gmail",
        15,
        "gmail",
        bytes_per_day=2_500_000_000,
        session_seconds=DAY_SECONDS,
        throttle_style="gmail",
        special_uses={
            "[Gmail]/Sent Mail": "\\Sent",
            "[Gmail]/Trash": "\\Trash",
            "[Gmail]/Spam": "\\Junk",
            "[Gmail]/Drafts": "\\Drafts",
        },
    ),
    "exchange": ServerProfile(
        "exchange",
        20,
        session_words="Session invalidated - AccessTokenExpired",
        session_seconds=3_600.0,
        throttle_style="exchange",
        special_uses={"Sent Items": "", "Deleted Items": "", "Junk Email": "", "Drafts": ""},
        forgets_every=500,
    ),
    "yahoo": ServerProfile(
        "yahoo",
        5,
        special_uses={"Sent": "\\Sent", "Trash": "\\Trash", "Bulk": "\\Junk", "Draft": "\\Drafts"},
        message_limit=1_000,
        visible_limit=10_000,
    ),
    "icloud": ServerProfile(
        "modern",
        10,
        special_uses={
            "Sent Messages": "\\Sent",
            "Deleted Messages": "\\Trash",
            "Junk": "\\Junk",
            "Drafts": "\\Drafts",
            "Archive": "\\Archive",
        },
    ),
    "dovecot": ServerProfile(
        "dovecot", 10, special_uses={"Sent": "\\Sent", "Trash": "\\Trash", "Junk": "\\Junk", "Drafts": "\\Drafts"}
    ),
}
"""The profiles by name."""


def provider_server(
    name: str,
    messages: Messages = 0,
    *,
    max_connections: int | None = None,
    bytes_per_day: int | None = None,
    session_seconds: float | None = None,
    messages_per_second: float | None = None,
    commands_per_second: float | None = None,
    faults: Iterable[Fault] = (),
    tls: ssl.SSLContext | None = None,
    latency_seconds: float = 0.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Server:
    """A server that behaves as those of a provider do.

    Args:
        name: ``gmail``, ``exchange``, ``yahoo``, ``icloud`` or ``dovecot``; see `PROVIDERS`.
        messages: As for `Server`. The special mailboxes of the provider are added, unless it is a `Mailboxes`.
        max_connections: Instead of the provider's limit.
        bytes_per_day: Instead of the provider's quota; a test that is to meet it names a small one.
        session_seconds: Instead of how long the provider's connections last.
        messages_per_second: A rate above which it throttles, in the provider's words; none unless said.
        commands_per_second: Likewise, of commands.
        faults: What shall go wrong besides.
        tls: Context for TLS from the first byte.
        latency_seconds: Round trip of the line.
        clock: Seconds; a day and the age of a connection are measured by it.
        sleep: Waiting of throttles.

    Raises:
        ValueError: No profile has that name.
    """
    if name not in PROVIDERS:
        raise ValueError(f"unknown provider {name!r}; there are {', '.join(PROVIDERS)}")
    profile = PROVIDERS[name]
    throttle = None
    if messages_per_second is not None or commands_per_second is not None:
        throttle = Throttle(
            commands_per_second=commands_per_second,
            messages_per_second=messages_per_second,
            style=profile.throttle_style,
            # Its own hint is about minutes; here it is as long as a full bucket takes.
            backoff_milliseconds=1_000,
            clock=clock,
        )
    server = Server(
        messages if isinstance(messages, Mailboxes) else _with_special_uses(messages, profile.special_uses),
        extensions=profile.extensions,
        max_connections=max_connections or profile.max_connections,
        too_many_style=profile.too_many_style,
        message_limit=profile.message_limit,
        visible_limit=profile.visible_limit,
        throttle=throttle,
        faults=faults,
        tls=tls,
        latency_seconds=latency_seconds,
        clock=clock,
        sleep=sleep,
    )
    day = bytes_per_day or profile.bytes_per_day
    if day is not None:
        server.faults.add(
            Reply(
                "NO",
                "Account exceeded command or bandwidth limits.",
                code="OVERQUOTA",
                command="UID FETCH",
                when=_quota_of_a_day(server, day),
            )
        )
    lasts = session_seconds or profile.session_seconds
    if lasts is not None:
        server.faults.add(Bye(profile.session_words, command="UID FETCH", when=_older_than(server, lasts)))
    if profile.forgets_every is not None:
        uids = {uid for uid in server.mailboxes["INBOX"].uids if not uid % profile.forgets_every}
        if uids:
            server.faults.add(OmitUids(uids, command="UID FETCH", times=1))
    return server


def _with_special_uses(messages: Messages, uses: Mapping[str, str]) -> Messages:
    boxes = dict(messages) if isinstance(messages, Mapping) else {"INBOX": messages}
    for name, use in uses.items():
        boxes.setdefault(name, Mailbox(special_use=use))
    return boxes


def _quota_of_a_day(server: Server, limit: int) -> Callable[[CommandRecord], bool]:
    """Whether an account has had its bytes: once it has, it gets nothing until a day has passed since the first."""
    began, before = server.clock(), 0

    def is_spent(record: CommandRecord) -> bool:
        nonlocal began, before
        now = server.clock()
        if now - began >= DAY_SECONDS:
            began, before = now, server.counters.bytes_out
        return server.counters.bytes_out - before >= limit

    return is_spent


def _older_than(server: Server, seconds: float) -> Callable[[CommandRecord], bool]:
    """Whether a connection has lasted that long."""
    began: dict[int, float] = {}

    def is_old(record: CommandRecord) -> bool:
        return server.clock() - began.setdefault(record.connection, server.clock()) >= seconds

    return is_old
