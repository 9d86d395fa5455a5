from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.wire.response.calls import calls

from imapipe.errors import ResponseTooLarge
from imapipe.wire.response.framing import BUFFER_BYTES, DIRECT_BYTES, Frame, Framer
from imapipe.wire.response.limits import Limits
from imapipe.wire.response.literal import literal_bytes

STREAM = (
    b"* OK [CAPABILITY IMAP4rev1] ready {12}\r\n"
    b"* 1 FETCH (UID 1 BODY[] {12}\r\n* 2 FETCH (\r FLAGS (\\Seen))\r\n"
    b"* 2 FETCH (BODY[1] ~{3}\r\n\r\n\0 BODY[2] {0}\r\n BODY[3] {4+}\r\n{9}\r)\r\n"
    b"\r\n"
    b'* LIST () "/" {5}\r\nSnt\r\n\r\n'
    b"+ go on {3}\r\n"
    b"\0\0* NO leading zeros {7}\r\n"
    b"*  BYE two spaces {7}\r\n"
    b"* 3 FETCH (UID 3 BODY[] {3}\r\n}\r\n)\r\n"
    b"* SEARCH 1 2 3\r\n"
    b"* 4 FETCH (UID 4 ENVELOPE (NIL {4}\r\na{3} {6}\r\n{2}\r\nx NIL))\r\n"
    b"P7 OK done {5}\r\n"
    b"P8 BAD[X] {5}\r\n"
    b"a line that nobody knows\r\n"
)
EXPECTED = [
    (b"* OK [CAPABILITY IMAP4rev1] ready {12}", []),
    (b"* 1 FETCH (UID 1 BODY[] {12}\r\n FLAGS (\\Seen))", [b"* 2 FETCH (\r"]),
    (b"* 2 FETCH (BODY[1] ~{3}\r\n BODY[2] {0}\r\n BODY[3] {4+}\r\n)", [b"\r\n\0", b"", b"{9}\r"]),
    (b'* LIST () "/" {5}\r\n', [b"Snt\r\n"]),
    (b"+ go on {3}", []),
    (b"\0\0* NO leading zeros {7}", []),
    (b"*  BYE two spaces {7}", []),
    (b"* 3 FETCH (UID 3 BODY[] {3}\r\n)", [b"}\r\n"]),
    (b"* SEARCH 1 2 3", []),
    (b"* 4 FETCH (UID 4 ENVELOPE (NIL {4}\r\n {6}\r\n NIL))", [b"a{3}", b"{2}\r\nx"]),
    (b"P7 OK done {5}", []),
    (b"P8 BAD[X] {5}", []),
    (b"a line that nobody knows", []),
]


class MemorySpool:
    """What a spool is to the framer; the bytes stay here."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.data = bytearray()
        self.state = "open"

    def write(self, data: memoryview) -> None:
        assert self.state == "open"
        self.data += data

    def finish(self) -> MemorySpool:
        assert len(self.data) == self.size
        self.state = "finished"
        return self

    def discard(self) -> None:
        self.state = "discarded"

    def __len__(self) -> int:
        return self.size

    def open(self) -> BinaryIO:
        return io.BytesIO(self.data)

    def read(self) -> bytes:
        return bytes(self.data)

    def close(self) -> None:
        raise NotImplementedError


def spooling(above: int, spools: list[MemorySpool]) -> Callable[[Sequence[bytes], int, int], MemorySpool | None]:
    """What opens the places of large literals, and keeps them."""

    def place(_: Sequence[bytes], size: int, kept: int) -> MemorySpool | None:
        if size <= above:
            return None
        spools.append(MemorySpool(size))
        return spools[-1]

    return place


def record(frame: Frame) -> tuple[bytes, list[bytes]]:
    text, literals, _ = frame
    return text, [literal_bytes(literal) for literal in literals]


def receive(framer: Framer, chunk: bytes) -> Iterator[Frame]:
    """Write a chunk as a transport does: as much as the buffer takes, then the responses."""
    view = memoryview(chunk)
    while view:
        room = framer.buffer()
        assert room
        count = min(len(room), len(view))
        room[:count] = view[:count]
        view = view[count:]
        framer.received(count)
        yield from framer.frames()


def frame_chunks(chunks: list[bytes], framer: Framer | None = None) -> list[tuple[bytes, list[bytes]]]:
    framer = framer or Framer()
    return [record(frame) for chunk in chunks for frame in receive(framer, chunk)]


def behind_markers(stream: bytes) -> list[bytes]:
    return re.findall(rb"(?s).+?(?:\{\d+\+?\}\r\n|\Z)", stream)


@pytest.mark.parametrize(
    "chunks",
    [[STREAM], [bytes([byte]) for byte in STREAM], behind_markers(STREAM)],
    ids=["whole", "bytes", "behind markers"],
)
def test_stream(chunks: list[bytes]) -> None:
    assert b"".join(chunks) == STREAM
    assert frame_chunks(chunks) == EXPECTED


@pytest.mark.parametrize("cut", range(1, len(STREAM)))
def test_a_stream_cut_anywhere_gives_the_same_records(cut: int) -> None:
    assert frame_chunks([STREAM[:cut], STREAM[cut:]]) == EXPECTED


def test_sizes_add_up_to_the_stream() -> None:
    framer = Framer()
    sizes = [size for _, _, size in receive(framer, STREAM)]
    # The empty line between two responses belongs to none.
    assert sum(sizes) == len(STREAM) - 2
    assert framer.total_bytes == len(STREAM)
    assert not framer.partial


@given(st.data())
def test_chunkings_and_kinds_of_storage(data: st.DataObject) -> None:
    """Whatever the chunks, the literals, and where they are kept: the same records."""
    bodies = data.draw(st.lists(st.binary(max_size=200), max_size=6))
    sizes = data.draw(st.lists(st.sampled_from([0, DIRECT_BYTES - 1, DIRECT_BYTES, 3 * DIRECT_BYTES]), max_size=3))
    bodies += [b"z" * size for size in sizes]
    stream, expected = b"", []
    for number, body in enumerate(bodies, 1):
        stream += b"* %d FETCH (BODY[] {%d}\r\n%b X {2}\r\n\r\n)\r\n" % (number, len(body), body)
        expected.append((b"* %d FETCH (BODY[] {%d}\r\n X {2}\r\n)" % (number, len(body)), [body, b"\r\n"]))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    above = data.draw(st.sampled_from([50, DIRECT_BYTES, 10**9]))
    spools: list[MemorySpool] = []
    framer = Framer(place=spooling(above, spools), spool_above=above)
    assert frame_chunks(chunks, framer) == expected
    assert [each.size for each in spools] == [len(body) for body in bodies if len(body) > above]
    assert all(each.state == "finished" for each in spools)


@pytest.mark.no_cover
@pytest.mark.parametrize("chunk", [1, 7, 1000, BUFFER_BYTES, 10**9])
def test_a_long_line_costs_linear_time(chunk: int) -> None:
    """Counted in bytes moved, whatever the chunks: never more than a few times the line."""
    length = 3_000_000 if chunk > 100 else 300_000
    line = b"* XLIST (" + b" 1" * (length // 2) + b"\r\n"
    framer = Framer()
    frames = [frame for start in range(0, len(line), chunk) for frame in receive(framer, line[start : start + chunk])]
    assert [len(text) for text, _, _ in frames] == [len(line) - 2]
    assert framer.copied_bytes <= 2 * len(line)


def test_bare_line_feeds_are_not_looked_at_one_by_one() -> None:
    """A line of them costs a few searches, not one each: an event loop has other things to do."""
    line = b"* X " + b"\n" * 500_000 + b"\r\n"
    framer = Framer()
    frames: list[Frame] = []
    assert calls(lambda: frames.extend(receive(framer, line))) < 500
    assert [text for text, _, _ in frames] == [line[:-2]]


def test_many_short_lines_are_never_moved() -> None:
    line = b"* 1 FETCH (UID 1 FLAGS (\\Seen))\r\n"
    framer = Framer()
    count = sum(1 for _ in receive(framer, line * 50_000))
    assert count == 50_000
    # At most one line for each time the buffer was full.
    assert framer.copied_bytes <= (len(line) * 50_000 // BUFFER_BYTES + 1) * len(line)


def test_the_buffer_shrinks_after_a_long_line() -> None:
    framer = Framer()
    assert len(frame_chunks([b"* XLIST (" + b" 12345" * 1_000_000 + b"\r\n"], framer)) == 1
    assert len(framer.buffer()) == BUFFER_BYTES
    assert frame_chunks([STREAM], framer) == EXPECTED


def test_leaving_at_a_response_leaves_the_rest_untouched() -> None:
    framer = Framer()
    data = b"* CAPABILITY IMAP4\r\nP1 OK begin\r\n\x16\x03\x01{5}\r\n"
    room = framer.buffer()
    room[: len(data)] = data
    framer.received(len(data))
    for text, _, _ in framer.frames():
        if text.startswith(b"P1"):
            break
    assert framer.rest() == b"\x16\x03\x01{5}\r\n"
    assert framer.rest() == b""
    assert not framer.partial


def test_partial() -> None:
    framer = Framer()
    for chunk, partial in [
        (b"* 1 FE", True),
        (b"TCH (BODY[] {3}\r\n", True),
        (b"ab", True),
        (b"c)\r", True),
        (b"\n", False),
    ]:
        list(receive(framer, chunk))
        assert framer.partial is partial


@pytest.mark.parametrize(
    ("line", "limit"),
    [
        (b"* 1 FETCH (BODY[] {4294967296}\r\n", 2 * 1024**3),
        (b"* 1 FETCH (BODY[] {99999999999999999999}\r\n", 2 * 1024**3),
        (b"* 1 FETCH (BODY[] {" + b"9" * 5000 + b"}\r\n", 2 * 1024**3),
        (b'* LIST () "/" {33554433}\r\n', 32 * 1024**2),
    ],
)
def test_a_size_beyond_the_limit_is_refused_when_it_is_announced(line: bytes, limit: int) -> None:
    with pytest.raises(ResponseTooLarge) as caught:
        frame_chunks([line])
    assert caught.value.limit == limit
    assert caught.value.size > limit
    assert caught.value.offset == len(line)


def test_a_size_with_leading_zeros_is_decimal() -> None:
    assert frame_chunks([b"* 1 FETCH (BODY[] {012}\r\n123456789012)\r\n"]) == [
        (b"* 1 FETCH (BODY[] {012}\r\n)", [b"123456789012"])
    ]


@pytest.mark.parametrize("marker", [b"{}", b"{-1}", b"{1e3}", b"{ 5}", b"{5-}", b"5}", b"{5++}"])
def test_what_only_looks_like_a_marker_is_text(marker: bytes) -> None:
    line = b"* 1 FETCH (BODY[] " + marker
    assert frame_chunks([line + b"\r\n"]) == [(line, [])]


def test_a_bare_line_feed_hides_no_marker() -> None:
    assert frame_chunks([b"* 1 FETCH (X \n{5}\r\nhello)\r\n"]) == [(b"* 1 FETCH (X \n{5}\r\n)", [b"hello"])]


def test_limits_on_lines_and_counts() -> None:
    limits = Limits(line_bytes=100, kept_bytes=60, literals=2)
    with pytest.raises(ResponseTooLarge, match="a line is too large"):
        frame_chunks([b"* " + b"x" * 100], Framer(limits))
    with pytest.raises(ResponseTooLarge, match="number of literals"):
        frame_chunks([b"* 1 FETCH (" + b"{0}\r\n" * 3 + b")\r\n"], Framer(limits))
    with pytest.raises(ResponseTooLarge, match="a response is too large"):
        frame_chunks([b"* 1 FETCH ({30}\r\n" + b"x" * 30 + b"{30}\r\n"], Framer(limits))
    # Spooled literals are not in memory.
    framer = Framer(limits, place=spooling(20, []), spool_above=20)
    stream = b"* 1 FETCH ({30}\r\n" + b"x" * 30 + b"{30}\r\n" + b"y" * 30 + b")\r\n"
    assert [len(literals) for _, literals in frame_chunks([stream], framer)] == [2]


def test_close_frees_what_was_half_received() -> None:
    spools: list[MemorySpool] = []
    framer = Framer(place=spooling(10, spools), spool_above=10)
    assert frame_chunks([b"* 1 FETCH (BODY[1] {20}\r\n" + b"x" * 20 + b" BODY[2] {20}\r\nabc"], framer) == []
    framer.close()
    assert [each.state for each in spools] == ["finished", "discarded"]
    assert not framer.partial
    direct = Framer()
    assert frame_chunks([b"* 1 FETCH (BODY[1] {%d}\r\nabc" % DIRECT_BYTES], direct) == []
    direct.close()
    assert not direct.partial
    # Neither the half literal nor the buffer is kept.
    assert len(direct._buffer) == 1
    assert frame_chunks([STREAM], direct) == EXPECTED


def test_a_large_literal_is_received_in_place() -> None:
    framer = Framer()
    head = b"* 1 FETCH (BODY[] {%d}\r\nabc" % DIRECT_BYTES
    list(receive(framer, head))
    room = framer.buffer()
    assert len(room) == DIRECT_BYTES - 3
    room[:] = b"d" * len(room)
    framer.received(len(room))
    assert list(framer.frames()) == []
    (frame,) = receive(framer, b")\r\n")
    assert isinstance(frame[1][0], bytearray)
    assert framer.copied_bytes == 0


@pytest.mark.parametrize("above", [100, 10**9])
@pytest.mark.parametrize("chunk", [1, 777, 10**9])
def test_what_came_of_an_answer_that_is_cut(above: int, chunk: int) -> None:
    """Wherever it is cut: literals that came whole, and the beginning of a large one where that was going to."""
    small, large = b"a" * 300, bytes(range(1, 10)) * 2000
    first = b"* 1 FETCH (UID 1 BODY[1] {300}\r\n"
    second = b" BODY[2] {%d}\r\n" % len(large)
    stream = first + small + second + large + b")\r\n"
    begin = len(first) + len(small) + len(second)
    positions = [0, 5, len(first), len(first) + 299, len(first) + 300, begin - 1, begin, begin + 1, begin + 9000]
    for position in [*positions, begin + len(large) - 1, begin + len(large), len(stream) - 1]:
        spools: list[MemorySpool] = []
        framer = Framer(place=spooling(above, spools), spool_above=above)
        chunks = [stream[at : min(at + chunk, position)] for at in range(0, position, chunk)]
        assert frame_chunks([b"* OK hello\r\n", *chunks], framer) == [(b"* OK hello", [])]
        cut = framer.cut()
        framer.close()
        came = position - begin
        if position < len(first) + len(small):
            assert cut is None or (above == 100 and not cut.literals and cut.text == first)
            continue
        assert cut is not None
        assert literal_bytes(cut.literals[0]) == small
        if position < begin:
            assert (cut.text, len(cut.literals), cut.place) == (first, 1, None)
        elif came < len(large):
            assert (cut.text, len(cut.literals)) == (first + second, 1)
            assert cut.missing == len(large) - came
            assert isinstance(cut.place, bytearray | MemorySpool)
            data = cut.place if isinstance(cut.place, bytearray) else cut.place.data
            assert data[:came] == large[:came]
            # It was taken out, and is not freed.
            assert all(each.state != "discarded" for each in spools)
        else:
            assert (cut.text, [literal_bytes(one) for one in cut.literals]) == (first + second, [small, large])
            assert cut.place is None


def test_nothing_is_cut_between_answers() -> None:
    framer = Framer()
    assert frame_chunks([b"* 1 FETCH (UID 1 BODY[] {3}\r\nabc)\r\n* 2 FET"], framer) != []
    assert framer.cut() is None


@pytest.mark.parametrize("size", [1, 2, 5, 6, 7, 100])
def test_a_line_without_a_brace_announces_nothing_at_the_beginning_of_a_stream(size: int) -> None:
    framer = Framer()
    stream = b"{3}\r\n\r\n{3}\r\n* OK\r\n"
    found = [frame for at in range(0, len(stream), size) for frame in framer.feed(stream[at : at + size])]
    assert [(text, literals) for text, literals, _ in found] == [(b"{3}\r\n3}", (b"\r\n{",)), (b"* OK", ())]
