"""Messages for tests: varied like real mail, the same for the same seed."""

from __future__ import annotations

import base64
import quopri
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from .content import UID_MARK

_PEOPLE: tuple[tuple[str, str], ...] = (
    ("Ann Example", "ann@example.org"),
    ('Bob "The Builder" Stone', "bob@example.net"),
    ("Back\\slash, Inc.", "sales@example.com"),
    ("José Ñandú", "jose@example.es"),
    ("山田太郎", "yamada@example.jp"),
    ("Иван Петров", "ivan@example.ru"),
    ("Zoë Müller-Lüdenscheid", "zoe@example.de"),
    ("", "noreply@example.org"),
    ("Dr. Strange (PhD)", "strange@example.edu"),
)
_SUBJECTS: tuple[str, ...] = (
    "Weekly report",
    'Re: "quoted" words and a \\ backslash',
    "Übergrößen im Café: naïve Prüfung",
    "日本語の件名とかなり長い文章が続きます、折り返しが必要です",
    "Счёт за июль — оплатите, пожалуйста",
    "Your order 5 * 3 = 15 has shipped :)",
    "Fwd: [list] ((nested) brackets) {12}",
    "😀 emoji and tab\tinside",
    "",
)
_WORDS = (
    "the quick brown fox jumps over a lazy dog while rain falls on quiet hills and nobody counts "
    "letters invoices meetings tomorrow yesterday project server mailbox budget river paper"
).split()
_CHARSETS: tuple[tuple[str, str], ...] = (
    ("utf-8", "Grüße aus Köln, 東京 and Москва. "),
    ("iso-8859-1", "Grüße aus Köln, déjà vu. "),
    ("iso-8859-15", "Preis: 5 €, œuvre. "),
    ("windows-1252", "“Smart quotes” – and an ellipsis… "),
    ("koi8-r", "Привет из Москвы. "),
    ("shift_jis", "こんにちは、世界。"),
    ("us-ascii", "Plain text only. "),
)
_FIRST = datetime(2024, 1, 1, 8, 0, tzinfo=UTC)


def make_messages(count: int, *, seed: int = 0, size: int | None = None) -> Iterator[bytes]:
    """Make ``count`` messages, CRLF line ends, deterministic for a seed.

    Among every dozen there are: plain text in several charsets and transfer encodings, alternative and
    mixed multiparts, attachments, a forwarded message inside a message, 8-bit headers and bodies, an empty
    body, a very long header, names with quotes and backslashes, encoded words of both kinds.

    Args:
        count: How many.
        seed: Chooses the content.
        size: Roughly how many bytes each shall have; None for a mix of 500 bytes to 50 KB.
    """
    chooser = random.Random(f"messages {seed}")
    for number in range(1, count + 1):
        yield make_message(chooser, number=number, size=size)


def make_message(chooser: random.Random, *, number: int | None, size: int | None = None) -> bytes:
    """Make one message.

    Args:
        chooser: Source of all choices.
        number: Written as ten digits into Subject and Message-ID; None leaves marks for a template.
        size: Roughly how many bytes; None for 500 bytes to 50 KB, small ones more often.
    """
    mark = UID_MARK if number is None else b"%010d" % number
    target = size if size is not None else int(500 * 100 ** (chooser.random() ** 2))
    kind = chooser.randrange(12)
    header = _header(chooser, mark, number)
    room = max(target - len(header) - 160, 0)
    if kind == 0:
        return header + b"\r\n"
    if kind == 1:
        # 8-bit in the header, undeclared: seen in the wild, and it must not break anyone.
        header += b"X-Raw: caf\xe9 na\xefve\r\n"
    elif kind == 2:
        header += b"X-Long: " + b"\r\n ".join(_ascii(chooser, 70) for _ in range(12)) + b"\r\n"
    if kind in (3, 4):
        return header + _alternative(chooser, room)
    if kind in (5, 6):
        return header + _mixed(chooser, room)
    if kind == 7:
        return header + _forward(chooser, room)
    return header + _text(chooser, room, kind)


def _header(chooser: random.Random, mark: bytes, number: int | None) -> bytes:
    sender = chooser.choice(_PEOPLE)
    others = chooser.sample(_PEOPLE, chooser.randint(1, 3))
    when = _FIRST + timedelta(minutes=number if number is not None else chooser.randrange(500_000))
    lines = [
        b"Received: from mail.example.org (mail.example.org [192.0.2.7])\r\n\tby mx.example.net with ESMTPS id "
        + b"%08x" % chooser.getrandbits(32),
        b"Date: " + format_datetime(when).encode("ascii"),
        b"From: " + _address(chooser, *sender),
        b"To: " + b",\r\n ".join(_address(chooser, *person) for person in others),
        b"Subject: #" + mark + _subject(chooser),
        b"Message-ID: <" + mark + b".%08x@example.org>" % chooser.getrandbits(32),
        b"MIME-Version: 1.0",
    ]
    if chooser.random() < 0.2:
        lines.append(b"Cc: team: " + _address(chooser, *chooser.choice(_PEOPLE)) + b", eve@example.org;")
    if chooser.random() < 0.3:
        lines.append(b"In-Reply-To: <parent.%08x@example.org>" % chooser.getrandbits(32))
        lines.append(b"References: <root@example.org>\r\n <parent@example.org>")
    return b"\r\n".join(lines) + b"\r\n"


def _subject(chooser: random.Random) -> bytes:
    text = chooser.choice(_SUBJECTS)
    if not text:
        return b""
    if text.isascii() and "\t" not in text:
        return b" " + text.encode("ascii")
    return b" " + encoded_words(text, "B" if chooser.random() < 0.5 else "Q")


def encoded_words(text: str, kind: str, charset: str = "utf-8") -> bytes:
    """Text as RFC 2047 encoded words of kind ``B`` or ``Q``, folded when long."""
    words: list[bytes] = []
    for start in range(0, len(text), 12):
        data = text[start : start + 12].encode(charset)
        if kind == "B":
            body = base64.b64encode(data)
        else:
            body = b"".join(
                bytes((byte,))
                if chr(byte).isascii() and chr(byte).isalnum()
                else b"_"
                if byte == 32
                else b"=%02X" % byte
                for byte in data
            )
        words.append(b"=?%s?%s?%s?=" % (charset.encode("ascii"), kind.encode("ascii"), body))
    return b"\r\n ".join(words)


def _address(chooser: random.Random, name: str, address: str) -> bytes:
    spec = address.encode("ascii")
    if not name:
        return spec
    if not name.isascii():
        return encoded_words(name, "B" if chooser.random() < 0.5 else "Q") + b" <" + spec + b">"
    quoted = name.replace("\\", "\\\\").replace('"', '\\"').encode("ascii")
    return b'"' + quoted + b'" <' + spec + b">"


def _ascii(chooser: random.Random, length: int) -> bytes:
    # By bits, as `choice` does it inside: mailboxes of many thousands are made of these words.
    count, room, words = len(_WORDS), length, []
    bits = count.bit_length()
    while room > 0:
        if (number := chooser.getrandbits(bits)) < count:
            words.append(_WORDS[number])
            room -= len(_WORDS[number]) + 1
    return " ".join(words)[:length].rstrip().encode("ascii")


def _lines(chooser: random.Random, length: int) -> bytes:
    # One paragraph of a kilobyte is made word by word; the rest repeats it, for speed.
    paragraph = b"".join(_ascii(chooser, 70) + b"\r\n" for _ in range(min(length // 72 + 1, 14)))
    return (paragraph * (length // len(paragraph) + 1))[: max(length - 2, 0)].rstrip(b"\r\n") + b"\r\n"


def _text(chooser: random.Random, room: int, kind: int) -> bytes:
    charset, phrase = chooser.choice(_CHARSETS)
    data = (phrase + "\r\n").encode(charset) + _lines(chooser, room)
    head = b"Content-Type: text/plain; charset=%s\r\nContent-Transfer-Encoding: " % charset.encode("ascii")
    if kind % 3 == 0:
        return (
            head
            + b"quoted-printable\r\n\r\n"
            + quopri.encodestring(data).replace(b"\n", b"\r\n").replace(b"\r\r\n", b"\r\n")
        )
    if kind % 3 == 1 and room < 20_000:
        return head + b"base64\r\n\r\n" + _base64(data[: max(len(data) * 3 // 4, 60)])
    return head + b"8bit\r\n\r\n" + data


def _base64(data: bytes) -> bytes:
    return base64.encodebytes(data).replace(b"\n", b"\r\n")


def _alternative(chooser: random.Random, room: int) -> bytes:
    boundary = b"=_alt_%08x" % chooser.getrandbits(32)
    html = b"<html><body><p>" + _lines(chooser, room // 2) + b"</p></body></html>\r\n"
    return b"".join(
        (
            b'Content-Type: multipart/alternative; boundary="' + boundary + b'"\r\n\r\n',
            b"This is a message in MIME format.\r\n",
            b"--" + boundary + b"\r\n" + _text(chooser, room // 2, 2) + b"\r\n",
            b"--" + boundary + b"\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + html + b"\r\n",
            b"--" + boundary + b"--\r\n",
        )
    )


def _mixed(chooser: random.Random, room: int) -> bytes:
    boundary = b"=_mix_%08x" % chooser.getrandbits(32)
    data = chooser.randbytes(min(room // 2, 4096) + 16)
    data = data * (room // 2 // len(data) + 1)
    name = chooser.choice((b'filename="report \\"final\\".pdf"', b"filename*=utf-8''%C3%BCbersicht.pdf"))
    return b"".join(
        (
            b'Content-Type: multipart/mixed;\r\n\tboundary="' + boundary + b'"\r\n\r\n',
            b"--" + boundary + b"\r\n" + _alternative(chooser, room // 4) + b"\r\n",
            b"--" + boundary + b"\r\nContent-Type: application/pdf; name=report.pdf\r\n",
            b"Content-Transfer-Encoding: base64\r\nContent-ID: <part.%08x@example.org>\r\n" % chooser.getrandbits(32),
            b"Content-Disposition: attachment; " + name + b"\r\n\r\n" + _base64(data[: room // 2 + 1]),
            b"\r\n--" + boundary + b"--\r\n",
        )
    )


def _forward(chooser: random.Random, room: int) -> bytes:
    boundary = b"=_fwd_%08x" % chooser.getrandbits(32)
    inner = _header(chooser, b"%010d" % chooser.randrange(10**9), 1) + _alternative(chooser, room // 2)
    return b"".join(
        (
            b'Content-Type: multipart/mixed; boundary="' + boundary + b'"\r\n\r\n',
            b"--" + boundary + b"\r\n" + _text(chooser, room // 4, 2) + b"\r\n",
            b"--" + boundary + b"\r\nContent-Type: message/rfc822\r\nContent-Disposition: inline\r\n\r\n",
            inner + b"\r\n--" + boundary + b"--\r\n",
        )
    )
