"""The works that everybody does: imapipe between the ceiling and its peers."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.mailboxes import Mailbox
from benchmarks.row import CEILING, IMAPIPE, Entry, Link, Row

IMAPCLIENT = Entry("IMAPClient", "imapclient_peer")
IMAP_TOOLS = Entry("imap_tools", "imap_tools_peer")
IMAPLIB = Entry("imaplib", "imaplib_peer")
IMAPFLOW = Entry("imapflow", "imapflow", batch=0)
IMAPFLOW_PARSED = Entry("imapflow + mailparser", "imapflow", batch=0)
AIOIMAPLIB = Entry("aioimaplib", "aioimaplib_peer")
# Its parser's cost grows with the square of the batch; this is its best.
AIOIMAPLIB_BEST = Entry("aioimaplib, by 50", "aioimaplib_peer", batch=50)
IMAPLIB_BY_ONE = Entry("imaplib, by 1", "imaplib_peer", batch=1)
SAGE = Entry("Python Sage IMAP", "sage_peer")
FAST_MAIL_PARSER = Entry("imaplib + fast-mail-parser", "fast_mail_parser_peer")
MBSYNC = Entry("mbsync", "mbsync_peer", batch=0)

_READERS = (IMAPCLIENT, IMAP_TOOLS, IMAPLIB, AIOIMAPLIB, AIOIMAPLIB_BEST, IMAPFLOW)
_QUICK = (IMAPCLIENT.label, IMAPLIB.label)


def works(*, quick: bool) -> list[Row]:
    """The rows of the works; `quick` ones are smaller, with fewer peers."""
    short = Mailbox("short", 5_000 if quick else 20_000)
    mixed = Mailbox("mixed", 4_000)  # fewer are read within the time that a start takes
    large = Mailbox("large", 20 if quick else 40)
    tiny = Mailbox("tiny", 40_000 if quick else 200_000)
    peers = {
        "metadata": _READERS,
        "fields": (IMAPCLIENT, IMAP_TOOLS, IMAPFLOW),
        "headers": (*_READERS, SAGE),
        "bodies": (*_READERS, SAGE, MBSYNC),
        "large": (*_by(10, (IMAPCLIENT, IMAP_TOOLS, IMAPLIB, AIOIMAPLIB, IMAPFLOW, MBSYNC)), IMAPLIB_BY_ONE),
        "flags": (IMAPCLIENT, IMAPLIB, AIOIMAPLIB, IMAPFLOW),
        "text": (IMAP_TOOLS, FAST_MAIL_PARSER, IMAPFLOW_PARSED),
        "search": (IMAPCLIENT, IMAP_TOOLS, IMAPLIB, AIOIMAPLIB, IMAPFLOW, SAGE),
    }
    if quick:
        peers = {work: tuple(peer for peer in each if peer.label in _QUICK) for work, each in peers.items()}
    return [
        _work("metadata", "ENVELOPE; the handler reads uid, flags, size", short, peers),
        _work("fields", "ENVELOPE; the handler reads every field", short, peers),
        _work("headers", "headers", short, peers),
        _work("bodies", "full bodies of 2 to 50 KB", mixed, peers),
        _work("large", "large bodies of 1.9 MB", large, peers),
        _work("flags", "flags only, tiny messages", tiny, peers),
        _work("search", "UID SEARCH UNSEEN", tiny, peers, searches=10),
        _work("bodies", "full bodies of 2.5 KB", short, {"bodies": ()}, name="bodies-small"),
        *_text(short, mixed, peers),
        Row(
            name="maildir",
            title=f"a durable Maildir of full bodies, {mixed.count:,} messages",
            work="bodies",
            mailbox=mixed,
            entries=(
                CEILING,
                Entry("imapipe", "sink_subject", options={"sink": "maildir"}),
                Entry("Sqlite", "sink_subject", options={"sink": "sqlite"}),
                Entry("mbsync, durable", MBSYNC.subject, batch=0, options={"fsync": "yes"}),
            ),
        ),
        Row(
            name="copy",
            title=f"a copy of {mixed.count:,} messages into another account",
            work="copy",
            mailbox=mixed,
            entries=(
                Entry("imapipe", "copy_subject"),
                Entry("IMAPClient", "imapclient_copy_peer"),
                *(
                    ()
                    if quick
                    else (
                        Entry("imap_tools", "imap_tools_copy_peer"),
                        Entry("mbsync", "mbsync_copy_peer", batch=0),
                        Entry("imapsync", "imapsync_peer", batch=0),
                    )
                ),
            ),
        ),
        Row(
            name="listeners",
            title=f"a job of a service, {tiny.count:,} messages, 50 clients on its events, half slow or gone",
            work="flags",
            mailbox=tiny,
            paired=True,
            entries=(
                Entry("nobody listens", "service_subject"),
                Entry("FastAPI, 50 listen", "service_subject", options={"listeners": "yes"}),
                Entry("aiohttp, 50 listen", "service_subject", options={"listeners": "yes", "face": "aiohttp"}),
            ),
        ),
        *_changes(Mailbox("tiny", 5_000 if quick else 50_000)),
        _append(Mailbox("tiny", 500 if quick else 10_000)),
        _on_done(Mailbox("short", 2_000 if quick else 10_000)),
        Row(
            name="tables",
            title=f"every field into files, {short.count:,} messages",
            work="fields",
            mailbox=short,
            entries=(
                IMAPIPE,
                Entry("JSON Lines", "sink_subject", options={"sink": "jsonl"}),
                Entry("Parquet", "sink_subject", options={"sink": "parquet"}),
            ),
        ),
        Row(
            name="text-link",
            title=f"text of messages with attachments, {mixed.count:,} messages, 20 ms and 100 Mbit/s",
            work="text",
            mailbox=mixed,
            entries=(
                Entry("full", IMAPIPE.subject),
                Entry("text", IMAPIPE.subject, options={"fetch": "text"}),
                Entry("plain text", IMAPIPE.subject, options={"fetch": "text", "prefer_plain": "yes"}),
            ),
            link=Link(20, 12_500_000),
        ),
    ]


def _changes(mailbox: Mailbox) -> list[Row]:
    """Changes with a journal that is on the disk before each command, beside those who keep none."""
    entries = (
        Entry("imapipe", "change_subject"),
        Entry("imapipe, no journal", "change_subject", options={"journal": "off"}),
        Entry("IMAPClient", "imapclient_change_peer"),
        Entry("imap_tools", "imap_tools_change_peer"),
    )
    return [
        Row(name=work, title=f"{title}, {mailbox.count:,} messages", work=work, mailbox=mailbox, entries=entries)
        for work, title in (("set-flags", "a flag for all messages"), ("moves", "all messages into another mailbox"))
    ]


def _append(mailbox: Mailbox) -> Row:
    """Nothing is lost by a crash after any of them; who has MULTIAPPEND puts many messages into a command."""
    return Row(
        name="append",
        title=f"{mailbox.count:,} messages of 2.5 KB into a mailbox",
        work="append",
        mailbox=mailbox,
        entries=(
            Entry("imapipe", "change_subject"),
            Entry("IMAPClient", "imapclient_change_peer"),
            Entry("imap_tools", "imap_tools_change_peer"),
            Entry("imaplib", "imaplib_change_peer"),
        ),
    )


def _on_done(mailbox: Mailbox) -> Row:
    """With a Checkpoint a message is owed its move before it is moved; the others keep nothing of what they did."""
    return Row(
        name="on-done",
        title=f"headers into a handler, and each message moved when it is through, {mailbox.count:,} messages",
        work="on-done",
        mailbox=mailbox,
        entries=(
            Entry("imapipe", "change_subject"),
            Entry("imapipe, Checkpoint", "change_subject", options={"layers": "Checkpoint"}),
            Entry("IMAPClient", "imapclient_change_peer"),
            Entry("imap_tools", "imap_tools_change_peer"),
            Entry("imaplib", "imaplib_change_peer"),
        ),
    )


def _text(short: Mailbox, mixed: Mailbox, peers: Mapping[str, tuple[Entry, ...]]) -> list[Row]:
    """The text of whole messages, small ones and ones with attachments, in the clear and through TLS."""
    return [
        _work("text", f"text of {what}{through}", mailbox, peers, name=name, tls=tls)
        for tls, through in ((False, ""), (True, ", through TLS"))
        for name, what, mailbox in (
            (f"text-small{'-tls' if tls else ''}", "small messages", short),
            (f"text-mixed{'-tls' if tls else ''}", "messages with attachments", mixed),
        )
    ]


def _work(
    work: str,
    title: str,
    mailbox: Mailbox,
    peers: Mapping[str, tuple[Entry, ...]],
    searches: int = 1,
    *,
    name: str = "",
    tls: bool = False,
) -> Row:
    return Row(
        name=name or work,
        title=f"{title}, {mailbox.count:,} messages",
        work=work,
        mailbox=mailbox,
        entries=(CEILING, IMAPIPE, *peers[work]),
        paired=True,
        searches=searches,
        tls=tls,
    )


def _by(batch: int, entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """The same entries with smaller batches: what is best where a batch is held in memory."""
    return tuple(Entry(entry.label, entry.subject, batch if entry.batch else 0) for entry in entries)
