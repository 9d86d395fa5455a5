"""What reading a value takes of memory: a small multiple of its text, whatever stands in it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imapipe.errors import ProtocolError
from imapipe.wire.response.body_structure import MAX_PARTS, parse_body_structure
from imapipe.wire.response.envelope import parse_envelope
from imapipe.wire.response.fetch import scan_fetch
from imapipe.wire.response.repair import MAX_REPAIRED_BYTES
from imapipe.wire.response.token import MAX_TOKENS, unquote

SIZE = 300_000


def subject(repeated: bytes) -> bytes:
    return b'ENVELOPE (NIL "' + repeated * (SIZE // len(repeated)) + b'" NIL NIL NIL NIL NIL NIL NIL NIL)'


def addresses(repeated: bytes) -> bytes:
    return b"ENVELOPE (NIL NIL (" + repeated * (SIZE // len(repeated)) + b") NIL NIL NIL NIL NIL NIL NIL)"


def structure(head: bytes, repeated: bytes, tail: bytes) -> bytes:
    return b"BODYSTRUCTURE (" + head + repeated * (SIZE // len(repeated)) + tail + b")"


def read(item: bytes) -> None:
    text = b"* 1 FETCH (UID 1 " + item + b")"
    try:
        items = scan_fetch(text).items
        if "ENVELOPE" in items:
            envelope = parse_envelope(text, (), items["ENVELOPE"])
            assert isinstance(envelope.subject, str)
            assert isinstance(envelope.from_, tuple)
        else:
            parse_body_structure(text, (), items["BODYSTRUCTURE"])
    except ProtocolError:
        # It costs that item, or that message.
        pass


HEAD = b'"TEXT" "PLAIN" '
VALUES: dict[str, Callable[[], bytes]] = {
    # 4 MB of this took 591 MB, and the last but one of BODYSTRUCTURE 200 times its size.
    "escaped-quotes": lambda: subject(b'\\"'),
    "backslashes": lambda: subject(b"\\\\"),
    "bare-quotes": lambda: subject(b'"'),
    "encoded-words": lambda: subject(b"=?utf-8?q?a?= "),
    "addresses": lambda: addresses(b'("n" NIL "m" "h")'),
    "escaped-addresses": lambda: addresses(b'("\\"" NIL "m" "h")'),
    "parts": lambda: structure(b"", b'("TEXT" "PLAIN" NIL NIL NIL "7BIT" 1 1)', b' "MIXED"'),
    "small-parts": lambda: structure(b"", b'("A" "B")', b' "MIXED"'),
    "no-parts": lambda: structure(b"", b"()", b""),
    "parameters": lambda: structure(HEAD + b"(", b'"a" "b" ', b') NIL NIL "7BIT" 1 1'),
    "languages": lambda: structure(HEAD + b'NIL NIL NIL "7BIT" 1 1 NIL NIL (', b'"a" ', b")"),
    "extensions": lambda: structure(HEAD + b'NIL NIL NIL "7BIT" 1 1 NIL NIL NIL NIL ', b"() ", b""),
    "atoms": lambda: structure(b"", b"a ", b""),
}


@pytest.mark.slow
@pytest.mark.no_cover
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())
def test_a_value_takes_less_than_fifty_times_its_size(value: Callable[[], bytes]) -> None:
    item = value()
    tracemalloc.start()
    try:
        read(item)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 50 * SIZE


def test_more_parts_than_any_mail_has_are_no_structure() -> None:
    for count, is_structure in ((MAX_PARTS, True), (MAX_PARTS + 1, False)):
        item = b"BODYSTRUCTURE (" + b'("TEXT" "PLAIN")' * count + b' "MIXED")'
        text = b"* 1 FETCH (UID 1 " + item + b")"
        span = scan_fetch(text).items["BODYSTRUCTURE"]
        if is_structure:
            assert len(parse_body_structure(text, (), span).parts) == count
        else:
            with pytest.raises(ProtocolError, match="parts"):
                parse_body_structure(text, (), span)


@pytest.mark.no_cover
def test_more_tokens_than_any_value_has_are_no_value() -> None:
    for count, is_structure in ((MAX_TOKENS - 100, True), (MAX_TOKENS, False)):
        text = b'("TEXT" "PLAIN" NIL NIL NIL "7BIT" 1 1 NIL NIL NIL NIL' + b" a" * count + b")"
        span = scan_fetch(b"* 1 FETCH (BODYSTRUCTURE " + text + b")").items["BODYSTRUCTURE"]
        if is_structure:
            assert parse_body_structure(text, (), span._replace(start=0, end=len(text))).size == 1
        else:
            with pytest.raises(ProtocolError):
                parse_body_structure(text, (), span._replace(start=0, end=len(text)))


def test_what_is_not_escaped_is_guessed_at_up_to_a_size() -> None:
    for size, is_read in ((1000, True), (MAX_REPAIRED_BYTES, False)):
        text = b'(NIL "5" disk' + b"x" * size + b'" NIL NIL NIL NIL NIL NIL NIL NIL)'
        line = b"* 1 FETCH (UID 1 ENVELOPE " + text + b")"
        if is_read:
            assert parse_envelope(line, (), scan_fetch(line).items["ENVELOPE"]).subject.startswith('5" disk')
        else:
            with pytest.raises(ProtocolError):
                parse_envelope(line, (), scan_fetch(line).items["ENVELOPE"])


@given(st.text(alphabet='\\"ab', max_size=30).map(str.encode))
def test_escapes_are_undone_from_left_to_right(content: bytes) -> None:
    quoted = b'"' + content.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
    assert unquote(quoted) == content
