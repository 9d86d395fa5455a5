"""The encoder: what it writes is read back as meant by the testing server's own reader, or it is refused."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from imapipe.testing.arguments import Arguments
from imapipe.testing.mailboxes import decode_mailbox_name
from imapipe.testing.ranges import parse_set
from imapipe.wire.command import encoder
from imapipe.wire.command.append import NewMessage, append
from imapipe.wire.command.encoder import Dialect, Request, Word
from imapipe.wire.literal_argument import Body, LiteralArgument
from imapipe.wire.uid_set import UidSet

PLAIN, MINUS, PLUS = Dialect(), Dialect(literal_minus=True), Dialect(literal_plus=True)
UTF8 = Dialect(utf8=True)
DIALECTS = st.sampled_from([PLAIN, MINUS, PLUS, UTF8])
ANY_TEXT = st.text(st.characters(), max_size=40) | st.text('a&"\\ é{}()%*\r\n\0', max_size=12)


def whole(request: Request) -> bytes:
    """All that is sent, whoever must ask for it."""
    return b"".join(
        part if isinstance(part, bytes) else b"?" * part.size
        for piece in request.pieces
        for part in ([piece] if isinstance(piece, bytes) else piece)
    )


def as_the_server_reads(request: Request) -> Arguments:
    """The words behind the name, literals taken out as the testing server does it."""
    text, rest, literals = b"", whole(request), list[bytes]()
    while True:
        line, _, rest = rest.partition(b"\r\n")
        text += line
        marker = encoder._LITERAL_END.search(line)
        if marker is None:
            break
        size = int(marker[0].strip(b"{+}"))
        literals.append(rest[:size])
        text, rest = text + b"\r\n", rest[size:]
    assert rest == b""
    arguments = Arguments(text, literals)
    arguments.at = len(request.name)
    return arguments


def read(word: Word, how: Callable[[Arguments], object]) -> object:
    """One word, as the server reads it, with nothing before or behind it."""
    arguments = as_the_server_reads(Request("X", word))
    arguments.space()
    value = how(arguments)
    arguments.end()
    return value


def cannot_stand(text: str) -> bool:
    return any(character in "\r\n\0" or "\ud800" <= character <= "\udfff" for character in text)


@given(ANY_TEXT, DIALECTS)
@example("", PLAIN)
@example("x" * 1001, PLAIN)
@example("é" * 3000, MINUS)
def test_any_text_is_read_back_or_refused(text: str, dialect: Dialect) -> None:
    if cannot_stand(text):
        with pytest.raises(ValueError):
            dialect.string(text)
        return
    assert read(dialect.nstring(text), Arguments.nstring) == text.encode()


@given(ANY_TEXT, DIALECTS)
@example("&", PLAIN)
@example('Entwürfe/日本 & "x"\\', PLAIN)
def test_any_mailbox_name_is_read_back_or_refused(name: str, dialect: Dialect) -> None:
    try:
        word = dialect.mailbox(name)
    except ValueError:
        assert cannot_stand(name) or any("\uf700" <= character <= "\uf7ff" for character in name)
        return
    assert not cannot_stand(name)
    raw = read(word, Arguments.astring)
    assert isinstance(raw, bytes)
    if not any("\uf700" <= character <= "\uf7ff" for character in name):
        found = raw.decode() if dialect.utf8 else decode_mailbox_name(raw)
        assert found == ("INBOX" if name.upper() == "INBOX" and name.isascii() else name)
    assert read(dialect.list_mailbox(name), Arguments.list_mailbox) == raw


@given(ANY_TEXT)
@example("CONDSTORE\r\nX1 DELETE INBOX")
@example("UTF8=ACCEPT")
@example("A)")
@example("{5}")
@example("a]")
@example("")
def test_an_atom_is_one_or_refused(text: str) -> None:
    # RFC 9051 §9: any CHAR but CTL, SP and ( ) { % * " \\ ].
    if not text or any(not "!" <= character <= "~" or character in '(){%*"\\]' for character in text):
        with pytest.raises(ValueError, match="a word is a word of ASCII"):
            encoder.atom(text, "a word")
        return
    assert read(encoder.atom(text, "a word"), Arguments.atom) == text.encode()


@given(st.lists(ANY_TEXT | st.sampled_from(["\\Seen", "$Junk", "\\Recent", "\\*", "\\"]), max_size=3))
def test_flags_are_read_back_or_refused(flags: list[str]) -> None:
    try:
        word = encoder.flag_list(flags)
    except ValueError:
        return
    assert "\\Recent" not in flags
    assert read(word, Arguments.flag_list) == list(dict.fromkeys(flags))


@pytest.mark.parametrize("flag", ["\\Recent", "\\recent", "\\*", "\\", "", "a b", "\\Seen)", "é", 5, None])
def test_what_is_no_flag(flag: object) -> None:
    with pytest.raises(ValueError, match="a flag"):
        encoder.flag_list([flag])  # type: ignore[list-item]


@given(st.sets(st.integers(1, 2**32 - 1), min_size=1, max_size=20))
def test_uids_are_read_back(uids: set[int]) -> None:
    text = read(encoder.sequence_set(UidSet.from_numbers(uids)), Arguments.sequence_set)
    assert isinstance(text, bytes)
    assert {uid for low, high in parse_set(text) for uid in range(low, high + 1)} >= uids


@pytest.mark.parametrize("uids", [UidSet(), "1:*\r\n", None])
def test_what_is_no_set(uids: object) -> None:
    with pytest.raises(ValueError, match="at least one UID"):
        encoder.sequence_set(uids)


ZONES = st.builds(timezone, st.integers(-14 * 60, 14 * 60).map(lambda minutes: timedelta(minutes=minutes)))


@given(st.datetimes(timezones=ZONES).filter(lambda moment: moment.year > 1))
def test_dates_are_read_back(moment: datetime) -> None:
    assert read(encoder.date_time(moment), Arguments.date_time) == moment.replace(microsecond=0)
    assert Arguments(encoder.date_time(moment)).date_time().utcoffset() == moment.utcoffset()


def test_dates_beside_the_usual() -> None:
    assert encoder.date_time(datetime(2024, 3, 1, 2, 3, 4, tzinfo=UTC)) == b'"01-Mar-2024 02:03:04 +0000"'
    odd = timezone(timedelta(hours=-5, minutes=-30, seconds=-7))
    assert encoder.date_time(datetime(1880, 3, 1, tzinfo=odd)) == b'"01-Mar-1880 05:30:07 +0000"'
    for no_moment in (datetime(2024, 3, 1), date(2024, 3, 1), "01-Mar-2024\r\n"):  # noqa: DTZ001
        with pytest.raises(ValueError, match="with a zone"):
            encoder.date_time(no_moment)


@pytest.mark.parametrize("value", [-1, 0, True, 1.5, "1\r\nX", None, 2**63])
def test_what_is_no_number(value: object) -> None:
    with pytest.raises(ValueError, match="the size is a whole number"):
        encoder.number(value, "the size", low=1)
    assert encoder.number(2**63 - 1, "the size") == b"%d" % (2**63 - 1)


@pytest.mark.parametrize("words", ["MESSAGES", [], ["A", "B C"], ["A", "B\r\n"], [5]])
def test_what_is_no_list_of_words(words: Iterable[str]) -> None:
    with pytest.raises(ValueError, match="an item"):
        encoder.atoms(words, "an item")


# -- requests ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [b"a\r\nb", b"a\rb", b"a\nb", b"a\0b"])
@pytest.mark.parametrize("beside", [(), (LiteralArgument(b"x", synchronising=True),)])
def test_no_word_breaks_the_line(bad: bytes, beside: tuple[Word, ...]) -> None:
    for words in ((bad, *beside), (*beside, bad), ((bad, *beside),)):
        with pytest.raises(ValueError, match="CR, LF and NUL"):
            Request("X", *words)


@pytest.mark.parametrize("end", [b"{5}", b"{5+}", b"~{5}", b"SUBJECT {17}"])
@pytest.mark.parametrize("beside", [(), (LiteralArgument(b"x", synchronising=True),)])
def test_no_command_takes_the_next_one_for_its_literal(end: bytes, beside: tuple[Word, ...]) -> None:
    with pytest.raises(ValueError, match="like a literal"):
        Request("X", *beside, end)
    assert whole(Request("X", *beside, b'"' + end + b'"')).endswith(b'}"\r\n')


def test_a_literal_waits_where_it_must() -> None:
    text = "é" * 3000
    pieces = Request("X", PLAIN.string("é"), b"A", PLAIN.string("ü")).pieces
    assert pieces == (b"X {2}\r\n", b"\xc3\xa9 A {2}\r\n", b"\xc3\xbc\r\n")
    assert Request("X", MINUS.string("é"), b"A").pieces == (b"X {2+}\r\n\xc3\xa9 A\r\n",)
    assert len(Request("X", MINUS.string(text), b"A").pieces) == 2
    assert len(Request("X", PLUS.string(text), b"A").pieces) == 1
    # More than a mebibyte is not sent in the hope that it is taken.
    assert not PLUS.literal(b"x" * 2**20).synchronising
    assert PLUS.literal(b"x" * (2**20 + 1)).synchronising


def test_large_literals_and_bodies_stay_what_they_are() -> None:
    large = b"x" * 100_000
    body = Body(io.BytesIO(b"abc"), 3)
    request = append("INBOX", [NewMessage(large), NewMessage(body), NewMessage(b"small")], PLUS)
    (piece,) = request.pieces
    assert isinstance(piece, tuple)
    assert piece[0] == b'APPEND "INBOX" {100000+}\r\n'
    assert piece[1] is large
    assert piece[2:] == (b" {3+}\r\n", body, b" {5+}\r\nsmall\r\n")


def test_what_is_no_body() -> None:
    for source, size in ((io.BytesIO(), -1), (io.BytesIO(), True), (io.BytesIO(), 1.5), (b"abc", 3), ([b"abc"], 3)):
        with pytest.raises(ValueError, match="of a body"):
            Body(source, size)  # type: ignore[arg-type]
    file = io.BytesIO(b"0123456789")
    file.seek(4)
    assert Body.from_file(file).size == 6
    assert file.tell() == 4
    for message in (NewMessage(b""), NewMessage(Body(io.BytesIO(), 0))):
        with pytest.raises(ValueError, match="no bytes"):
            append("INBOX", [message], PLAIN)
    with pytest.raises(ValueError, match="at least one message"):
        append("INBOX", [], PLAIN)


def test_nothing_shows_what_may_be_secret() -> None:
    assert repr(Request("LOGIN", PLAIN.string("ann"), PLAIN.string("secret"))) == "<Request LOGIN>"
    with pytest.raises(ValueError) as caught:
        PLAIN.string("secret\r\n")
    assert "secret" not in str(caught.value)


def test_room_for_uids() -> None:
    assert encoder.uid_text_room(b"UID FETCH (UID FLAGS)") == 8000 - 20 - 21
    assert encoder.uid_text_room(b"x" * 9000) == 1000
    uids = UidSet.from_numbers(range(1, 2**16, 2))
    part, _ = uids.take_within(len(uids), encoder.uid_text_room(b"UID FETCH (UID FLAGS)"))
    assert len(b"P1234567 " + whole(Request("UID FETCH", encoder.sequence_set(part), b"(UID FLAGS)"))) <= 8000
