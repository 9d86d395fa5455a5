"""What somebody should know of what an examination found. Pure: each rule is a few lines here.

Invariant: a finding says what is so, and what follows from it or what to do.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from imapipe.doctor.examination import Examination, Finding, bytes_text

_LEVELS: Final = ("problem", "advice", "note")
_CERTIFICATE_DAYS: Final = 21
_CLOCK: Final = timedelta(minutes=5)
_FULL: Final = 0.9
_SLOW_ROUND_TRIP_SECONDS: Final = 0.15
_MANY_MAILBOXES: Final = 100
# Yahoo shows no more of a mailbox to who has not enabled UIDONLY.
_YAHOO_SHOWS: Final = 10_000


def find(examination: Examination) -> tuple[Finding, ...]:
    """What to know, the worst first."""
    found = [*_connection(examination), *_server(examination), *_mailboxes(examination), *_messages(examination)]
    return tuple(sorted(found, key=lambda each: _LEVELS.index(each.level)))


def _problem(text: str) -> Finding:
    return Finding("problem", text)


def _advice(text: str) -> Finding:
    return Finding("advice", text)


def _note(text: str) -> Finding:
    return Finding("note", text)


def _connection(seen: Examination) -> Iterator[Finding]:
    tls = seen.tls
    if tls is None and not seen.is_local:
        yield _problem("the connection is not encrypted: everybody on the way can read the mail; use imaps://")
    if tls is not None and tls.version in ("SSLv3", "TLSv1", "TLSv1.1"):
        yield _problem(f"the server speaks {tls.version}, which is broken: ask its administrator for TLS 1.2 or newer")
    if tls is not None and tls.expires_at is not None:
        days = (tls.expires_at - seen.examined_at).days
        if days < _CERTIFICATE_DAYS:
            yield _problem(f"the certificate of the server ends in {days} days, and then nothing works any more")
    if seen.round_trip_seconds is not None and seen.round_trip_seconds > _SLOW_ROUND_TRIP_SECONDS:
        slow = f"{seen.round_trip_seconds * 1000:,.0f} ms"
        yield _note(
            f"a round trip takes {slow}: many commands are kept in flight, so jobs hardly notice; single commands do"
        )


def _server(seen: Examination) -> Iterator[Finding]:
    offered = set(seen.capabilities)
    if not offered & {"IMAP4REV1", "IMAP4REV2"}:
        yield _problem("the server does not say that it speaks IMAP4rev1: whatever works may be luck")
    is_rev2 = "IMAP4REV2" in offered
    if "UIDPLUS" not in offered and not is_rev2:
        yield _advice("without UIDPLUS, delete only marks messages; empty the mailbox with another program afterwards")
    if "IDLE" not in offered and not is_rev2:
        yield _note("without IDLE, follow looks from time to time instead of hearing of new mail at once")
    if not offered & {"CONDSTORE", "QRESYNC"}:
        yield _note("without CONDSTORE, a mirror compares the flags of all messages each time")
    limit = next((name for name in seen.capabilities if name.startswith("MESSAGELIMIT=")), "")
    if limit:
        yield _note(
            f"the server works on {limit.partition('=')[2]} messages a command; imapipe asks again for the rest"
        )
    if seen.max_connections < 5:
        yield _note(
            f"the server allows few connections ({seen.max_connections}): close other mail programs for large jobs"
        )


def _mailboxes(seen: Examination) -> Iterator[Finding]:
    for quota in seen.quotas:
        if quota.limit and quota.usage >= quota.limit * _FULL:
            share = f"{quota.usage / quota.limit:.0%}"
            yield _problem(f"the account is {share} full ({quota.resource}): soon it takes no more mail, nor copies")
    without = sum(each.messages is None for each in seen.mailboxes)
    if without:
        yield _advice(f"mailboxes that do not tell what they hold: {without:,}; the server may refuse to open them")
    if len(seen.mailboxes) > _MANY_MAILBOXES and "LIST-STATUS" not in seen.capabilities:
        yield _note(
            f"{len(seen.mailboxes):,} mailboxes and no LIST-STATUS: looking for what is new costs a STATUS for each"
        )
    if seen.provider == "Gmail" and seen.mailboxes and not any(each.special_use == "\\All" for each in seen.mailboxes):
        yield _advice(
            "Gmail hides All Mail: turn on “Show in IMAP” for it, or messages with many labels come many times"
        )
    if seen.provider == "Yahoo" and "UIDONLY" not in seen.capabilities:
        for each in seen.mailboxes:
            if each.messages == _YAHOO_SHOWS:
                yield _problem(f"{each.name} shows {_YAHOO_SHOWS:,} messages, and may hold more that nobody can see")
    if seen.export_days is not None and seen.export_days > 1 and seen.bytes_per_day:
        allowed = bytes_text(seen.bytes_per_day)
        yield _advice(
            f"a full export is more than the {allowed} a day that {seen.provider} allows: use --daily-bytes and "
            "--checkpoint, and let it go on day by day"
        )


def _messages(seen: Examination) -> Iterator[Finding]:
    sample = seen.sample
    if sample is not None:
        if sample.newest is not None and sample.newest - seen.examined_at > _CLOCK:
            ahead = sample.newest - seen.examined_at
            yield _problem(
                f"the newest message was received {_shown(ahead)} in the future: the clock of the server or of this "
                "machine is wrong, and so are searches by date"
            )
        if sample.failed:
            yield _problem(
                f"{sample.failed:,} messages of the sample could not be fetched: `imapipe scan` tells which and why"
            )
        if sample.wrong_sizes:
            yield _note(
                f"{sample.wrong_sizes:,} of {sample.messages:,} messages are not as long as the server says: "
                "sizes are a guess here"
            )
    for what, count in seen.notes.items():
        yield _note(f"passed over, {count:,} times: {what}")


def _shown(span: timedelta) -> str:
    hours = span.total_seconds() / 3600
    return f"{hours:,.1f} hours" if hours >= 1.5 else f"{hours * 60:,.0f} minutes"
