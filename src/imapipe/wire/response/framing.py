r"""Framing: the byte stream of a server cut into responses, before anything is parsed.

A response is a line, or several lines with literals between them (RFC 9051 §4.3). The framer looks for
nothing but line ends and, where a line ends in `}`, for a literal marker. So a malformed response never
shifts what follows it, and mail content is never taken for protocol.

What comes out is the pair every parser of this package takes: the text of the response without its final
CRLF, with each literal cut out but its marker `{n}\r\n` left in place, and the literals in order. CRLF
stands in the text only behind a marker.

Invariants:

- Linear: each byte is searched once whatever the chunks are (`_scan` never moves back within a line), and a
  tail is moved only when the buffer is full and at least half of it is free, or the buffer doubles. A buffer that
  grew for one long line goes back to its size when that line is done.
- A literal at least `DIRECT_BYTES` long gets a buffer of its own that the transport fills directly; above
  `spool_above`, and where `place` knows better, it goes to what `place` opens, piece by piece. Where a response
  has much in memory, all but its small literals are to go there.
- Nothing larger than the limits is ever waited for: the error comes when the size is announced.
- `frames()` may be left at any response; `rest()` then gives the bytes behind it untouched (STARTTLS, COMPRESS).
- A status or continuation line ends where its line ends: `{12}` there is text, not a literal (resp-text).
- A long list of messages never stands whole: it comes out as several responses of the same kind (`response.pieces`).

The framer does no I/O; whoever owns it writes into `buffer()` and says how much with `received()`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from imapipe.errors import ResponseTooLarge
from imapipe.wire.response.limits import Limits
from imapipe.wire.response.literal import MARKER, Cut, Literal, SpoolWriter, is_text_line
from imapipe.wire.response.pieces import first_piece

BUFFER_BYTES = 256 * 1024
DIRECT_BYTES = 16 * 1024

# Where a response has so much in memory, its literals are spooled all the same, but for small ones.
MUCH_BYTES = 8 * 1024 * 1024
SMALL_BYTES = 64 * 1024

# What the objects for a line and its literal take beside their bytes.
_PIECE_BYTES = 100

Frame = tuple[bytes, tuple[Literal, ...], int]
"""Text, literals, and the bytes the response took on the wire."""

_NO_LITERALS: tuple[Literal, ...] = ()


class Framer:
    """Cuts what a server sends into responses.

    Args:
        limits: Sizes above which `frames` raises `ResponseTooLarge`; they may change between two chunks.
        place: Opens the place for a literal, or gives None to keep it in memory: by the pieces of the response up to
            its marker, its size, and how much of the response is in memory. Asked for each that is longer than
            `spool_above`, or not whole in the buffer when its turn comes.
        spool_above: Literals longer than this many bytes are not to be kept in memory.
    """

    __slots__ = (
        "_buffer",
        "_direct",
        "_direct_view",
        "_end",
        "_filled",
        "_in_literal",
        "_literals",
        "_need",
        "_pieces",
        "_place",
        "_scan",
        "_size",
        "_spool_above",
        "_spooled",
        "_start",
        "_view",
        "_writer",
        "blank_bytes",
        "copied_bytes",
        "limits",
        "total_bytes",
    )

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        place: Callable[[Sequence[bytes], int, int], SpoolWriter | None] | None = None,
        spool_above: int = 1024 * 1024,
    ) -> None:
        self.limits = limits or Limits()
        self._place = place
        self._spool_above = spool_above
        self._buffer = bytearray(BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._start = self._scan = self._end = 0
        self._pieces: list[bytes] = []
        self._literals: list[Literal] = []
        # Bytes of the response under way, and how many of them are in files.
        self._size = 0
        self._spooled = 0
        # The literal being received: `_need` bytes of it are to come, out of the buffer or straight into `_direct`.
        self._in_literal = False
        self._need = 0
        self._direct: bytearray | None = None
        self._direct_view: memoryview | None = None
        self._filled = 0
        self._writer: SpoolWriter | None = None
        self.total_bytes = 0
        self.copied_bytes = 0
        self.blank_bytes = 0

    @property
    def kept_bytes(self) -> int:
        """Bytes in memory of what is no whole response yet, with the objects for it."""
        return self._end - self._start + self._size - self._spooled + _PIECE_BYTES * len(self._pieces)

    @property
    def partial(self) -> bool:
        """Whether a response has begun and not ended."""
        return self._end > self._start or bool(self._pieces)

    def buffer(self) -> memoryview:
        """Where the next bytes belong; never empty, and not so large that a great many responses come at once."""
        if self._direct_view is not None:
            return self._direct_view[self._filled :]
        if self._end == len(self._buffer):
            self._make_room()
        return self._view[self._end : self._end + BUFFER_BYTES]

    def received(self, count: int) -> None:
        """`count` bytes were written to the start of `buffer()`."""
        self.total_bytes += count
        if self._direct_view is not None:
            self._filled += count
            self._need -= count
        else:
            self._end += count

    def feed(self, data: bytes | memoryview) -> Iterator[Frame]:
        """Take bytes that are already in memory (after inflating, and in tests) and give the responses in them.

        Unlike `frames` it must be run to its end, or the rest of `data` is lost.
        """
        view = memoryview(data)
        while view:
            room = self.buffer()
            count = min(len(room), len(view))
            room[:count] = view[:count]
            view = view[count:]
            self.received(count)
            yield from self.frames()

    def frames(self) -> Iterator[Frame]:
        """Give each response that is complete.

        Raises:
            ResponseTooLarge: A size above the limits was announced or reached.
            OSError: A spooled literal could not be written.
        """
        marker_at = MARKER.match
        pieces, literals, limits = self._pieces, self._literals, self.limits
        piece_bytes = limits.piece_bytes
        whole_literal = self._spool_above if self._place is not None else limits.literal_bytes
        while True:
            if self._in_literal and not self._continue_literal():
                return
            base, end = self._start, self._end
            if end - base > piece_bytes and not pieces and (piece := self._cut_list(base)) is not None:
                yield piece
                continue
            line_end = self._buffer.find(b"\r\n", self._scan, end)
            if line_end < 0:
                self._await_line_end(base)
                return
            if line_end - base > BUFFER_BYTES and not pieces and self._buffer[line_end - 1] != 0x7D:
                # No second copy of what is as long as this.
                yield self._take_line(base, line_end)
                continue
            if pieces:
                in_memory = self._size - self._spooled + end - base
                if in_memory > limits.kept_bytes:
                    self._too_large("a response", in_memory, limits.kept_bytes)
                if in_memory > MUCH_BYTES:
                    whole_literal = min(whole_literal, SMALL_BYTES)
            # Slices of bytes cost half of what those of a view of the buffer do, and there are several a response.
            chunk = bytes(self._view[base:end])
            length = end - base
            start = search = 0
            # LF alone is found several times as fast as CRLF. Where a bare one shows up, CRLF is looked for after all.
            while (at := chunk.find(b"\n", search) - 1) >= -1:
                if at < start or chunk[at] != 0x0D:
                    at = chunk.find(b"\r\n", at + 2)
                    if at < 0:
                        break
                search = after = at + 2
                size = after - start
                if size > piece_bytes and not pieces and (piece := self._cut_list(base + start)) is not None:
                    yield piece
                    break
                if at > start and chunk[at - 1] == 0x7D:
                    brace = chunk.rfind(b"{", start, at)
                    # Without one it is -1, which an expression takes for the beginning.
                    marker = marker_at(chunk, brace) if brace >= 0 else None
                    if marker is not None and (pieces or not is_text_line(chunk, start, after)):
                        # A literal of 18 digits or more is never here, and is judged by `_begin_literal`.
                        stop = after + int(marker[1][:18])
                        if stop > length or stop - after > whole_literal or len(literals) >= limits.literals:
                            self._begin_literal(chunk[start:after], marker[1], base + after)
                            break
                        pieces.append(chunk[start:after])
                        literals.append(chunk[after:stop])
                        self._size += stop - start
                        start = search = stop
                        self._start = self._scan = base + stop
                        continue
                self._start = self._scan = base + after
                if pieces:
                    pieces.append(chunk[start:at])
                    text, found, size = b"".join(pieces), tuple(literals), self._size + size
                    pieces.clear()
                    literals.clear()
                    self._size = self._spooled = 0
                    start = after
                    yield text, found, size
                else:
                    line = chunk[start:at]
                    start = after
                    if line:
                        yield line, _NO_LITERALS, size
                    else:
                        self.blank_bytes += size

    def rest(self) -> bytes:
        """Take out the bytes behind the last response that `frames` gave."""
        rest = bytes(self._view[self._start : self._end])
        self._start = self._scan = self._end = 0
        return rest

    def cut(self) -> Cut | None:
        """Take out what came of a response that will have no end, if a large literal of it came, or a part of one."""
        pieces, place = self._pieces, self._direct or self._writer
        self._writer = None
        if self._in_literal and place is None:
            pieces = pieces[:-1]
        if not pieces:
            return None
        return Cut(b"".join(pieces), tuple(self._literals), place, self._need if place is not None else 0)

    def close(self) -> None:
        """No more bytes will come: free what a half-received response holds."""
        if self._writer is not None:
            self._writer.discard()
            self._writer = None
        self._direct = self._direct_view = None
        self._in_literal = False
        self._need = 0
        self._pieces.clear()
        self._literals.clear()
        self._start = self._scan = self._end = self._size = self._spooled = 0
        # Whoever still holds the connection, to release its messages, holds no buffer.
        self._replace_buffer(bytearray(1))

    def _await_line_end(self, start: int) -> None:
        """No line ends in what is here: see that the search goes on where it stopped."""
        length = self._end - start
        if length > self.limits.line_bytes:
            self._too_large("a line", length, self.limits.line_bytes)
        if length:
            # The last byte may be the CR of the next line end.
            self._scan = max(self._scan, self._end - 1)
            return
        self._start = self._scan = self._end = 0
        if len(self._buffer) > BUFFER_BYTES:
            self._replace_buffer(bytearray(BUFFER_BYTES))

    def _cut_list(self, start: int) -> Frame | None:
        """The beginning of a long list of messages as a response of its own; None for anything else."""
        piece = first_piece(self._view[start : min(start + self.limits.piece_bytes, self._end)])
        if piece is None:
            return None
        text, head, after = piece
        # The rest begins as the list did; what was there has been taken.
        begin = start + after - len(head)
        self._view[begin : start + after] = head
        self._start = begin
        self._scan = max(self._scan, begin)
        return text, _NO_LITERALS, begin - start

    def _take_line(self, start: int, line_end: int) -> Frame:
        """A line that is longer than what comes at a time, in as little memory as it can be had."""
        line = bytes(self._view[start:line_end])
        rest = bytes(self._view[line_end + 2 : self._end])
        self._replace_buffer(bytearray(max(BUFFER_BYTES, len(rest))))
        self._view[: len(rest)] = rest
        self._start = self._scan = 0
        self._end = len(rest)
        return line, _NO_LITERALS, line_end + 2 - start

    def _begin_literal(self, line: bytes, digits: bytes, after: int) -> None:
        """Prepare to receive a literal that is not whole in the buffer, or that belongs elsewhere.

        Args:
            line: The line that announces it, with its CRLF.
            digits: Its size as announced.
            after: Where in the buffer its first byte is, or will be.
        """
        size = int(digits) if len(digits) <= 20 else 10**20
        if size > self.limits.literal_bytes:
            self._too_large("a literal", size, self.limits.literal_bytes)
        if len(self._literals) >= self.limits.literals:
            self._too_large("the number of literals in a response", len(self._literals) + 1, self.limits.literals)
        kept = self._size - self._spooled
        self._pieces.append(line)
        self._size += len(line) + size
        self._writer = self._place(self._pieces, size, kept) if self._place is not None else None
        self._spooled += size if self._writer is not None else 0
        in_memory = self._size - self._spooled
        if in_memory > self.limits.kept_bytes:
            self._too_large("a response", in_memory, self.limits.kept_bytes)
        self._start = self._scan = after
        self._need = size
        self._in_literal = True
        here = self._end - after
        if self._writer is None and size >= DIRECT_BYTES and here < size:
            self._direct = bytearray(size)
            self._direct_view = memoryview(self._direct)
            self._direct_view[:here] = self._view[after : self._end]
            self._filled = here
            self._need -= here
            self._start = self._scan = self._end = 0

    def _continue_literal(self) -> bool:
        """Take what came of the literal under way; whether it is complete."""
        if self._direct is not None:
            if self._need:
                return False
            self._literals.append(self._direct)
            self._direct = self._direct_view = None
            self._in_literal = False
            return True
        start = self._start
        here = self._end - start
        if self._writer is not None:
            count = min(here, self._need)
            self._writer.write(self._view[start : start + count])
            self._need -= count
            self._start = self._scan = start + count
            if self._start == self._end:
                self._start = self._scan = self._end = 0
            if self._need:
                return False
            self._literals.append(self._writer.finish())
            self._writer = None
            self._in_literal = False
            return True
        if here < self._need:
            return False
        self._literals.append(bytes(self._view[start : start + self._need]))
        self._start = self._scan = start + self._need
        self._need = 0
        self._in_literal = False
        return True

    def _make_room(self) -> None:
        """The buffer is full: move the tail to its start, or into a buffer of another size."""
        tail = self._end - self._start
        capacity = len(self._buffer)
        if tail > capacity // 2:
            capacity *= 2
        elif tail <= BUFFER_BYTES // 2:
            capacity = BUFFER_BYTES
        self.copied_bytes += tail
        if capacity == len(self._buffer):
            self._buffer[:tail] = self._buffer[self._start : self._end]
        else:
            other = bytearray(capacity)
            other[:tail] = self._view[self._start : self._end]
            self._replace_buffer(other)
        self._scan -= self._start
        self._start = 0
        self._end = tail

    def _replace_buffer(self, buffer: bytearray) -> None:
        self._buffer = buffer
        self._view = memoryview(buffer)

    def _too_large(self, what: str, size: int, limit: int) -> None:
        raise ResponseTooLarge(f"{what} is too large", size=size, limit=limit, offset=self.total_bytes)
