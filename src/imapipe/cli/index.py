"""`imapipe index`: bring a local index up to date with a mailbox."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import imapipe
from imapipe import search as q
from imapipe.cli.errors import Mistake, Status
from imapipe.cli.options import AccountOptions
from imapipe.cli.output import write_document, write_note, write_result
from imapipe.cli.progress import choose_display

_SHOWN_FAILURES: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexOptions:
    """What to index, and where; the options of the same names say more."""

    mailbox: str
    to: Path
    search: str = "ALL"
    retries: int = 4
    outage_seconds: float = 0.0
    rate: float | None = None
    quiet: bool = False
    json: bool = False

    def layers(self) -> list[imapipe.Middleware]:
        """The middleware that was asked for, outermost first."""
        layers: list[imapipe.Middleware] = []
        if self.retries:
            layers.append(imapipe.Retry(attempts=self.retries + 1, outage_seconds=self.outage_seconds))
        if self.rate is not None:
            layers.append(imapipe.RateLimit(messages_per_second=self.rate))
        return layers


async def index(account: AccountOptions, options: IndexOptions) -> Status:
    """Update the index and say what was done.

    Raises:
        Mistake, InvalidURL, InvalidSearch: Before anything is sent.
        MessageIndexError: The file cannot be used.
        ImapipeError: The run as a whole could not be done.
    """
    try:
        criteria = q.parse(options.search)
        layers = options.layers()
        pool = account.open_pool()
        mailbox = pool.mailbox(options.mailbox)
    except ValueError as error:
        raise Mistake(str(error)) from error
    display = choose_display(options.mailbox, quiet=options.quiet)
    async with imapipe.MessageIndex(options.to) as local, pool:
        with display:
            report = await local.update(
                mailbox,
                search=criteria,
                use=(imapipe.Progress(display.show), *layers),
                connections=account.connections,
            )
    if options.json:
        write_document(_document(report, options.to))
    else:
        write_result(_text(report, options.to))
    if report.complete:
        return Status.COMPLETE
    if report.failed:
        write_note(f"{report.failed:,} of {report.found:,} messages failed; the same command tries them again")
    else:
        write_note(
            f"the server showed {report.unaccounted:,} messages fewer than it says the mailbox holds; "
            "index parts of it, by date for instance"
        )
    return Status.PARTIAL


def _document(report: imapipe.IndexReport, path: Path) -> dict[str, object]:
    shown = sorted(report.failures.values(), key=lambda failure: failure.uid)[:_SHOWN_FAILURES]
    return {
        "index": str(path),
        "account": report.account,
        "mailbox": report.mailbox,
        "uidvalidity": report.uidvalidity,
        "found": report.found,
        "known": report.known,
        "added": report.added,
        "removed": report.removed,
        "failed": report.failed,
        "unaccounted": report.unaccounted,
        "total": report.total,
        "reindexed": report.reindexed,
        "complete": report.complete,
        "failures": [{"uid": f.uid, "reason": f.reason, "detail": f.detail} for f in shown],
        "bytes_received": report.bytes_received,
        "elapsed_seconds": round(report.elapsed_seconds, 3),
    }


def _text(report: imapipe.IndexReport, path: Path) -> str:
    rows = [
        ("index", str(path)),
        ("mailbox", report.mailbox),
        ("found", f"{report.found:,}"),
        ("known before", f"{report.known:,}"),
        ("added", f"{report.added:,}"),
        ("removed", f"{report.removed:,}"),
        ("failed", f"{report.failed:,}"),
        (
            "in the index",
            f"{report.total:,}" + (" (renumbered by the server, so begun anew)" if report.reindexed else ""),
        ),
        ("seconds", f"{report.elapsed_seconds:.2f}"),
    ]
    return "\n".join(f"{name:<14}{value}" for name, value in rows)
