"""UID SEARCH (RFC 9051 §6.4.4): by ESEARCH (RFC 4731), saved (RFC 5182), in pages (RFC 9394). And what it found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from imapipe.errors import ProtocolError
from imapipe.wire.command.encoder import Request, Word, atom, number, parenthesised, sequence_set, uid_text_room
from imapipe.wire.response.note import Note
from imapipe.wire.response.response import Esearch, Response, Search, Tagged
from imapipe.wire.search_program import SearchProgram
from imapipe.wire.search_term import is_balanced
from imapipe.wire.uid_set import UidSet


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """What UID SEARCH found.

    Attributes:
        uids: The UIDs.
        modseq: The highest mod-sequence of them, where the search used MODSEQ.
        limited_below: Where the server stopped short (RFC 9738): it looked at UIDs from this one up; else None.
        notes: What of the answer was no UID and was passed over: a message may be missing.
    """

    uids: UidSet
    modseq: int | None = None
    limited_below: int | None = None
    notes: tuple[Note, ...] = ()


def uid_search(
    program: SearchProgram,
    *,
    extended: bool = False,
    save: bool = False,
    first: int | None = None,
    within: UidSet | None = None,
    within_saved: bool = False,
) -> Request:
    """UID SEARCH.

    Args:
        program: The keys.
        extended: Ask for ESEARCH, whose answer names the command.
        save: Have the server keep the result as `$`; extended.
        first: Only so many of the lowest UIDs: PARTIAL; extended.
        within: Look only at these UIDs.
        within_saved: `within` is what the server keeps: `$` is sent for it.

    Raises:
        ValueError: CR, LF or NUL in the program outside a literal, a quote or a parenthesis that is not closed, or an
            empty set.
    """
    _check(program)
    words: list[Word] = []
    if first is not None:
        words += (b"RETURN", b"(PARTIAL 1:" + number(first, "the number of messages", low=1) + b")")
    elif extended or save:
        words += (b"RETURN", parenthesised((b"SAVE", b"ALL", b"COUNT") if save else (b"ALL", b"COUNT")))
    if program.charset is not None:
        words += (b"CHARSET", atom(program.charset, "a charset"))
    if within_saved:
        words.append(b"$")
    elif within is not None:
        words += (b"UID", sequence_set(within))
    return Request("UID SEARCH", *words, program.pieces)


def room_within(program: SearchProgram) -> int:
    """How many bytes of the text of a set fit into a search within it, beside this program."""
    return uid_text_room(b"UID SEARCH RETURN (SAVE ALL COUNT) UID " + b"".join(program.chunks()))


def read_search(responses: Iterable[Response], tagged: Tagged) -> SearchAnswer:
    """Put the answers to a search together: several lines, or the pieces of a long one (`wire.response.pieces`).

    Raises:
        ProtocolError: The answer counts other messages than it lists.
    """
    sets: list[UidSet] = []
    counted: int | None = None
    listed = 0
    modseq: int | None = None
    notes: list[Note] = []
    for response in responses:
        if isinstance(response, Search):
            # Some servers answer one command with several lines.
            sets.append(response.uids)
        elif isinstance(response, Esearch):
            if response.count is not None:
                counted = response.count + (counted or 0)
            sets.append(response.all or UidSet())
            listed += len(sets[-1])
            if response.partial is not None:
                sets.append(response.partial.uids)
        else:
            continue
        notes += response.notes
        modseq = response.modseq if response.modseq is not None else modseq
    if counted is not None and counted != listed and not notes:
        raise ProtocolError(f"ESEARCH counts {counted} messages and lists {listed}")
    limit = tagged.code.message_limit if tagged.code is not None else None
    # One union, not one for each line: a server may send as many as it likes.
    uids = sets[0] if len(sets) == 1 else UidSet.union(sets)
    return SearchAnswer(uids, modseq, limit.uid if limit is not None else None, tuple(notes))


def _check(program: SearchProgram) -> None:
    """A program can be put together by hand, too."""
    if not program.pieces:
        raise ValueError("a search needs at least one key")
    text = b"".join(piece if isinstance(piece, bytes) else b"literal" for piece in program.pieces)
    try:
        balanced = is_balanced(text.decode())
    except UnicodeDecodeError:
        raise ValueError("a search has text that is not UTF-8") from None
    if not balanced:
        raise ValueError("a search has a quote or a parenthesis that is not closed")
