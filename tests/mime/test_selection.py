"""What is text and what is attached, from whole messages and from their structures alike."""

from __future__ import annotations

import pytest

from imapipe.mime.outline import parts_of
from imapipe.mime.part import parse_parts
from imapipe.mime.selection import HTML, PLAIN, attachment_parts, text_parts
from imapipe.testing.content import ParsedContent
from imapipe.wire.response.body_structure import parse_body_structure
from imapipe.wire.response.token import ItemSpan


def leaf(content_type: str, *fields: str) -> bytes:
    return ("\r\n".join([f"Content-Type: {content_type}", *fields]) + "\r\n\r\nx").encode()


def multipart(subtype: str, *parts: bytes, fields: str = "") -> bytes:
    name = f"{subtype}{len(b''.join(parts))}"
    head = f"Content-Type: multipart/{subtype}; boundary={name}\r\n{fields}\r\n".encode()
    return head + b"".join(b"--%b\r\n%b\r\n" % (name.encode(), part) for part in parts) + f"--{name}--\r\n".encode()


PLAIN_LEAF, HTML_LEAF = leaf("text/plain"), leaf("text/html")
PICTURE = leaf("image/png", "Content-ID: <a@b>", "Content-Disposition: inline; filename=a.png")
PDF = leaf("application/pdf; name=a.pdf", "Content-Disposition: attachment; filename=a.pdf")
NOTES = leaf("text/plain", "Content-Disposition: attachment; filename=notes.txt")
STATUS, FORWARDED = leaf("message/delivery-status"), b"Content-Type: message/rfc822\r\n\r\n"
BOTH = multipart("alternative", PLAIN_LEAF, HTML_LEAF)
SHAPES = [
    (PLAIN_LEAF, ["1"], [], []),
    (HTML_LEAF, [], ["1"], []),
    (PDF, [], [], ["1"]),
    (NOTES, [], [], ["1"]),
    (BOTH, ["1"], ["2"], []),
    (multipart("mixed", PLAIN_LEAF, PDF), ["1"], [], ["2"]),
    # All text parts, in order; a mailing list's footer is one.
    (multipart("mixed", PLAIN_LEAF, PDF, PLAIN_LEAF), ["1", "3"], [], ["2"]),
    (multipart("mixed", BOTH, PLAIN_LEAF, NOTES), ["1.1", "2"], ["1.2"], ["3"]),
    (multipart("mixed", HTML_LEAF, HTML_LEAF), [], ["1", "2"], []),
    # One alternative: the first with text of the kind, wherever in it the text is.
    (multipart("alternative", PLAIN_LEAF, PLAIN_LEAF, HTML_LEAF), ["1"], ["3"], []),
    (multipart("alternative", PLAIN_LEAF, multipart("related", HTML_LEAF, PICTURE)), ["1"], ["2.1"], ["2.2"]),
    (multipart("related", BOTH, PICTURE), ["1.1"], ["1.2"], ["2"]),
    (
        # Apple Mail: text around an attachment, all of it an alternative.
        multipart("alternative", PLAIN_LEAF, multipart("mixed", HTML_LEAF, PDF, HTML_LEAF)),
        ["1"], ["2.1", "2.3"], ["2.2"],
    ),
    (multipart("alternative", multipart("mixed", PICTURE, HTML_LEAF), PLAIN_LEAF), ["2"], ["1.2"], ["1.1"]),
    # An invitation, which is neither text nor declared.
    (multipart("alternative", PLAIN_LEAF, HTML_LEAF, leaf("text/calendar")), ["1"], ["2"], ["3"]),
    # What a related part refers to is no text, unless nothing can refer to it.
    (multipart("related", HTML_LEAF, leaf("text/html", "Content-ID: <f@b>")), [], ["1"], ["2"]),
    (multipart("related", PLAIN_LEAF, HTML_LEAF), ["1"], ["2"], []),
    # Inline and named: shown, and to be saved. All that is in something attached, is attached.
    (multipart("mixed", leaf("text/plain", "Content-Disposition: inline; filename=a.txt")), ["1"], [], ["1"]),
    (
        multipart("mixed", PLAIN_LEAF, multipart("mixed", PLAIN_LEAF, fields="Content-Disposition: attachment\r\n")),
        ["1"], [], ["2.1"],
    ),
    # An attached message is one attachment, and what is in it is its own; a report; a signature.
    (multipart("mixed", PLAIN_LEAF, FORWARDED + multipart("mixed", PLAIN_LEAF, PICTURE)), ["1"], [], ["2"]),
    (multipart("digest", FORWARDED + b"A: b\r\n\r\nc"), [], [], ["1"]),
    (multipart("report", PLAIN_LEAF, STATUS, leaf("text/rfc822-headers")), ["1"], [], ["2", "3"]),
    (multipart("signed", BOTH, leaf("application/pgp-signature")), ["1.1"], ["1.2"], ["2"]),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "plain", "html", "attached"), SHAPES)
def test_text_and_attachments(raw: bytes, plain: list[str], html: list[str], attached: list[str]) -> None:
    raw = b"Subject: x\r\n" + raw
    described = ParsedContent(raw).structure(extended=True, style="quoted", utf8=False)
    for parts in (parse_parts(raw), parts_of(parse_body_structure(described, (), ItemSpan(0, len(described), 0)))):
        assert [part.section for part in text_parts(parts, PLAIN)] == plain
        assert [part.section for part in text_parts(parts, HTML)] == html
        assert [part.section for part in attachment_parts(parts)] == attached
