"""What is fuzzed besides the parsers one by one: the framer, whole messages, growth."""

from __future__ import annotations

import random
from collections.abc import Iterator

from fuzz.growth import pumped, superlinear
from fuzz.parsers import Parser, check, literals_of, look_at
from imapipe.errors import ProtocolError, ResponseTooLarge
from imapipe.models.message import FoundItem, Message, MessageContext
from imapipe.wire.command.fetch import Fetch
from imapipe.wire.response.fetch import scan_fetch
from imapipe.wire.response.framing import Frame, Framer
from imapipe.wire.response.item_value import is_readable
from imapipe.wire.response.limits import Limits
from imapipe.wire.response.salvage import salvage_fetch

LIMITS = Limits(line_bytes=2000, piece_bytes=300, literal_bytes=2000, kept_bytes=5000, literals=20)


def frames_of(stream: bytes, cuts: Iterator[int]) -> list[Frame]:
    """The responses in a stream that comes in pieces, as far as the limits let it."""
    framer = Framer(LIMITS)
    frames: list[Frame] = []
    position = 0
    try:
        while position < len(stream):
            size = next(cuts)
            frames += framer.feed(stream[position : position + size])
            position += size
    except ResponseTooLarge:
        # Where it is noticed depends on the pieces; that it is does not.
        frames.append((b"too large", (), 0))
    return frames


def check_framer(stream: bytes, seed: int) -> None:
    """What comes out depends on nothing but the stream."""
    chance = random.Random(seed)
    sizes = (chance.choice((1, 2, 7, 50, 1000)) for _ in iter(int, 1))
    whole = frames_of(stream, iter(lambda: len(stream) or 1, 0))
    cut = frames_of(stream, sizes)
    if b"too large" in (frame[0] for frame in (*whole[-1:], *cut[-1:])):
        whole, cut = whole[: min(len(whole), len(cut)) - 1], cut[: min(len(whole), len(cut)) - 1]
    assert whole == cut, f"{whole!r} came of the whole, {cut!r} of pieces"


def check_message(data: bytes, answer: bytes) -> None:
    """A message with this body, and one of this answer, raise what they document when everything of them is read."""
    context = MessageContext("INBOX", 1, Fetch("full", "envelope", "structure"))
    whole, body = b"* 1 FETCH (UID 1 BODY[] {%d}\r\n)" % len(data), (data,)
    for text, found in ((whole, body), (answer, literals_of(answer))):
        try:
            scan = scan_fetch(text, found)
        except ProtocolError:
            salvage = salvage_fetch(text, found)
            if salvage is None:
                continue
            scan = salvage.scan
        # What cannot be read is no item of a message, and without its body none is delivered (`net.arrivals`).
        items = {
            name: FoundItem(text, found, span) for name, span in scan.items.items() if is_readable(name, text, span)
        }
        items.setdefault("BODY[]", FoundItem(whole, body, scan_fetch(whole, body).items["BODY[]"]))
        look_at(Message.from_items(context, scan.uid or 1, len(text), items, found))


def check_growth(parser: Parser, parts: tuple[bytes, bytes, bytes]) -> None:
    """The time of a parser is in proportion to its input."""

    def make(size: int) -> bytes:
        return pumped(*parts, size)

    check(parser, make(8))
    times = superlinear(parser.parse, make, (8, 64, 512, 4096))
    assert times is None, f"{parser.name} of {parts!r}: {times:.0f} times as long for 8 times as much"
