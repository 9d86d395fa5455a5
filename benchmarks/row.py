"""What is measured: a row is one work on one mailbox, done by several entries that are compared with each other."""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmarks.mailboxes import Mailbox


@dataclass(frozen=True, slots=True)
class Link:
    """A network between client and server, made by the proxy.

    Attributes:
        round_trip_ms: Milliseconds there and back.
        bytes_per_second: The most bytes from the server on each connection; 0 is no limit.
    """

    round_trip_ms: float = 0.0
    bytes_per_second: int = 0

    @property
    def label(self) -> str:
        if not self.bytes_per_second:
            return f"{self.round_trip_ms:g} ms"
        return f"{self.round_trip_ms:g} ms, {self.bytes_per_second / 1e6:g} MB/s"


@dataclass(frozen=True, slots=True)
class Entry:
    """One competitor in a row.

    Attributes:
        label: Its name in the row.
        subject: A module of `benchmarks.subjects`, or "imapflow".
        batch: Messages asked for at once; 0 is all.
        connections: Connections used at the same time.
        options: See the subject.
    """

    label: str
    subject: str
    batch: int = 500
    connections: int = 1
    options: dict[str, str] = field(default_factory=dict)


CEILING = Entry("ceiling", "drain", batch=0)
IMAPIPE = Entry("imapipe", "imapipe_subject")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One comparison.

    Attributes:
        name: Its name on the command line and in the results; rows of a sweep are called "sweep-x".
        title: What is compared, in a few words.
        work: A key of `job.ITEMS`, "search", one of `job.CHANGES`, or "" for subjects that read no mail.
        mailbox: Where; None for subjects that read no mail.
        entries: The competitors, the reference first: the others are compared with it.
        link: The network; None is loopback itself.
        paired: Each entry has a run of the reference beside it; otherwise the reference runs once in each round.
        searches: How often the search is repeated in one run.
        tls: Whether the connections are encrypted.
        x: Where the row stands in its sweep.
        rounds: The most rounds that are of use; 0 is as many as asked for.
    """

    name: str
    title: str
    work: str
    mailbox: Mailbox | None
    entries: tuple[Entry, ...]
    link: Link | None = None
    paired: bool = False
    searches: int = 1
    tls: bool = False
    x: float | None = None
    rounds: int = 0

    @property
    def reference(self) -> Entry:
        return self.entries[0]
