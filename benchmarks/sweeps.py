"""Sweeps: one thing is changed step by step, the rest stays."""

from __future__ import annotations

from typing import Final

from benchmarks.flood import FLOODS
from benchmarks.mailboxes import Mailbox
from benchmarks.row import CEILING, IMAPIPE, Entry, Link, Row
from benchmarks.works import AIOIMAPLIB, IMAP_TOOLS, IMAPCLIENT, IMAPFLOW, IMAPLIB

TEN_MEGABIT: Final = 1_250_000
"""Bytes per second."""

RATES: Final = (("messages", 1_500), ("commands", 15), ("bytes", 500_000))
FIRST_JOB: Final = "all that a first job needs"
"""Names of `imapipe` are imported when they are first used, so `import imapipe` alone says little."""

DEPENDENCIES: Final = "aioimaplib, anyio, aiolimiter, orjson"


def sweeps(*, quick: bool) -> list[Row]:
    """The rows of all sweeps; `quick` ones are those that a goal needs, and smaller."""
    rows = [*_round_trips(quick=quick), _connections(quick=quick), *_sizes(quick=quick), _imports()]
    if not quick:
        rows += [
            _connections_unlimited(),
            _depths(),
            _batches(),
            _compress(),
            _compress_fast(),
            *_loops(),
            _layers(),
            *_stores(quick=quick),
        ]
    return [*rows, _processes(quick=quick), *_rates(quick=quick), _hostile(), _follow(quick=quick)]


def _ours(label: str, *, batch: int = 500, connections: int = 1, **options: str) -> Entry:
    return Entry(label, IMAPIPE.subject, batch, connections, options)


def _round_trips(*, quick: bool) -> list[Row]:
    mailbox = Mailbox("short", 5_000 if quick else 20_000)
    by_100 = Entry("IMAPClient, by 100", IMAPCLIENT.subject, 100)
    peers = (IMAPCLIENT,) if quick else (IMAPCLIENT, by_100, IMAPLIB, IMAP_TOOLS, AIOIMAPLIB, IMAPFLOW)
    return [
        Row(
            name=f"rtt-{round_trip}",
            title=f"headers, {mailbox.count:,} messages, round trip of {round_trip} ms",
            work="headers",
            mailbox=mailbox,
            entries=(CEILING, IMAPIPE, *peers),
            link=Link(round_trip),
            paired=True,
            x=round_trip,
        )
        for round_trip in ((100,) if quick else (0, 20, 100))
    ]


def _connections(*, quick: bool) -> Row:
    mailbox = Mailbox("mixed", 240 if quick else 800)
    counts = (1, 4) if quick else (1, 2, 3, 4, 6, 8)
    # Small batches: at the end of a run every connection but one waits for the last batch.
    entries = (_ours(_connections_label(count), batch=5, connections=count, batches="fixed") for count in counts)
    return Row(
        name="connections",
        title=f"full bodies in batches of 5, {mailbox.count:,} messages, 2 MB/s on each connection",
        work="bodies",
        mailbox=mailbox,
        entries=tuple(entries),
        link=Link(0, 2_000_000),
    )


def _connections_unlimited() -> Row:
    mailbox = Mailbox("mixed", 4_000)
    entries = (_ours(_connections_label(count), connections=count) for count in (1, 2, 4, 8))
    return Row(
        name="connections-unlimited",
        title=f"full bodies, {mailbox.count:,} messages, no limit but two processors",
        work="bodies",
        mailbox=mailbox,
        entries=(CEILING, *entries),
    )


def _connections_label(count: int) -> str:
    return f"{count} connection{'s' * (count > 1)}"


def _sizes(*, quick: bool) -> list[Row]:
    return [
        Row(
            name=f"size-{count}",
            title=f"flags only, {count:,} tiny messages",
            work="flags",
            mailbox=Mailbox("tiny", count),
            entries=(CEILING, IMAPIPE),
            paired=True,
            x=count,
        )
        for count in ((10_000, 200_000) if quick else (1_000, 10_000, 100_000, 1_000_000))
    ]


def _imports() -> Row:
    return Row(
        name="import",
        title="starting an interpreter, with and without imports",
        work="",
        mailbox=None,
        entries=tuple(
            Entry(label, "import_subject", options={"modules": modules})
            for label, modules in (
                ("python", ""),
                ("import imapipe", "imapipe"),
                (FIRST_JOB, "imapipe.client, psutil"),
                ("its dependencies", DEPENDENCIES),
            )
        ),
    )


def _depths() -> Row:
    mailbox = Mailbox("short", 20_000)
    fixed = (_ours(f"depth {depth}", batch=250, batches="fixed", depth=str(depth)) for depth in (1, 2, 4, 8, 16, 32))
    return Row(
        name="depth",
        title="headers in batches of 250, 20,000 messages, round trip of 20 ms",
        work="headers",
        mailbox=mailbox,
        entries=(CEILING, IMAPIPE, *fixed),
        link=Link(20),
    )


def _batches() -> Row:
    sizes = (20, 50, 100, 200, 500, 1000, 2000, 5000)
    fixed = (_ours(f"by {size:,}", batch=size, batches="fixed") for size in sizes)
    return Row(
        name="batch",
        title="ENVELOPE, 20,000 messages, batches of one size",
        work="metadata",
        mailbox=Mailbox("short", 20_000),
        entries=(CEILING, IMAPIPE, *fixed),
    )


def _compress() -> Row:
    entries = (_ours(f"COMPRESS {setting}", compress=setting) for setting in ("off", "on"))
    return Row(
        name="compress",
        title="headers, 5,000 messages, 10 Mbit/s, round trip of 20 ms",
        work="headers",
        mailbox=Mailbox("short", 5_000),
        entries=(CEILING, *entries),
        link=Link(20, TEN_MEGABIT),
    )


def _compress_fast() -> Row:
    entries = (_ours(f"COMPRESS {setting}", compress=setting) for setting in ("off", "on"))
    return Row(
        name="compress-fast",
        title="headers, 20,000 messages, loopback",
        work="headers",
        mailbox=Mailbox("short", 20_000),
        entries=(CEILING, *entries),
    )


def _loops() -> list[Row]:
    works = (("metadata", Mailbox("short", 20_000)), ("bodies", Mailbox("mixed", 4_000)))
    return [
        Row(
            name=f"loop-{work}",
            title=f"{work}, {mailbox.count:,} messages, two event loops",
            work=work,
            mailbox=mailbox,
            entries=(_ours("asyncio"), _ours("uvloop", loop="uvloop")),
        )
        for work, mailbox in works
    ]


def _layers() -> Row:
    five = ("Progress", "Metrics", "Checkpoint", "Retry", "RateLimit")
    # Limits that hold nobody up; OpenTelemetry has its API alone, so that what it costs is the layer.
    alone = (_ours(name, layers=name) for name in (*five, "AdaptiveRateLimit", "ByteBudget", "OpenTelemetry"))
    return Row(
        name="middleware",
        title="ENVELOPE, 20,000 messages, with middleware",
        work="metadata",
        mailbox=Mailbox("short", 20_000),
        entries=(_ours("none"), *alone, _ours("all five", layers=",".join(five))),
    )


def _stores(*, quick: bool) -> list[Row]:
    options = {
        "JSON": {"layers": "Checkpoint"},
        "SQLite": {"layers": "SqlCheckpoint"},
        "PostgreSQL": {"layers": "SqlCheckpoint", "database": "new"},
    }
    # The works with the least to do for a message, and with what a job most often has.
    # The last one is as long as jobs are: the others are over before opening and closing count for little.
    bodies = Mailbox("mixed", 800 if quick else 4_000)
    works = (
        ("metadata", "metadata", Mailbox("short", 20_000), None),
        ("bodies", "bodies", bodies, None),
        ("remote", "bodies", bodies, Link(20, 25_000_000)),
    )
    return [
        Row(
            name=f"stores-{name}",
            title=f"{work}, {mailbox.count:,} messages{f', {link.label}' if link else ''}, checkpoints in a file and in"
            " databases",
            work=work,
            mailbox=mailbox,
            link=link,
            entries=tuple(Entry(label, "store_subject", options=each) for label, each in options.items()),
        )
        for name, work, mailbox, link in works
    ]


def _processes(*, quick: bool) -> Row:
    return Row(
        name="processes",
        title="a handler that computes, in worker processes",
        work="bodies",
        mailbox=Mailbox("mixed", 300 if quick else 600),
        entries=tuple(
            Entry(f"{count} worker{'s' * (count > 1)}", "processes_subject", options={"workers": str(count)})
            for count in (1, 2)
        ),
    )


def _follow(*, quick: bool) -> Row:
    ways = {"NOTIFY": "notify", "IDLE": "idle", "IDLE and FETCH in turn (aioimaplib)": "loop"}
    return Row(
        name="follow",
        title="a message arrives: until its handler has it, round trip of 20 ms",
        work="",
        mailbox=None,
        entries=tuple(
            Entry(
                label,
                "follow_subject",
                options={"way": way, "messages": "30" if quick else "200", "round_trip_ms": "20"},
            )
            for label, way in ways.items()
        ),
        rounds=1,
    )


def _hostile() -> Row:
    return Row(
        name="hostile",
        title="servers that flood, until the connection ends",
        work="",
        mailbox=None,
        entries=tuple(Entry(flood, "hostile_subject", options={"flood": flood}) for flood in FLOODS),
        rounds=1,
    )


def _rates(*, quick: bool) -> list[Row]:
    seconds = "4" if quick else "10"
    return [
        Row(
            name=f"rate-{kind}",
            title=f"RateLimit of {rate:,} {kind} per second over {seconds} s",
            work="",
            mailbox=Mailbox("short", 20_000),
            entries=tuple(
                Entry(
                    _connections_label(connections),
                    "rate_subject",
                    100,
                    connections,
                    {"kind": kind, "rate": str(rate), "seconds": seconds},
                )
                for connections in (1, 4)
            ),
            rounds=1,
        )
        for kind, rate in (RATES[:1] if quick else RATES)
    ]
