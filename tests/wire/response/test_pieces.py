"""Long lists of messages come in pieces: together they say what the list says, and no piece is long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imapipe.errors import ProtocolError
from imapipe.wire.command.search import read_search
from imapipe.wire.response.framing import Framer
from imapipe.wire.response.limits import Limits
from imapipe.wire.response.response import Esearch, Response, Search, Tagged, Vanished, parse_response
from imapipe.wire.uid_set import UidSet

OK = Tagged("P1", "OK", None, "done")
UIDS = UidSet.from_numbers(range(5, 9000, 7))
SPACED = b" ".join(b"%d" % uid for uid in UIDS)
SET = b",".join(b"%d:%d" % (uid, uid + 2) for uid in UIDS)
LISTS = {
    "search": b"* SEARCH " + SPACED,
    "search-modseq": b"* search " + SPACED + b" (MODSEQ 917162500)",
    "search-space": b"* SEARCH  " + SPACED + b" ",
    "esearch": b'* ESEARCH (TAG "P1") UID ALL ' + SET,
    "esearch-count": b'* ESEARCH (TAG "P1") UID COUNT %d ALL ' % (3 * len(UIDS)) + SET,
    "esearch-after": b'* ESEARCH (TAG "P1") UID ALL ' + SET + b" COUNT %d MODSEQ 17" % (3 * len(UIDS)),
    "esearch-before": b"* ESEARCH UID MIN 5 MAX 9001 MODSEQ 17 ALL " + SET,
    "esearch-numbers": b'* ESEARCH (TAG "P1") ALL ' + SET,
    "vanished": b"* VANISHED " + SET,
    "vanished-earlier": b"* VANISHED (EARLIER) " + SET,
}
BEFORE, AFTER = b"* 7 EXISTS", b"P1 OK done"


def framed(stream: bytes, piece_bytes: int, cuts: list[int]) -> tuple[list[bytes], int]:
    """The texts that a framer gives, and what it says that they took."""
    framer = Framer(Limits(piece_bytes=piece_bytes))
    texts: list[bytes] = []
    size = 0
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        for text, _, count in framer.feed(stream[start:end]):
            texts.append(text)
            size += count
    return texts, size + framer.blank_bytes


def told(responses: list[Response]) -> object:
    """What answers say together."""
    if isinstance(responses[0], Vanished):
        gone = [response for response in responses if isinstance(response, Vanished)]
        return UidSet.union([response.uids for response in gone]), {response.earlier for response in gone}
    return read_search(responses, OK)


@given(
    st.sampled_from(sorted(LISTS)),
    st.integers(60, 3000),
    st.lists(st.integers(0, 8000), max_size=12),
)
def test_pieces_say_what_the_list_says(kind: str, piece_bytes: int, cuts: list[int]) -> None:
    line = LISTS[kind]
    stream = BEFORE + b"\r\n" + line + b"\r\n" + AFTER + b"\r\n"
    (first, *pieces, last), size = framed(stream, piece_bytes, sorted(min(cut, len(stream)) for cut in cuts))
    assert (first, last, size) == (BEFORE, AFTER, len(stream))
    assert len(pieces) > 1
    # What stands behind the numbers stays with the last of them.
    assert max(map(len, pieces)) <= piece_bytes + 80
    parsed = [parse_response(piece) for piece in pieces]
    assert told(parsed) == told([parse_response(line)])
    for response in parsed:
        if isinstance(response, Esearch):
            assert (response.tag, response.uid) == ("P1" if b"TAG" in line else None, b" UID " in line)


def test_a_list_is_cut_byte_by_byte_as_well() -> None:
    line = LISTS["esearch-count"]
    stream = line + b"\r\n"
    pieces, _ = framed(stream, 500, list(range(1, len(stream))))
    assert len(pieces) > 10
    assert told([parse_response(piece) for piece in pieces]) == told([parse_response(line)])


OTHERS = [
    b'* LIST (\\HasNoChildren) "/" ' + b"1" * 3000,
    b"* OK " + SPACED,
    b"* SEARCH " + SPACED[:500] + b"x" + SPACED,
    b"* SEARCH " + b"1" * 3000,
    b"* ESEARCH (TAG " + b"1" * 3000 + b") UID ALL 1,2",
    b"* ESEARCH (TAG x) UID " + b"MIN 1 " * 100 + b"ALL " + SET,
    b"* ESEARCH (TAG x) UID PARTIAL (1:2000 " + SET + b")",
    b"P1 OK [COPYUID 1 " + SET + b" " + SET + b"]",
    b"* 1 FETCH (UID 1 X (" + SPACED + b"))",
]


@pytest.mark.parametrize("line", OTHERS, ids=range(len(OTHERS)))
def test_nothing_else_is_cut(line: bytes) -> None:
    stream = line + b"\r\n" + AFTER + b"\r\n"
    assert framed(stream, 1000, [])[0] == [line, AFTER]
    assert framed(stream, 1000, list(range(0, len(stream), 37)))[0] == [line, AFTER]


def test_where_a_list_is_cut_depends_on_nothing_but_the_stream() -> None:
    """Also where a literal stands in it, which no list has."""
    line = b"* VANISHED " + SET[:4000] + b"{3}\r\nabc," + SET
    stream = BEFORE + b"\r\n" + line + b"\r\n" + AFTER + b"\r\n"
    whole = framed(stream, 1000, [])
    assert len(whole[0]) > 5
    for step in (1, 7, 999):
        assert framed(stream, 1000, list(range(0, len(stream), step))) == whole


def test_a_piece_that_is_missing_is_noticed() -> None:
    """COUNT is told once, and holds for all pieces together."""
    pieces, _ = framed(LISTS["esearch-count"] + b"\r\n", 500, [])
    parsed = [parse_response(piece) for piece in pieces]
    assert len(read_search(parsed, OK).uids) == 3 * len(UIDS)
    for wrong in (parsed[:-1], parsed[:3] + parsed[4:], [*parsed, parsed[1]]):
        with pytest.raises(ProtocolError, match=f"counts {3 * len(UIDS)} messages"):
            read_search(wrong, OK)


def test_pieces_in_any_order_are_one_set() -> None:
    parts = [UIDS[start : start + 100] for start in range(0, len(UIDS), 100)]
    touching = [UidSet.parse("1:5"), UidSet(), UidSet.parse("6:9,11"), UidSet.parse("12")]
    assert UidSet.union(parts) == UidSet.union(parts[::-1]) == UidSet.union([*parts, UIDS]) == UIDS
    assert UidSet.union(touching) == UidSet.parse("1:9,11:12")
    assert (UidSet.union([]), len(UidSet.union(touching))) == (UidSet(), 11)
    assert [UidSet.union(touching)[rank] for rank in range(11)] == [*range(1, 10), 11, 12]


def test_search_answers_in_pieces_keep_their_mod_sequence() -> None:
    pieces, _ = framed(LISTS["search-modseq"] + b"\r\n", 500, [])
    parsed = [parse_response(piece) for piece in pieces]
    assert [response.modseq for response in parsed if isinstance(response, Search)][-2:] == [None, 917162500]
