"""Examining an account: each question apart, so that one that is not answered leaves the others alone.

Invariants:

- Nothing is changed: mailboxes are opened for reading only, and no message is marked as read.
- It is bounded in time and in bytes. What was not answered by then is named, with the reason.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final, TypeVar

from imapipe.client import Pool
from imapipe.doctor.examination import Examination, Extension, MailboxSize, QuotaLimit, Sample, Tls
from imapipe.doctor.extensions import EXTENSIONS
from imapipe.doctor.findings import find
from imapipe.doctor.sample import take_sample
from imapipe.errors import ImapipeError
from imapipe.models.argument import check_number, check_whole
from imapipe.models.mailbox import MailboxEntry
from imapipe.net.connection import Connection
from imapipe.net.peer import is_local, tls_of
from imapipe.net.traffic import SLOW_BYTES_PER_SECOND
from imapipe.providers import provider_of_account
from imapipe.search import ALL
from imapipe.wire.response.mailbox import NamespacePrefix
from imapipe.wire.response.quota import Quota

_NOOPS: Final = 5
_SAMPLE_SECONDS: Final = 10.0
# The part of the time that a question with a short answer may take.
_SHORT_SHARE: Final = 0.15
# Of more, the sizes are not asked for one by one: that would be megabytes, and work for the server.
_MOST_SIZES: Final = 50_000
# What is left of the bytes, above which it is not worth the trouble.
_WORTH_IT: Final = 0.8

_Answer = TypeVar("_Answer")


async def examine(pool: Pool, *, seconds: float = 60.0, sample_bytes: int = 4_000_000) -> Examination:
    """Find out what an account and its server are, and what a job can expect of them. Nothing is changed.

    Args:
        pool: The account.
        seconds: How long it may take in all.
        sample_bytes: How much may be fetched to see how fast that is, give or take what is in flight; 0 for nothing.

    Returns:
        What was found; what could not be is in its `failures`.

    Raises:
        ValueError, TypeError: A number that cannot work.
        AuthenticationFailed, ConnectionFailed, Throttled, PoolTimeout: The account cannot be reached at all.

    Cancelling it ends what is under way.
    """
    check_number("seconds", seconds)
    check_whole("sample_bytes", sample_bytes)
    if seconds <= 0 or sample_bytes < 0:
        raise ValueError("seconds must be above 0, and sample_bytes not below")
    parts = _Parts(asyncio.get_running_loop().time() + seconds, seconds * _SHORT_SHARE)
    provider = provider_of_account(pool.account)
    async with pool.acquire(timeout_seconds=seconds) as connection:
        offered = frozenset(connection.capabilities)
        extensions = tuple(Extension(name, connection.offers(name), *words) for name, *words in EXTENSIONS)
        tls, here = _encryption(connection), is_local(connection)

    perform = pool.connections.perform
    server = await parts.ask_shortly("server", lambda: perform(_who)) if "ID" in offered else {}
    namespaces = await parts.ask_shortly("namespaces", lambda: perform(_namespaces))
    quotas = await parts.ask_shortly("quota", lambda: perform(_quotas))
    round_trip = await parts.ask_shortly("round trip", lambda: perform(_round_trip))
    entries = await parts.ask("mailboxes", pool.mailboxes)
    sizes = _sizes(entries or [])
    sample: Sample | None = None
    if sample_bytes and (largest := next((each.name for each in sizes if each.messages), None)) is not None:
        span = min(_SAMPLE_SECONDS, parts.left)
        sample = await parts.ask("sample", lambda: take_sample(pool, largest, max_bytes=sample_bytes, seconds=span))
    messages, count, is_estimated = await _export(pool, parts, sizes, sample)
    seen = Examination(
        account=pool.account,
        provider=provider.name,
        examined_at=datetime.now(UTC),
        server=server or {},
        capabilities=tuple(sorted(offered)),
        tls=tls,
        is_local=here,
        namespaces=namespaces or {},
        quotas=quotas or (),
        round_trip_seconds=round_trip,
        sample=sample,
        compress=_compress(sample, is_offered="COMPRESS=DEFLATE" in offered, is_local=here),
        connections=provider.connections,
        max_connections=provider.max_connections,
        bytes_per_day=provider.bytes_per_day,
        mailboxes=sizes,
        export_messages=messages,
        export_bytes=count,
        is_estimated=is_estimated,
        extensions=extensions,
        notes={note.detail: count for note, count in pool.notes.items()},
        failures=parts.failures,
    )
    return replace(seen, findings=find(seen))


@dataclass(slots=True)
class _Parts:
    """The questions, asked one after the other until the time is over."""

    ends_at: float
    short_seconds: float
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return max(self.ends_at - asyncio.get_running_loop().time(), 0.0)

    async def ask(self, name: str, question: Callable[[], Awaitable[_Answer]]) -> _Answer | None:
        """The answer to a question; where there is none, that is noted."""
        return await self._ask(name, question, self.left)

    async def ask_shortly(self, name: str, question: Callable[[], Awaitable[_Answer]]) -> _Answer | None:
        """The same, of a question that is answered at once or never: the others need the time, too."""
        return await self._ask(name, question, min(self.short_seconds, self.left))

    async def _ask(self, name: str, question: Callable[[], Awaitable[_Answer]], seconds: float) -> _Answer | None:
        try:
            async with asyncio.timeout(seconds):
                return await question()
        except (ImapipeError, OSError) as error:
            # TimeoutError, which is an OSError, says nothing of its own.
            self.failures[name] = str(error) or "no answer in the time that there was"
        return None


async def _who(connection: Connection) -> dict[str, str]:
    return {name.lower(): value for name, value in (await connection.identify()).items() if value is not None}


async def _namespaces(connection: Connection) -> dict[str, Sequence[str]]:
    found = await connection.namespace()
    if found is None:
        return {}
    kinds = {"personal": found.personal, "other": found.other, "shared": found.shared}
    return {kind: _prefixes(places) for kind, places in kinds.items() if places}


def _prefixes(places: Sequence[NamespacePrefix]) -> list[str]:
    return [each.prefix.decode("utf-8", "backslashreplace") for each in places]


async def _quotas(connection: Connection) -> tuple[QuotaLimit, ...]:
    found: Sequence[Quota] = await connection.quota()
    return tuple(
        QuotaLimit(quota.root, name, used.usage, used.limit)
        for quota in found
        for name, used in quota.resources.items()
    )


async def _round_trip(connection: Connection) -> float | None:
    for _ in range(_NOOPS):
        await connection.noop()
    return connection.round_trip_seconds


def _encryption(connection: Connection) -> Tls | None:
    found = tls_of(connection)
    if found is None:
        return None
    cipher, ends = found.cipher(), (found.getpeercert() or {}).get("notAfter")
    return Tls(
        found.version() or "",
        cipher[0] if cipher is not None else "",
        datetime.fromtimestamp(ssl.cert_time_to_seconds(ends), UTC) if isinstance(ends, str) else None,
    )


def _sizes(entries: Sequence[MailboxEntry]) -> tuple[MailboxSize, ...]:
    """What the mailboxes hold that can be opened, the largest first."""
    sizes = [
        MailboxSize(
            each.name,
            each.status.messages if each.status is not None else None,
            each.status.size if each.status is not None else None,
            each.special_use,
        )
        for each in entries
        if each.is_selectable
    ]
    return tuple(sorted(sizes, key=lambda each: (-(each.size or 0), -(each.messages or 0), each.name)))


async def _export(
    pool: Pool, parts: _Parts, sizes: tuple[MailboxSize, ...], sample: Sample | None
) -> tuple[int | None, int | None, bool]:
    """Messages and bytes of a full export, and whether the bytes are estimated."""
    has_copies = any(each.special_use == "\\All" for each in sizes)
    if sizes and not has_copies and all(each.size is not None and each.messages is not None for each in sizes):
        return sum(each.messages or 0 for each in sizes), sum(each.size or 0 for each in sizes), False
    if not sizes:
        return None, None, False
    # Where one mailbox has a copy of everything, the others add nothing.
    counted = [each for each in sizes if each.special_use == "\\All"] or sizes
    messages = sum(each.messages or 0 for each in counted)
    if messages <= _MOST_SIZES:
        plan = await parts.ask("sizes", pool.each("*").search(ALL).fetch("full").plan)
        if plan is not None and not plan.errors:
            return plan.messages, plan.total_bytes, False
    if sample is None or not sample.messages:
        return messages, None, False
    return messages, messages * sample.bytes_received // sample.messages, True


def _compress(sample: Sample | None, *, is_offered: bool, is_local: bool) -> str:
    if not is_offered:
        return "the server does not offer it"
    if is_local:
        return "it does not pay on this machine, and is off"
    if sample is None or sample.compressed_to is None or sample.bytes_per_second is None:
        return "nobody knows whether it pays; it is turned on where the line proves to be slow"
    share = f"it would leave {sample.compressed_to:.0%} of the bytes"
    if sample.compressed_to > _WORTH_IT:
        return f"{share}: it does not pay"
    if sample.bytes_per_second > SLOW_BYTES_PER_SECOND:
        return f"{share}, but the line is quicker than inflating them: it is off"
    return f"{share}, and the line is slow: it pays; imapipe turns it on by itself, or at once with --compress on"
