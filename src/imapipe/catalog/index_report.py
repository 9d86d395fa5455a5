"""What an update of the local index did, as a value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from imapipe.models.batch import Failure
from imapipe.models.document import Document
from imapipe.models.report import shown


@dataclass(frozen=True, slots=True)
class IndexReport(Document):
    """What an update did.

    Attributes:
        index: The file.
        account: `user@host:port`.
        mailbox: The name of the mailbox.
        uidvalidity: Its UIDVALIDITY.
        found: Messages that the search found.
        known: Those of them that were in the index before.
        added: Messages that were fetched and added.
        removed: Messages that were taken out, because they are gone from the mailbox.
        failed: Messages that could not be fetched or read; the next update tries them again.
        unaccounted: Messages that a search for all did not find although the mailbox holds them: the server caps
            its answers. Nothing is removed then.
        may_be_short: An answer to the search could not be read to its end: a message may be missing, nobody knows.
            Nothing is removed then.
        total: Messages of this mailbox that are in the index now.
        reindexed: UIDVALIDITY had changed, or UIDNEXT had fallen, so that all that was known of the mailbox was
            dropped first.
        failures: Why messages failed, by UID.
        bytes_received: Bytes of FETCH responses.
        elapsed_seconds: How long it took.
        flags_changed: Messages that were known, and have other flags now.
    """

    derived: ClassVar[Sequence[str]] = ("complete",)

    index: str
    account: str
    mailbox: str
    uidvalidity: int
    found: int
    known: int
    added: int
    removed: int
    failed: int
    unaccounted: int
    may_be_short: bool
    total: int
    reindexed: bool
    failures: Mapping[int, Failure] = field(default_factory=dict)
    bytes_received: int = 0
    elapsed_seconds: float = 0.0
    flags_changed: int = 0

    @property
    def complete(self) -> bool:
        """Whether everything that was to be found is in the index, or gone."""
        return not (self.failed or self.unaccounted or self.may_be_short)

    def table(self) -> str:
        """The report as plain text: a name and a value on each line."""
        rows = [
            ("index", shown(self.index)),
            ("mailbox", shown(self.mailbox)),
            ("found", f"{self.found:,}"),
            ("known before", f"{self.known:,}"),
            ("added", f"{self.added:,}"),
            ("removed", f"{self.removed:,}"),
            ("other flags", f"{self.flags_changed:,}"),
            ("failed", f"{self.failed:,}"),
            (
                "in the index",
                f"{self.total:,}" + (" (renumbered by the server, so begun anew)" if self.reindexed else ""),
            ),
            ("seconds", f"{self.elapsed_seconds:.2f}"),
        ]
        if self.unaccounted:
            rows.append(("unaccounted", f"{self.unaccounted:,} messages that the server did not show"))
        if self.may_be_short:
            rows.append(("may be short", "yes: the answer to the search could not be read to its end"))
        return "\n".join(f"{name:<14}{value}" for name, value in rows)
