"""The answers to one FETCH, with what faults do to single messages and what is said of messages that are gone."""

from __future__ import annotations

from dataclasses import replace

from ..arguments import Refused
from ..content import ParsedContent
from ..faults import (
    Act,
    Inject,
    LieAboutLength,
    NilBodies,
    OmitItems,
    OmitUids,
    PoisonUids,
    ReplaceResponses,
    WrongPartial,
)
from ..fetch_items import FetchItem, Renderer, RenderOptions, compile_absent, compile_item
from ..link import Disconnected
from ..mailbox import Mailbox
from ..ranges import IndexRanges
from ..session import Session
from ..stored import FIRST_DATE, StoredMessage

_UID_ITEM = FetchItem("UID", b"UID")
_MODSEQ_ITEM = FetchItem("MODSEQ", b"MODSEQ")
_FLAGS_ITEM = FetchItem("FLAGS", b"FLAGS")

# What Courier answers for a message whose file is gone: 129 bytes by which a client can know it.
_UNAVAILABLE = ParsedContent(
    b"From: System Administrator <root@localhost>\r\nSubject: message unavailable\r\n\r\n"
    b"This message is no longer available on the server.\r\n"
)


def invented(uid: int, flags: frozenset[str]) -> StoredMessage:
    """A message that stands for one that is gone."""
    return StoredMessage(uid, _UNAVAILABLE, flags=flags, internal_date=FIRST_DATE)


class FetchJob:
    """Writes the responses of one FETCH.

    Attributes:
        missing: Messages that were asked for and are gone, so that something could not be said of them.
    """

    def __init__(self, session: Session, box: Mailbox, items: list[FetchItem], by_uid: bool, since: int | None) -> None:
        self.session = session
        self.missing = 0
        self._box = box
        self._since = since
        self._sets_seen = any(item.sets_seen for item in items) and not session.read_only
        names = {item.name for item in items}
        if by_uid and "UID" not in names and not session.uid_only:
            items = [_UID_ITEM, *items]
        if "MODSEQ" in names:
            session.require_mod_sequences()
            session.enabled.add("CONDSTORE")
        elif since is not None:
            # CHANGEDSINCE asks for it (RFC 7162 3.1.4.1); else it is told only of what others change.
            items = [*items, _MODSEQ_ITEM]
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
            await self._send_expunged(index, uid)
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
            await self._write(uid, self._render(index, message, renderers))
        if self._tells_flags:
            session.flags_told(uid)

    async def _send_expunged(self, index: int, uid: int) -> None:
        how, flags = self.session.server.expunged_fetch, self.session.untold_flags(uid)
        if how == "leave_out" or flags is None:
            self.missing += 1
        elif how == "invent":
            await self._write(uid, self._render(index, invented(uid, flags), self._renderers))
        else:
            self.missing += any(item.name not in ("UID", "FLAGS") for item in self._items)
            ghost = invented(uid, flags)
            renderers = [render for item in self._items if (render := compile_absent(item, self._options))]
            await self._write(uid, self._render(index, ghost, renderers))

    async def _write(self, uid: int, data: bytes) -> None:
        record = self.session.record
        record.messages += 1
        record.fetched.append(uid)
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
        for act in fired.of(Act):
            if act.where == "messages" and (act.uids is None or uid in act.uids):
                act.action(session.record)
        for poison in fired.of(PoisonUids):
            if uid in poison.uids:
                await self._poisoned(poison)
        if any(uid in fault.uids for fault in fired.of(OmitUids)):
            return
        for replacing in fired.of(ReplaceResponses):
            if uid in replacing.responses:
                await self._write(uid, replacing.responses[uid])
                return
        nil = any(uid in fault.uids for fault in fired.of(NilBodies))
        lie = sum(fault.by for fault in fired.of(LieAboutLength) if uid in fault.uids)
        partial = next((fault for fault in fired.of(WrongPartial) if fault.uids is None or uid in fault.uids), None)
        omitted = {
            name for fault in fired.of(OmitItems) if fault.uids is None or uid in fault.uids for name in fault.items
        }
        if nil or lie or partial or omitted:
            options = replace(self._options, nil_bodies=nil, length_offset=lie)
            if partial is not None:
                options = replace(options, partial_lie=partial.kind, partial_by=partial.by)
            renderers = [compile_item(item, options) for item in self._items if item.name not in omitted]
        await self._write(uid, self._render(index, message, renderers))

    async def _poisoned(self, poison: PoisonUids) -> None:
        if poison.action == "NO":
            raise Refused(poison.text, poison.code)
        await self.session.link.flush()
        self.session.link.cut = poison.action
        self.session.link.close(reset=poison.action == "reset")
        raise Disconnected
