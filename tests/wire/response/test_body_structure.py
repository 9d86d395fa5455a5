"""BODYSTRUCTURE: parts, their numbers, and what servers leave out or get wrong."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imapipe.errors import NestedTooDeeply, ProtocolError
from imapipe.wire.response.body_structure import BodyStructure, parse_body_structure
from imapipe.wire.response.fetch import scan_fetch
from imapipe.wire.response.literal import Literal
from imapipe.wire.response.token import MAX_DEPTH, ItemSpan


def parse(value: bytes, literals: Sequence[Literal] = ()) -> BodyStructure:
    """Parse as part of a response, so that the scan is tested with it."""
    text = b"* 1 FETCH (BODYSTRUCTURE " + value + b" UID 7)"
    scan = scan_fetch(text, literals)
    assert scan.uid == 7
    return parse_body_structure(text, literals, scan.items["BODYSTRUCTURE"])


PLAIN = b'("TEXT" "PLAIN" ("CHARSET" "UTF-8") NIL NIL "7BIT" 2279 48)'
HTML = b'("text" "html" ("charset" "utf-8") NIL NIL "quoted-printable" 300 10 NIL ("inline" NIL) "en" NIL)'
PDF = (
    b'("application" "pdf" ("name" "a.pdf") "<c@d>" "my file" "base64" 9000 "md5==" ("attachment" ("filename" "b.pdf"))'
    b' ("en" "de") "http://x")'
)
ENVELOPE = b'("Wed, 17 Jul 1996 02:44:25 -0700" "inner" (("A" NIL "a" "b.c")) NIL NIL NIL NIL NIL NIL "<i@j>")'


def numbers(structure: BodyStructure) -> list[tuple[str, str]]:
    return [(part.number, part.content_type) for part in structure.walk()]


def test_a_single_text() -> None:
    part = parse(PLAIN)
    assert part == BodyStructure("1", "text", "plain", {"charset": "UTF-8"}, encoding="7bit", size=2279, lines=48)
    assert not part.is_multipart
    assert not part.is_attachment
    assert part.filename == ""


def test_everything_an_attachment_can_say() -> None:
    part = parse(PDF)
    assert part == BodyStructure(
        "1",
        "application",
        "pdf",
        {"name": "a.pdf"},
        id="<c@d>",
        description="my file",
        encoding="base64",
        size=9000,
        md5="md5==",
        disposition="attachment",
        disposition_parameters={"filename": "b.pdf"},
        language=("en", "de"),
        location="http://x",
    )
    assert part.is_attachment
    assert part.filename == "b.pdf"


def test_nested_parts_and_their_numbers() -> None:
    structure = parse(
        b"(("
        + PLAIN
        + HTML
        + b' "ALTERNATIVE" ("BOUNDARY" "x") NIL NIL)'
        + PDF
        + b' "MIXED" ("BOUNDARY" "y") NIL "fr" "loc")'
    )
    assert numbers(structure) == [
        ("TEXT", "multipart/mixed"),
        ("1", "multipart/alternative"),
        ("1.1", "text/plain"),
        ("1.2", "text/html"),
        ("2", "application/pdf"),
    ]
    assert structure.parameters == {"boundary": "y"}
    assert (structure.language, structure.location) == (("fr",), "loc")
    html = structure.parts[0].parts[1]
    assert (html.disposition, html.lines, html.language) == ("inline", 10, ("en",))


def test_messages_in_messages() -> None:
    inner = b"(" + PLAIN + PDF + b' "MIXED")'
    structure = parse(
        b"("
        + PLAIN
        + b'("message" "rfc822" NIL NIL NIL "7bit" 5000 '
        + ENVELOPE
        + inner
        + b' 99 NIL ("attachment" NIL))'
        b'("message" "rfc822" NIL NIL NIL "7bit" 500 ' + ENVELOPE + b" " + PLAIN + b' 9) "DIGEST")'
    )
    assert numbers(structure) == [
        ("TEXT", "multipart/digest"),
        ("1", "text/plain"),
        ("2", "message/rfc822"),
        ("2.TEXT", "multipart/mixed"),
        ("2.1", "text/plain"),
        ("2.2", "application/pdf"),
        ("3", "message/rfc822"),
        ("3.1", "text/plain"),
    ]
    message = structure.parts[1]
    assert message.envelope is not None
    assert message.envelope.subject == "inner"
    assert (message.lines, message.size, message.disposition) == (99, 5000, "attachment")
    assert parse(b'("message" "rfc822" NIL NIL NIL "7bit" 5 ' + ENVELOPE + PLAIN + b" 9)").parts[0].number == "1.1"


def test_literals() -> None:
    part = parse(
        b'("application" "pdf" ("name" {5}\r\n) NIL {4}\r\n "base64" 10 NIL ("attachment" ("filename" {6}\r\n)))',
        (b'a"b\\c', b"desc", b"\xc3\xa9.pdf"),
    )
    assert (part.parameters["name"], part.description, part.filename) == ('a"b\\c', "desc", "é.pdf")


@pytest.mark.parametrize(
    ("parameters", "filename"),
    [
        (b'"filename" "=?utf-8?B?w6kucGRm?="', "é.pdf"),
        (b'"FILENAME*" "utf-8\'en\'%c3%a9.pdf"', "é.pdf"),
        (b'"filename*0*" "iso-8859-1\'\'%e9" "filename*1" "%41" "filename*2*" "%2epdf"', "é%41.pdf"),
        (b'"filename*1" "b.pdf" "filename*0" "a"', "ab.pdf"),
        (b'"filename" "old.pdf" "filename*" "utf-8\'\'new.pdf"', "new.pdf"),
        (b'"filename*" "plain.pdf"', "plain.pdf"),
        (b'"filename*" "no-such-charset\'\'%c3%a9"', "é"),
        (b'"filename*" "x?y\'\'%41"', "x?y''A"),
        (b'"filename*" "utf-8\'\'"', ""),
        (b'"filename" "first" "filename" "second"', "first"),
        (b'"filename" "caf\xe9"', "café"),
        (b'"*" "x" "filename" "y"', "y"),
        (b'"filename" NIL', ""),
    ],
)
def test_file_names(parameters: bytes, filename: str) -> None:
    part = parse(b'("image" "png" NIL NIL NIL "base64" 1 NIL ("attachment" (' + parameters + b")))")
    assert part.filename == filename


def test_what_is_an_attachment() -> None:
    def part(disposition: bytes, name: bytes = b"NIL") -> BodyStructure:
        return parse(b'("image" "png" ' + name + b' NIL NIL "base64" 1 NIL ' + disposition + b")")

    assert part(b'("attachment" NIL)').is_attachment
    assert part(b"NIL", b'("name" "x.png")').is_attachment
    assert not part(b'("inline" ("filename" "x.png"))').is_attachment
    assert not part(b"NIL").is_attachment


# ---------------------------------------------------------------- what servers get wrong


@pytest.mark.parametrize(
    "value",
    [
        b'(NIL "alternative" ("boundary" "x") NIL NIL NIL)',
        b'(NIL "ALTERNATIVE" ("BOUNDARY" "x") NIL NIL)',
        b'("alternative" ("boundary" "x") NIL NIL)',
    ],
)
def test_empty_multipart(value: bytes) -> None:
    assert parse(value) == BodyStructure("TEXT", "multipart", "alternative", {"boundary": "x"})
    mixed = parse(b"(" + value + PLAIN + b' "MIXED" NIL)')
    assert numbers(mixed) == [("TEXT", "multipart/mixed"), ("1", "multipart/alternative"), ("2", "text/plain")]


@pytest.mark.parametrize("value", [b"(NIL NIL NIL NIL NIL NIL NIL)", b"(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)"])
def test_all_nil_part(value: bytes) -> None:
    assert parse(value) == BodyStructure("1", "", "")
    assert parse(value).content_type == "application/octet-stream"
    assert numbers(parse(b"(" + value + PLAIN + b' "MIXED")'))[1:] == [
        ("1", "application/octet-stream"),
        ("2", "text/plain"),
    ]


def test_bare_disposition() -> None:
    for disposition in (b'"attachment"', b'("attachment")', b'("ATTACHMENT" NIL)', b'("attachment" "x" "y")'):
        assert parse(b'("image" "png" NIL NIL NIL "base64" 1 NIL ' + disposition + b" NIL NIL)").is_attachment
    part = parse(b'("image" "png" NIL NIL NIL "base64" 1 NIL ("attachment" "filename" "y"))')
    assert part.filename == "y"


@pytest.mark.parametrize(
    ("size", "lines", "expected"),
    [
        (b"-1", b"-1", (0, None)),
        (b"9.3736e+06", b"12", (9_373_600, 12)),
        (b"NIL", b"NIL", (0, None)),
        (b"4294967296", b"0", (4_294_967_296, 0)),
        # No table of a sink or an index could keep more.
        (b"18446744073709551615", b"99999999999999999999", (2**63 - 1, 2**63 - 1)),
    ],
)
def test_odd_numbers(size: bytes, lines: bytes, expected: tuple[int, int | None]) -> None:
    part = parse(b'("text" "plain" NIL NIL NIL "7bit" ' + size + b" " + lines + b' NIL ("inline" NIL))')
    assert (part.size, part.lines) == expected
    assert part.disposition == ("inline" if lines != b"NIL" else part.disposition)


def test_text_without_lines() -> None:
    part = parse(b'("text" "calendar" NIL NIL NIL "7bit" 5 NIL ("attachment" ("filename" "a.ics")))')
    assert (part.lines, part.filename) == (None, "a.ics")


@pytest.mark.parametrize(
    ("rest", "lines", "parts", "attached"),
    [
        (b"", None, 0, False),
        (b' NIL ("attachment" NIL) NIL NIL', None, 0, True),
        (b" NIL NIL 7", 7, 0, False),
        (b' NIL NIL 7 NIL ("attachment" NIL)', 7, 0, True),
        (b" NIL " + PLAIN + b' 7 NIL ("attachment" NIL)', 7, 1, True),
        (b" " + PLAIN + b" 7", 7, 1, False),
        (b' 7 NIL ("attachment" NIL)', 7, 0, True),
        (b" " + ENVELOPE + b' NIL 7 NIL ("attachment" NIL)', 7, 0, True),
        (b" " + ENVELOPE, None, 0, False),
    ],
)
def test_message_without_envelope_or_body(rest: bytes, lines: int | None, parts: int, attached: bool) -> None:
    part = parse(b'("message" "rfc822" NIL NIL NIL "7bit" 500' + rest + b")")
    assert (part.lines, len(part.parts), part.is_attachment) == (lines, parts, attached)
    assert (part.envelope is not None) == (ENVELOPE in rest)


ODD_ENVELOPE = b'(NIL "inner" (NIL ("n" NIL "promo" "example.org")) NIL NIL NIL NIL NIL NIL)'


@pytest.mark.parametrize(
    ("rest", "subject", "lines", "parts"),
    [
        # A body that is `()`, and the number of its lines.
        (b" " + ENVELOPE + b' () 0 NIL ("attachment" NIL)', "inner", 0, []),
        (b" NIL () 0 NIL NIL", None, 0, []),
        (b" " + ENVELOPE + b" () NIL NIL", "inner", None, []),
        # An envelope that is not what it should be, in front of a body or of none.
        (b" " + ODD_ENVELOPE + b" " + PLAIN + b" 9", "inner", 9, ["text/plain"]),
        (b" () " + PLAIN + b" 9", None, 9, ["text/plain"]),
        # An empty multipart in a message (MailKit 1393), one whose subject is the name of a multipart.
        (
            b" " + ENVELOPE + b' (NIL "alternative" ("boundary" "x") NIL NIL NIL) 17',
            "inner",
            17,
            ["multipart/alternative"],
        ),
        (b' (NIL "report" NIL NIL NIL NIL NIL NIL NIL NIL) ' + PLAIN + b" 9", "report", 9, ["text/plain"]),
    ],
)
def test_messages_with_an_odd_envelope_or_body(
    rest: bytes, subject: str | None, lines: int | None, parts: list[str]
) -> None:
    structure = parse(b"(" + PLAIN + b'("message" "rfc822" NIL NIL NIL "7bit" 500' + rest + b')"MIXED")')
    part = structure.parts[1]
    assert (part.envelope.subject if part.envelope is not None else None) == subject
    assert (part.lines, [inner.content_type for inner in part.parts]) == (lines, parts)
    assert part.disposition in ("", "attachment")
    assert part.size == 500


@pytest.mark.parametrize(
    ("value", "types"),
    [
        # Parts that are multiparts without parts (Gmail: MailKit 371).
        (b"(" + PLAIN + b'("RELATED" NIL ("ATTACHMENT" NIL) NIL) "MIXED")', ["text/plain", "multipart/related"]),
        # A disposition that is a bare string (javamail 278).
        (b"(" + PLAIN + b' "mixed" ("boundary" "x") "S/MIME Encrypted Message" NIL)', ["text/plain"]),
        # Parameters where the MD5 belongs (libetpan 217).
        (b'(("TEXT" "PLAIN" NIL NIL NIL NIL 0 0 ("BOUNDARY" "x") NIL NIL) "RELATED")', ["text/plain"]),
        # Quotes that are not escaped (163.com: go-imap 659; mailcore2 1473).
        (
            b"(" + PLAIN + b'("application" "octet-stream" ("name" "a.pdf") NIL """" "base64" 9) "MIXED")',
            ["text/plain", "application/octet-stream"],
        ),
        # A part that says nothing, and one without its size (Yandex: MailKit 1861).
        (
            b"(()" + PLAIN + b'("image" "png" NIL NIL NIL "base64") "MIXED")',
            ["application/octet-stream", "text/plain", "image/png"],
        ),
        # A body type that no RFC knows, with lists in it.
        (b'(("x" "y" (("a")) (("b")) NIL "7bit" 5 (NIL) ((("c")))) "MIXED")', ["x/y"]),
    ],
)
def test_structures_that_other_clients_could_not_read(value: bytes, types: list[str]) -> None:
    assert [part.content_type for part in parse(value).parts] == types


def test_other_message_types_have_no_body() -> None:
    part = parse(b'("message" "delivery-status" NIL NIL NIL "7bit" 500 NIL ("inline" NIL))')
    assert (part.content_type, part.disposition, part.parts) == ("message/delivery-status", "inline", ())


@pytest.mark.parametrize("name", [b'"a "b" c.pdf"', b'"a "b c" d.pdf"', b'"C:\\x\\"', b'"a "b""', b'"5" (disk).pdf"'])
def test_file_names_that_are_not_escaped(name: bytes) -> None:
    structure = parse(
        b"(" + PLAIN + b'("image" "png" NIL NIL NIL "base64" 9 NIL ("attachment" ("filename" ' + name + b")) NIL NIL)"
        b' "MIXED" ("boundary" "x") NIL NIL)'
    )
    assert structure.parts[1].filename == name[1:-1].decode()
    assert structure.parts[1].size == 9
    assert structure.parameters == {"boundary": "x"}


@pytest.mark.parametrize("value", [b"", b"NIL", b"()", b'"text"', b'("text" "plain', b"(" + PLAIN + b' "MIXED"'])
def test_the_hopeless(value: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_body_structure(value, (), ItemSpan(0, len(value), 0))


def test_odd_parameters_are_read_as_far_as_they_go() -> None:
    assert parse(b'("text" "plain" ("charset") NIL NIL "7bit" 5 1)').size == 5
    assert parse(b'("text" "plain" "utf-8" NIL NIL "7bit" 5 1)').parameters == {}
    assert parse(b'("text" "plain" ("charset" "utf-8" "x") NIL NIL "7bit" 5 1)').parameters == {"charset": "utf-8"}


@pytest.mark.parametrize("depth", [50, MAX_DEPTH - 2])
def test_deep_nesting(depth: int) -> None:
    structure = parse(b"(" * depth + PLAIN + b' "MIXED")' * depth)
    parts = list(structure.walk())
    assert len(parts) == depth + 1
    assert parts[-1].number == ".".join(["1"] * depth)


def test_deeper_than_the_limit() -> None:
    value = b"(" * 5000 + PLAIN + b' "MIXED")' * 5000
    with pytest.raises(NestedTooDeeply):
        parse_body_structure(value, (), ItemSpan(0, len(value), 0))


def test_very_many_parts() -> None:
    structure = parse(b"(" + PLAIN * 5000 + b' "MIXED")')
    assert [part.number for part in structure.walk()][-1] == "5000"


_PIECES = (
    rb'NIL|"text"|"plain"|"message"|"rfc822"|"mixed"|"attachment"|"filename"|"a"|7|-1|(|)|()|"|\|x|(NIL NIL)'.split(
        b"|"
    )
)


@given(
    st.lists(st.sampled_from([*_PIECES, PLAIN, ENVELOPE, b"{1}\r\n", b"\xff", b"\r"]), max_size=25), st.integers(0, 3)
)
def test_nothing_but_protocol_error_comes_out(pieces: list[bytes], count: int) -> None:
    for value in (
        b" ".join(pieces),
        b"(" + b" ".join(pieces) + b")",
        b'("message" "rfc822" ' + b" ".join(pieces) + b")",
    ):
        try:
            structure = parse_body_structure(value, (b"x",) * count, ItemSpan(0, len(value), 0))
        except ProtocolError:
            continue
        for part in structure.walk():
            assert part.number
            assert isinstance(part.filename, str)
            assert isinstance(part.is_attachment, bool)
