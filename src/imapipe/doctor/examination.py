"""What an examination found: values, and the words for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, Final, Literal

from imapipe.account.plan import Estimate
from imapipe.models.document import Document

MAILBOXES_SHOWN: Final = 10
_UNITS: Final = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


@dataclass(frozen=True, slots=True)
class Finding(Document):
    """Something that somebody should know.

    Attributes:
        level: `problem`: something is wrong, or will go wrong; `advice`: it can be had better; `note`: so it is.
        text: One sentence.
    """

    level: Literal["problem", "advice", "note"]
    text: str


@dataclass(frozen=True, slots=True)
class Extension(Document):
    """An extension of IMAP, and what it is used for.

    Attributes:
        name: The name of its capability.
        is_offered: Whether the server has it.
        used_for: What imapipe uses it for.
        otherwise: What it does without.
    """

    name: str
    is_offered: bool
    used_for: str
    otherwise: str


@dataclass(frozen=True, slots=True)
class Tls(Document):
    """The encryption of the connection.

    Attributes:
        version: Such as `TLSv1.3`.
        cipher: The name of the cipher.
        expires_at: When the server's certificate ends; None where it was not verified, and so cannot be read.
    """

    version: str
    cipher: str
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class QuotaLimit(Document):
    """A limit of what the account may hold (RFC 9208).

    Attributes:
        root: The name of the quota.
        resource: `STORAGE` (in units of 1,024 bytes), `MESSAGE` or another one.
        usage: How much of it is used.
        limit: How much may be.
    """

    root: str
    resource: str
    usage: int
    limit: int


@dataclass(frozen=True, slots=True)
class MailboxSize(Document):
    """How much a mailbox holds.

    Attributes:
        name: Its name.
        messages: How many messages; None where the server does not say.
        size: Their bytes; None where the server does not say.
        special_use: Its role, such as `\\Sent`, or None.
    """

    name: str
    messages: int | None
    size: int | None
    special_use: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample(Document):
    """Some messages that were fetched to see how that goes; the newest of the largest mailbox, none above 200 kB.

    Attributes:
        mailbox: Where they are.
        messages: How many came.
        bytes_received: How many bytes they have.
        bytes_per_second: How fast they came on one connection; None where they were too few to tell.
        compressed_to: The share of their bytes that DEFLATE leaves, such as 0.4; None without any.
        wrong_sizes: How many were not as long as the server had said (RFC822.SIZE).
        failed: How many the server could not deliver.
        newest: When the newest one was received, by the server's clock.
    """

    mailbox: str
    messages: int
    bytes_received: int
    bytes_per_second: float | None
    compressed_to: float | None
    wrong_sizes: int
    failed: int
    newest: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination(Document):
    """What was found out about an account and its server.

    Attributes:
        account: `user@host:port`.
        provider: What people call the provider, or "".
        examined_at: When.
        server: What the server says it is (ID): names and values.
        capabilities: What it offers.
        tls: The encryption, or None without.
        is_local: The server is this machine.
        namespaces: Where personal, others' and shared mailboxes begin.
        quotas: The limits of what the account may hold.
        round_trip_seconds: The shortest time between a command and its answer.
        sample: Messages that were fetched for a try, or None.
        compress: Whether COMPRESS pays, in a sentence.
        connections: How many connections are used unless told otherwise.
        max_connections: How many the provider allows, or what is thought of an unknown one.
        bytes_per_day: How much the provider lets through in a day; None where it does not say.
        mailboxes: How much they hold, the largest first.
        export_messages: How many messages a full export has.
        export_bytes: And how many bytes; None where nobody knows.
        is_estimated: The bytes are those of the sample, for as many messages.
        extensions: What of the server is used, and for what.
        notes: What of its answers had to be passed over, and how often.
        findings: What somebody should know, the worst first.
        failures: What could not be found out, and why.
    """

    derived: ClassVar[Sequence[str]] = ("complete", "export_hours", "export_days")

    account: str
    provider: str
    examined_at: datetime
    server: Mapping[str, str] = field(default_factory=dict)
    capabilities: tuple[str, ...] = ()
    tls: Tls | None = None
    is_local: bool = False
    namespaces: Mapping[str, Sequence[str]] = field(default_factory=dict)
    quotas: tuple[QuotaLimit, ...] = ()
    round_trip_seconds: float | None = None
    sample: Sample | None = None
    compress: str = ""
    connections: int = 1
    max_connections: int = 1
    bytes_per_day: int | None = None
    mailboxes: tuple[MailboxSize, ...] = ()
    export_messages: int | None = None
    export_bytes: int | None = None
    is_estimated: bool = False
    extensions: tuple[Extension, ...] = ()
    notes: Mapping[str, int] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    failures: Mapping[str, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether everything could be found out."""
        return not self.failures

    @property
    def export_hours(self) -> float | None:
        """How long a full export takes on one connection, at the speed of the sample."""
        speed = self.sample.bytes_per_second if self.sample is not None else None
        return Estimate(speed, None).hours(self.export_bytes) if self.export_bytes is not None else None

    @property
    def export_days(self) -> float | None:
        """How many days it takes under the provider's quota."""
        return Estimate(None, self.bytes_per_day).days(self.export_bytes) if self.export_bytes is not None else None

    def table(self) -> str:
        """All of it as plain text, for people."""
        rows = list(self._rows())
        width = max(len(name) for name, _ in rows)
        lines = [f"{name:<{width}}  {text}".rstrip() for name, text in rows]
        if self.mailboxes:
            lines += ["", "Mailboxes", *self._mailbox_lines()]
        if self.extensions:
            lines += ["", "What is used of the server", *self._extension_lines()]
        lines += ["", "What to know", *(f"  {each.level}: {each.text}" for each in self.findings)]
        if not self.findings:
            lines.append("  nothing looks wrong")
        if self.failures:
            lines += ["", "What could not be found out"]
            lines += [f"  {name}: {reason}" for name, reason in self.failures.items()]
        return "\n".join(lines)

    def _rows(self) -> Iterator[tuple[str, str]]:
        yield "account", f"{self.account} ({self.provider})" if self.provider else self.account
        named = " ".join(filter(None, (self.server.get("name"), self.server.get("version"))))
        yield "server", named or "it does not say what it is"
        if self.tls is None:
            yield "encryption", "none" + (" (this machine)" if self.is_local else "")
        else:
            ends = f", certificate until {self.tls.expires_at:%Y-%m-%d}" if self.tls.expires_at else ""
            yield "encryption", f"{self.tls.version} {self.tls.cipher}{ends}"
        if self.round_trip_seconds is not None:
            yield "round trip", f"{self.round_trip_seconds * 1000:,.1f} ms"
        if self.sample is not None:
            speed = self.sample.bytes_per_second
            shown = f"{bytes_text(round(speed))} a second" if speed is not None else "too little to tell a speed"
            yield "sample", f"{self.sample.messages:,} messages, {bytes_text(self.sample.bytes_received)}: {shown}"
        if self.compress:
            yield "compression", self.compress
        yield "connections", f"{self.connections} are used, of {self.max_connections} that there may be"
        for each in self.quotas:
            yield "quota", f"{each.root}: {_quota_text(each)}"
        yield "full export", self._export_text()

    def _export_text(self) -> str:
        if self.export_messages is None or self.export_bytes is None:
            return "nobody knows how much there is"
        about = "about " if self.is_estimated else ""
        parts = [f"{self.export_messages:,} messages, {about}{bytes_text(self.export_bytes)}"]
        if self.export_hours is not None:
            parts.append(f"{duration_text(self.export_hours)} on one connection")
        if self.export_days is not None and self.bytes_per_day:
            parts.append(f"{self.export_days:,.1f} days at the {bytes_text(self.bytes_per_day)} a day that are allowed")
        return "; ".join(parts)

    def _mailbox_lines(self) -> Iterator[str]:
        shown = self.mailboxes[:MAILBOXES_SHOWN]
        width = max(len(each.name) for each in shown)
        for each in shown:
            size = bytes_text(each.size) if each.size is not None else ""
            messages = f"{each.messages:,}" if each.messages is not None else "?"
            yield f"  {each.name:<{width}}  {messages:>12}  {size:>10}  {(each.special_use or '')[1:]}".rstrip()
        left = self.mailboxes[MAILBOXES_SHOWN:]
        if left:
            yield f"  and {len(left):,} more, with {sum(each.messages or 0 for each in left):,} messages"

    def _extension_lines(self) -> Iterator[str]:
        width = max(len(each.name) for each in self.extensions)
        for each in self.extensions:
            if each.is_offered:
                yield f"  yes  {each.name:<{width}}  {each.used_for}"
            elif each.otherwise:
                yield f"  no   {each.name:<{width}}  {each.otherwise}"


def bytes_text(count: int) -> str:
    """A number of bytes for people, such as 3.9 MB."""
    return next((f"{count / size:,.1f} {unit}" for unit, size in _UNITS if count >= size), f"{count:,} bytes")


def duration_text(hours: float) -> str:
    """A time for people, such as 3.5 hours."""
    for unit, factor in (("days", 1 / 24), ("hours", 1.0), ("minutes", 60.0)):
        if hours * factor >= 1.5:
            return f"{hours * factor:,.1f} {unit}"
    return f"{hours * 3600:,.0f} seconds" if hours * 3600 >= 1.5 else "a second"


def _quota_text(each: QuotaLimit) -> str:
    if each.resource == "STORAGE":
        return f"{bytes_text(each.usage * 1024)} of {bytes_text(each.limit * 1024)}"
    return f"{each.usage:,} of {each.limit:,} ({each.resource.lower()})"
