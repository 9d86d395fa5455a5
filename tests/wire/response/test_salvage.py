"""What is saved of a broken answer; whole dialogues are in `net/test_tolerance`."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.wire.response.calls import calls

from imapipe.wire.command.fetch import PRESETS, Fetch
from imapipe.wire.response.salvage import read_fetch, salvage_fetch, salvage_rest


def saved(text: bytes, *literals: bytes) -> dict[str, bytes]:
    salvage = salvage_fetch(text, literals)
    assert salvage is not None
    return {name: text[span.start : span.end] for name, span in salvage.scan.items.items()}


def test_everything_before_and_the_body_behind_what_is_broken() -> None:
    text = b'* 1 FETCH (UID 2 FLAGS (a) ENVELOPE ("x) RFC822.SIZE 5 BODY[] {3}\r\n INTERNALDATE "d")'
    assert saved(text, b"abc") == {"UID": b"2", "FLAGS": b"(a)", "BODY[]": b"{3}\r\n", "INTERNALDATE": b'"d"'}
    salvage = salvage_fetch(text, (b"abc",))
    assert salvage is not None
    assert (salvage.finished, salvage.scan.uid) == (True, 2)
    assert [note.detail for note in salvage.notes] == ["ENVELOPE cannot be read"]


def test_literals_are_counted_also_in_what_is_passed_over() -> None:
    text = b"* 1 FETCH (X-FOO a ({1}\r\n (b)) {1}\r\n UID 2 BODY[] {1}\r\n)"
    salvage = salvage_fetch(text, (b"x", b"y", b"z"))
    assert salvage is not None
    assert salvage.scan.items["BODY[]"].literal_index == 2


@pytest.mark.parametrize("preset", PRESETS)
def test_whatever_can_be_asked_for_is_found_behind_what_is_broken(preset: str) -> None:
    for name in Fetch(preset).names:
        assert name in saved(b"* 1 FETCH (UID 2 ] " + name.encode() + b" NIL)"), name


def test_uidfetch() -> None:
    salvage = salvage_fetch(b"* 7 UIDFETCH ((FLAGS ()) BODY[] NIL)", ())
    assert salvage is not None
    assert (salvage.scan.seq, salvage.scan.uid) == (0, 7)
    other = salvage_fetch(b"* 7 UIDFETCH ((FLAGS ()) UID 8)", ())
    assert other is not None
    assert other.scan.uid is None


@pytest.mark.parametrize(
    "text", [b"", b"* 1 EXISTS", b"* 1 FETCH (UID 2 BODY[] {1}\r\nrest)", b"* 1 FETCH (UID 2) rest"]
)
def test_nothing_is_saved_of_what_may_be_content(text: bytes) -> None:
    assert salvage_fetch(text, (b"x",)) is None


@pytest.mark.parametrize("text", [b"", b" ", b"X 1)", b"FLAGS () x", b"garbage)", b")x", b"(FLAGS ())", b"FLAGS (a"])
def test_what_does_not_go_on_with_an_answer(text: bytes) -> None:
    assert salvage_rest(text, ()) is None


@pytest.mark.no_cover
@pytest.mark.parametrize(
    "unit",
    [
        b'"',
        b'("',
        b"(",
        b")",
        b"{1}\r\n",
        b"FLAGS (",
        b"FLAGS (a ",
        b"ENVELOPE (",
        b'ENVELOPE "x ',
        b"BODY[HEADER.FIELDS (",
        b'BODY[HEADER.FIELDS ("',
        b"BODY[] {1}\r\n ",
        b"X (a) ",
        b'ENVELOPE ("x BODY[] {1}\r\n ',
        b"FLAGS (( BODY[] {1}\r\n ",
        b"UID 5 ",
    ],
)
def test_it_costs_in_proportion_to_its_length(unit: bytes) -> None:
    def cost(count: int) -> int:
        text = b"* 1 FETCH (UID 1 ENVELOPE (" + unit * count
        literals = (b"x",) * count
        found = 0
        for end in (b"", b"))", b'"))'):
            found += calls(partial(salvage_fetch, text + end, literals))
            found += calls(partial(salvage_rest, unit * count + end, literals))
        return found

    small, large = cost(250), cost(2_000)
    assert large <= 8 * small + 2_000


_PIECES = st.sampled_from(
    rb'UID |7 |FLAGS |ENVELOPE |BODY[] |BODY[HEADER.FIELDS (A)] |NIL |(|)|"|"a" |\|~| |x|[|]|<0>|9.3e+06 '.split(b"|")
) | st.sampled_from([b"{1}\r\n", b"\xff", b"\r", b"\n", b"\0"])


@given(st.lists(_PIECES, max_size=30), st.integers(0, 5))
def test_nothing_comes_out_but_spans_of_the_text(pieces: list[bytes], count: int) -> None:
    literals = (b"x",) * count
    text = b"* 1 FETCH (" + b"".join(pieces) + b")"
    for salvage in (salvage_fetch(text, literals), salvage_rest(text[11:], literals)):
        for span in salvage.scan.items.values() if salvage is not None else ():
            assert 0 <= span.start <= span.end <= len(text)
    salvage = salvage_fetch(text, literals)
    for span in salvage.scan.items.values() if salvage is not None else ():
        assert span.literal_index == (text.count(b"}\r\n", 0, span.start) if literals else 0)


def test_an_error_that_is_told_keeps_nothing_of_the_answer() -> None:
    """Else bodies in files would stay until the collector comes."""
    told = read_fetch(b"* 1 FETCH (UID 1 RFC822.SIZE abc", ())
    assert told.error is not None
    assert told.error.__traceback__ is None
