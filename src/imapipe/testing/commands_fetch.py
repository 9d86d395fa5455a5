"""FETCH and UID FETCH, with what faults do to single messages."""

from __future__ import annotations

from dataclasses import replace

from .arguments import Arguments, BadCommand, IndexRanges, Refused, count_ranges, format_uids
from .faults import Inject, LieAboutLength, NilBodies, OmitUids, PoisonUids, ReplaceResponses
from .fetch_items import FetchItem, Renderer, RenderOptions, compile_item, parse_items
from .link import Disconnected
from .mailbox import Mailbox, StoredMessage
from .session import Done, Entry, Session

_UID_ITEM = FetchItem("UID", b"UID")
_MODSEQ_ITEM = FetchItem("MODSEQ", b"MODSEQ")
_FLAGS_ITEM = FetchItem("FLAGS", b"FLAGS")


async def fetch(session: Session, arguments: Arguments) -> Done:
    """FETCH and UID FETCH (RFC 3501 6.4.5), CHANGEDSINCE and VANISHED (RFC 7162), PARTIAL (RFC 9394)."""
    name = session.record.name
    by_uid = name == "UID FETCH"
    ranges = session.resolve(arguments.sequence_set(), by_uid)
    arguments.space()
    items = parse_items(arguments, session.server.extensions)
    since, vanished, partial = _read_modifiers(session, arguments, by_uid)
    arguments.end()
    ranges = take_partial(ranges, partial) if partial is not None else ranges
    await session.charge_messages(count_ranges(ranges))
    ranges, code = limit_ranges(session, ranges)
    box = session.selected
    if since is not None:
        session.enabled.add("CONDSTORE")
        if vanished:
            _write_vanished(session, box, since)
    job = _FetchJob(session, box, items, by_uid, since)
    await job.check_poison(ranges)
    descending = bool(code)
    for low, high in reversed(ranges) if descending else ranges:
        for index in range(high - 1, low - 1, -1) if descending else range(low, high):
            await job.send(index)
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


def read_partial(arguments: Arguments) -> tuple[int, int]:
    """Read ``a:b`` or ``-a:-b`` of PARTIAL (RFC 9394); from the end both are negative."""
    negative = arguments.take(b"-")
    first = arguments.number()
    arguments.expect(b":")
    if arguments.take(b"-") is not negative:
        raise BadCommand("Invalid PARTIAL range")
    second = arguments.number()
    if not first or not second:
        raise BadCommand("Invalid PARTIAL range")
    low, high = min(first, second), max(first, second)
    return (-high, -low) if negative else (low, high)


def take_partial(ranges: IndexRanges, partial: tuple[int, int]) -> IndexRanges:
    """The part of the messages that PARTIAL names, counted from the lowest, or from the highest if negative."""
    total = count_ranges(ranges)
    low, high = partial
    start, stop = (low - 1, high) if low > 0 else (total + low, total + high + 1)
    return slice_ranges(ranges, max(start, 0), max(min(stop, total), 0))


def slice_ranges(ranges: IndexRanges, start: int, stop: int) -> IndexRanges:
    """Indexes by rank: ``ranges[start:stop]`` if they were written out."""
    taken: IndexRanges = []
    rank = 0
    for low, high in ranges:
        first, last = max(start - rank, 0), min(stop - rank, high - low)
        if first < last:
            taken.append((low + first, low + last))
        rank += high - low
    return taken


def limit_ranges(session: Session, ranges: IndexRanges) -> tuple[IndexRanges, str]:
    """Cut to the message limit, highest first, with the response code that says so (RFC 9738), or ""."""
    limit = session.server.message_limit
    total = count_ranges(ranges)
    if limit is None or not session.has("MESSAGELIMIT") or total <= limit:
        return ranges, ""
    kept = slice_ranges(ranges, total - limit, total)
    return kept, f"MESSAGELIMIT {limit} {session.view[kept[0][0]]}"


def _write_vanished(session: Session, box: Mailbox, since: int) -> None:
    gone = sorted({uid for changed, uid in box.vanished if changed > since})
    if gone:
        session.untagged(b"VANISHED (EARLIER) " + format_uids(gone))


class _FetchJob:
    """Writes the responses of one FETCH."""

    def __init__(self, session: Session, box: Mailbox, items: list[FetchItem], by_uid: bool, since: int | None) -> None:
        self.session = session
        self.missing = 0
        self._box = box
        self._since = since
        self._sets_seen = any(item.sets_seen for item in items) and not session.read_only
        names = {item.name for item in items}
        if by_uid and "UID" not in names and not session.uid_only:
            items = [_UID_ITEM, *items]
        if "CONDSTORE" in session.enabled and "FLAGS" in names and "MODSEQ" not in names:
            items = [*items, _MODSEQ_ITEM]
        if "MODSEQ" in names:
            session.enabled.add("CONDSTORE")
        if session.server.fetch_order == "uid_last":
            items = sorted(items, key=lambda item: item.name == "UID")
        self._items = items
        self._options = RenderOptions(session.server.strings, session.utf8)
        self._renderers = [compile_item(item, self._options) for item in items]
        self._tells_flags = "FLAGS" in names
        self._shuffled = session.server.fetch_order == "shuffled"
        self._faulty = session.fired.touches_messages

    async def check_poison(self, ranges: IndexRanges) -> None:
        """Fail the command at once if it contains a poisoned message whose fault is not to wait for its turn."""
        for poison in self.session.fired.of(PoisonUids):
            indexes = [self.session.number_of(uid) - 1 for uid in poison.uids]
            if not poison.deliver_before and any(low <= index < high for index in indexes for low, high in ranges):
                await self._poisoned(poison)

    async def send(self, index: int) -> None:
        """Write the response of one message."""
        session = self.session
        uid = session.view[index]
        message = self._box.get(uid)
        if message is None:
            self.missing += 1
            return
        if self._since is not None and message.modseq <= self._since:
            return
        renderers = self._renderers
        if self._sets_seen and "\\Seen" not in message.flags:
            renderers = self._mark_seen(uid)
            message = self._box[uid]
        if self._faulty:
            await self._send_faulty(index, message, renderers)
        else:
            await self._write(self._render(index, message, renderers))
        if self._tells_flags:
            session.flags_told(uid)

    async def _write(self, data: bytes) -> None:
        self.session.record.messages += 1
        self.session.server.counters.messages_fetched += 1
        await self.session.write(data)

    def _render(self, index: int, message: StoredMessage, renderers: list[Renderer]) -> bytes:
        if self._shuffled:
            renderers = self.session.shuffler.sample(renderers, len(renderers))
        values = b" ".join([render(message) for render in renderers])
        if self.session.uid_only:
            return b"* %d UIDFETCH (%s)\r\n" % (message.uid, values)
        return b"* %d FETCH (%s)\r\n" % (index + 1, values)

    def _mark_seen(self, uid: int) -> list[Renderer]:
        message = self._box[uid]
        self._box.set_flags(uid, message.flags | {"\\Seen"}, but=self.session)
        if any(item.name == "FLAGS" for item in self._items):
            return self._renderers
        # The client learns of the flag its own fetch has set (RFC 3501 6.4.5).
        return [*self._renderers, compile_item(_FLAGS_ITEM, self._options)]

    async def _send_faulty(self, index: int, message: StoredMessage, renderers: list[Renderer]) -> None:
        session, uid = self.session, message.uid
        fired = session.fired
        for inject in fired.of(Inject):
            if inject.where == "messages" and (inject.uids is None or uid in inject.uids):
                session.link.write(inject.data)
        for poison in fired.of(PoisonUids):
            if uid in poison.uids:
                await self._poisoned(poison)
        if any(uid in fault.uids for fault in fired.of(OmitUids)):
            return
        for replacing in fired.of(ReplaceResponses):
            if uid in replacing.responses:
                await self._write(replacing.responses[uid])
                return
        nil = any(uid in fault.uids for fault in fired.of(NilBodies))
        lie = sum(fault.by for fault in fired.of(LieAboutLength) if uid in fault.uids)
        if nil or lie:
            options = replace(self._options, nil_bodies=nil, length_offset=lie)
            renderers = [compile_item(item, options) for item in self._items]
        await self._write(self._render(index, message, renderers))

    async def _poisoned(self, poison: PoisonUids) -> None:
        if poison.action == "NO":
            raise Refused(poison.text, poison.code)
        await self.session.link.flush()
        self.session.link.cut = poison.action
        self.session.link.close(reset=poison.action == "reset")
        raise Disconnected


COMMANDS: dict[str, Entry] = {
    "FETCH": Entry(fetch, "selected", expunges=False),
    "UID FETCH": Entry(fetch, "selected"),
}
