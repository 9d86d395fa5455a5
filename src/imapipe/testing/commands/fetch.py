"""FETCH and UID FETCH: what was asked for; the answers are written by a job."""

from __future__ import annotations

from ..arguments import Arguments, BadCommand, Refused
from ..fetch_items import parse_items
from ..mailbox import Mailbox
from ..ranges import count_ranges, format_uids, read_partial, resolve_set, take_partial
from ..session import Done, Entry, Session
from .fetch_job import FetchJob


async def fetch(session: Session, arguments: Arguments) -> Done:
    """FETCH and UID FETCH (RFC 3501 6.4.5), CHANGEDSINCE and VANISHED (RFC 7162), PARTIAL (RFC 9394)."""
    name = session.record.name
    by_uid = name == "UID FETCH"
    asked = arguments.sequence_set()
    ranges = session.resolve(asked, by_uid)
    arguments.space()
    items = parse_items(arguments, session.server.extensions)
    since, vanished, partial = _read_modifiers(session, arguments, by_uid)
    arguments.end()
    ranges = take_partial(ranges, partial) if partial is not None else ranges
    await session.charge_messages(count_ranges(ranges))
    ranges, code = session.limit_messages(ranges)
    box = session.selected
    if since is not None:
        session.require_mod_sequences()
        session.enabled.add("CONDSTORE")
        if vanished:
            _write_vanished(session, box, since, asked)
    job = FetchJob(session, box, items, by_uid, since)
    await job.check_poison(ranges)
    descending = bool(code)
    for low, high in reversed(ranges) if descending else ranges:
        for index in range(high - 1, low - 1, -1) if descending else range(low, high):
            await job.send(index)
    if job.missing and session.server.expunged_fetch == "nil":
        return Done("Some messages were already expunged", "EXPUNGEISSUED")
    if job.missing and not by_uid:
        raise Refused("Some messages were already expunged", "EXPUNGEISSUED")
    return Done(f"{name} completed", code)


def _read_modifiers(
    session: Session, arguments: Arguments, by_uid: bool
) -> tuple[int | None, bool, tuple[int, int] | None]:
    since: int | None = None
    vanished = False
    partial: tuple[int, int] | None = None
    if arguments.take(b" ("):
        while not arguments.take(b")"):
            arguments.take(b" ")
            word = arguments.word()
            if word == "CHANGEDSINCE" and session.has("CONDSTORE"):
                arguments.space()
                since = arguments.number()
            elif word == "VANISHED" and by_uid and "QRESYNC" in session.enabled:
                vanished = True
            elif word == "PARTIAL" and by_uid and session.has("PARTIAL"):
                arguments.space()
                partial = read_partial(arguments)
            else:
                raise BadCommand(f"Unknown FETCH modifier {word}")
    if vanished and since is None:
        raise BadCommand("VANISHED needs CHANGEDSINCE")
    return since, vanished, partial


def _write_vanished(session: Session, box: Mailbox, since: int, asked: bytes) -> None:
    gone = box.vanished_since(since)
    if asked != b"$":
        # Of the UIDs that were asked for; ``*`` is taken for the highest that ever was.
        asked = asked.replace(b"*", b"%d" % max(box.uidnext - 1, 1))
        gone = [gone[index] for low, high in resolve_set(asked, gone, True) for index in range(low, high)]
    if gone:
        session.untagged(b"VANISHED (EARLIER) " + format_uids(gone))


COMMANDS: dict[str, Entry] = {
    "FETCH": Entry(fetch, "selected", expunges=False),
    "UID FETCH": Entry(fetch, "selected"),
}
