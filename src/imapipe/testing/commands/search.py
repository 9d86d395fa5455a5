"""SEARCH, UID SEARCH, ESEARCH and UIDBATCHES."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence

from ..arguments import Arguments, BadCommand, Refused
from ..faults import SearchCap
from ..ranges import IndexRanges, count_ranges, format_uids, read_partial, slice_ranges, take_partial
from ..search_program import SearchProgram
from ..session import Done, Entry, Session

_NUMBERS_AT_ONCE = 8192


async def search(session: Session, arguments: Arguments) -> Done:
    """SEARCH and UID SEARCH; with RETURN the answer is ESEARCH (RFC 4731, RFC 5182, RFC 9394)."""
    name = session.record.name
    by_uid = name == "UID SEARCH"
    options, partial = _read_options(session, arguments)
    if not by_uid and session.uid_only:
        raise BadCommand("Message numbers cannot be used once UIDONLY is enabled", "UIDREQUIRED")
    program = SearchProgram(session)
    try:
        key = program.read(arguments)
    except Refused:
        if options is not None and "SAVE" in options:
            session.saved = array("I")
        raise
    found = key([(0, len(session.view))] if len(session.view) else [])
    for cap in session.fired.of(SearchCap):
        found = slice_ranges(found, 0, cap.count)
    found, code = session.limit_messages(found)
    session.record.messages = count_ranges(found)
    modseq = _highest_modseq(session, found) if program.uses_modseq and found else None
    if program.uses_modseq:
        session.enabled.add("CONDSTORE")
    if options is None:
        await _write_search(session, found, by_uid, modseq)
    else:
        await _write_esearch(session, found, by_uid, options, partial, modseq)
    return Done(f"{name} completed", code)


def _read_options(session: Session, arguments: Arguments) -> tuple[set[str] | None, tuple[int, int] | None]:
    if not session.has("ESEARCH") or not arguments.take(b"RETURN ("):
        return None, None
    options: set[str] = set()
    partial: tuple[int, int] | None = None
    while not arguments.take(b")"):
        if options:
            arguments.space()
        word = arguments.word()
        if word == "PARTIAL" and session.has("PARTIAL"):
            arguments.space()
            partial = read_partial(arguments)
        elif word not in ("MIN", "MAX", "COUNT", "ALL") and not (word == "SAVE" and session.has("SEARCHRES")):
            raise BadCommand(f"Unknown search return option {word}")
        options.add(word)
    arguments.space()
    if "PARTIAL" in options and "ALL" in options:
        raise BadCommand("PARTIAL and ALL exclude each other")
    return options or {"ALL"}, partial


def _highest_modseq(session: Session, found: IndexRanges) -> int:
    box = session.selected
    messages = (box.get(session.view[index]) for low, high in found for index in range(low, high))
    return max(message.modseq for message in messages if message is not None)


def _pieces(view: Sequence[int], found: IndexRanges, by_uid: bool) -> Iterator[Sequence[int]]:
    for low, high in found:
        for start in range(low, high, _NUMBERS_AT_ONCE):
            stop = min(start + _NUMBERS_AT_ONCE, high)
            yield view[start:stop] if by_uid else range(start + 1, stop + 1)


async def _write_search(session: Session, found: IndexRanges, by_uid: bool, modseq: int | None) -> None:
    session.link.write(b"* SEARCH")
    for piece in _pieces(session.view, found, by_uid):
        await session.write((" " + " ".join(map(str, piece))).encode("ascii"))
    if modseq is not None:
        session.link.write(b" (MODSEQ %d)" % modseq)
    session.link.write(b"\r\n")


def number_set(view: Sequence[int], found: IndexRanges, by_uid: bool) -> bytes:
    """The numbers as a compact set."""
    if not by_uid:
        return b",".join(b"%d" % (low + 1) if high - low == 1 else b"%d:%d" % (low + 1, high) for low, high in found)
    if isinstance(view, range) and view.step == 1:
        first = view.start
        return b",".join(
            b"%d" % (first + low) if high - low == 1 else b"%d:%d" % (first + low, first + high - 1)
            for low, high in found
        )
    return format_uids(array("I", (view[index] for low, high in found for index in range(low, high))))


async def _write_esearch(
    session: Session,
    found: IndexRanges,
    by_uid: bool,
    options: set[str],
    partial: tuple[int, int] | None,
    modseq: int | None,
) -> None:
    view = session.view
    out = [b'* ESEARCH (TAG "%s")' % session.record.tag.encode("ascii")]
    if by_uid:
        out.append(b" UID")
    picked: IndexRanges = []
    if found:
        first, last = found[0][0], found[-1][1] - 1
        if "MIN" in options:
            picked.append((first, first + 1))
            out.append(b" MIN %d" % (view[first] if by_uid else first + 1))
        if "MAX" in options:
            picked.append((last, last + 1))
            out.append(b" MAX %d" % (view[last] if by_uid else last + 1))
        if "ALL" in options:
            out.append(b" ALL " + number_set(view, found, by_uid))
    if "COUNT" in options:
        out.append(b" COUNT %d" % count_ranges(found))
    if partial is not None:
        part = take_partial(found, partial)
        low, high = partial
        shown = b"%d:%d" % (low, high) if low > 0 else b"%d:%d" % (high, low)
        out.append(b" PARTIAL (" + shown + b" " + (number_set(view, part, by_uid) or b"NIL") + b")")
    if modseq is not None:
        out.append(b" MODSEQ %d" % modseq)
    if "SAVE" in options:
        # With MIN or MAX alone only those are saved (RFC 5182 2.4).
        only_ends = bool(options & {"MIN", "MAX"}) and not options & {"ALL", "COUNT", "PARTIAL"}
        saved = picked if only_ends else take_partial(found, partial) if partial is not None else found
        session.saved = array("I", sorted({view[index] for low, high in saved for index in range(low, high)}))
        if options == {"SAVE"}:
            return
    await session.write(b"".join(out) + b"\r\n")


async def uid_batches(session: Session, arguments: Arguments) -> Done:
    """UIDBATCHES (RFC 10022): ranges of equally many messages, highest first, that leave no UID out."""
    size = arguments.number()
    first, last = 1, None
    if arguments.take(b" "):
        first = arguments.number()
        arguments.expect(b":")
        last = arguments.number()
        if not first or last < first:
            raise BadCommand("Invalid range of batches", "CLIENTBUG")
    arguments.end()
    minimum = session.server.minimum_uid_batch
    if size < minimum:
        raise Refused(f"Batches must have at least {minimum} messages", "TOOFEW")
    if last is not None and (last - first + 1) * size > 100_000 and last - first > 0:
        raise Refused("Too many messages", "TOOMANY")
    view = session.view
    ranges: list[bytes] = []
    top = session.selected.uidnext - 1
    stop = len(view)
    number = 0
    while stop > 0:
        number += 1
        start = max(stop - size, 0)
        # Batches touch: a batch reaches down to just above the next one's highest UID, the last one to 1.
        bottom = view[start - 1] + 1 if start else 1
        if number >= first and (last is None or number <= last):
            ranges.append(b"%d:%d" % (top, bottom))
        top, stop = bottom - 1, start
    session.record.messages = len(view)
    text = b'UIDBATCHES (TAG "%s")' % session.record.tag.encode("ascii")
    session.untagged(text + (b" " + b",".join(ranges) if ranges else b""))
    return Done("UIDBATCHES completed")


COMMANDS: dict[str, Entry] = {
    "SEARCH": Entry(search, "selected", expunges=False),
    "UID SEARCH": Entry(search, "selected"),
    "UIDBATCHES": Entry(uid_batches, "selected", "UIDBATCHES"),
}
