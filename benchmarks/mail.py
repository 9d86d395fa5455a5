"""Mail as it is found in mailboxes, made from a seed.

Invariants: the same seed and number give the same message byte for byte, whatever was made before it; every field
of a `Sample` is what a correct client must read out of `content`.
"""

from __future__ import annotations

import base64
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Final

from benchmarks.tally import Person

VERSION: Final = 3
"""Changes whenever the same seed would give other bytes, the server keeps them otherwise, or more is known of them."""

_FIRST_DATE: Final = datetime(2021, 1, 4, 6, 0, tzinfo=UTC)
_GIVEN: Final = (
    "Ann Ben Carla Deniz Elif Frank Grace Hana Ivan Jürgen Karin Łukasz María Nils Olga Pedro Søren 太郎".split()
)
_FAMILY: Final = (
    "Abbott Berg Costa Dvořák Evans Fischer García Hansen Ivanova Jensen 田中 Lopez Müller Novak O'Neill".split()
)
_NICKS: Final = ("Jack", "the Boss", "Accounts", "Ops")
_HOSTS: Final = (
    "example.com",
    "example.org",
    "mail.example.net",
    "lists.example.org",
    "büro.example".encode("idna").decode(),
)
_WORDS: Final = (
    "the of and a to in is that for it as was with be by on not he his but at are this have from or had an they which "
    "meeting report budget invoice contract delivery schedule quarter server release draft review attached please "
    "regards thanks update question answer project customer order number address payment account notes"
).split()
_SUBJECTS: Final = (
    "Minutes of the meeting on {day}",
    "Invoice {number} for {word}",
    'Re: "{word}" and what comes next',
    "Re: Fwd: {word} {word} {word}",
    "Größere Änderungen am {word}: bitte prüfen",
    "Отчёт о проекте {number}: {word}",
    "会議の議事録と資料 {number} をお送りします",
    "Your order {number} has been shipped 📦",
    "[list-{word}] Weekly digest, Vol {number}, Issue 12",
    "Réunion reportée à jeudi, salle {number}",
    "{word} {word} {word} {word} {word} {word} {word} {word} {word} {word} {word} {word}",
    "Build {number} passed",
    "{word} {word}, {day}",
    "Re: Re: {word} of the {word} {number}",
)
_FLAG_SETS: Final = (
    ("\\Seen",), ("\\Seen",), (), ("\\Seen", "\\Answered"), ("\\Flagged",), ("\\Seen",), ("\\Seen", "$Work"), (),
    ("\\Seen", "\\Flagged"), ("\\Seen",), ("\\Draft",), ("\\Seen", "$Forwarded", "NonJunk"),
)  # fmt: skip
_ZONES: Final = tuple(timezone(timedelta(minutes=minutes)) for minutes in (-480, -300, 0, 60, 120, 330, 540))


@dataclass(frozen=True, slots=True)
class Sample:
    """One message and what is in it, for comparison with what a client reads."""

    content: bytes
    flags: tuple[str, ...]
    internal_date: datetime
    date: datetime
    subject: str
    from_: tuple[Person, ...]
    to: tuple[Person, ...]
    cc: tuple[Person, ...]
    text: str

    @property
    def header(self) -> bytes:
        """The header with the empty line after it, as BODY[HEADER] gives it."""
        return self.content[: self.content.index(b"\r\n\r\n") + 4]


def make_sample(seed: str, number: int, size: int) -> Sample:
    """Make one message.

    Args:
        seed: Names the mailbox.
        number: Which message of it.
        size: How large it should be in bytes; a message is never smaller than its header, and at most 80 larger.
    """
    chooser = random.Random(f"{seed} {number}")
    sender = _person(chooser)
    to = tuple(_person(chooser) for _ in range(chooser.choice((1, 1, 1, 2, 3))))
    cc = tuple(_person(chooser) for _ in range(chooser.choice((0, 0, 0, 1, 2))))
    date = (_FIRST_DATE + timedelta(minutes=17 * number, seconds=chooser.randrange(900))).astimezone(
        chooser.choice(_ZONES)
    )
    subject = _subject(chooser)
    header = _header(chooser, number, date, subject, (sender, to, cc))
    content_type, body, text = _body(chooser, max(size - len(header) - 120, 0))
    return Sample(
        content=header + content_type + b"\r\n" + body,
        flags=chooser.choice(_FLAG_SETS),
        internal_date=(date + timedelta(seconds=chooser.randrange(1, 90))).astimezone(UTC),
        date=date,
        subject=subject,
        from_=(sender,),
        to=to,
        cc=cc,
        text=text.decode(),
    )


def _person(chooser: random.Random) -> Person:
    given, family = chooser.choice(_GIVEN), chooser.choice(_FAMILY)
    local = "".join(c for c in f"{given}.{family}".lower() if c.isascii() and c != "'").strip(".") or "info"
    email = f"{local}{chooser.randrange(100)}@{chooser.choice(_HOSTS)}"
    kind = chooser.random()
    if kind < 0.15:
        return Person("", email)
    if kind < 0.25:
        return Person(f"{family}, {given}", email)
    if kind < 0.27:
        return Person(f'{given} "{chooser.choice(_NICKS)}" {family}', email)
    return Person(f"{given} {family}", email)


def _subject(chooser: random.Random) -> str:
    template = chooser.choice(_SUBJECTS)
    while "{word}" in template:
        template = template.replace("{word}", chooser.choice(_WORDS), 1)
    return template.format(number=chooser.randrange(1000, 99999), day=f"{chooser.randrange(1, 29)} May")


def _header(
    chooser: random.Random,
    number: int,
    date: datetime,
    subject: str,
    people: tuple[Person, tuple[Person, ...], tuple[Person, ...]],
) -> bytes:
    """Give the header without Content-Type and without its end."""
    sender, to, cc = people
    stamp, token = format_datetime(date), f"{chooser.getrandbits(96):024x}"
    # Raw 8-bit, which RFC 5322 forbids and real mailboxes hold, once in a while.
    raw = chooser.random() < 0.02
    lines = [f"Return-Path: <{sender.email}>", "Delivered-To: ann@example.org"]
    lines += [
        f"Received: from mx{hop}.{chooser.choice(_HOSTS)} (mx.example.net [192.0.2.{chooser.randrange(1, 255)}])\r\n"
        f"\tby in{hop}.example.org (Postfix) with ESMTPS id {chooser.getrandbits(44):011X}\r\n"
        f"\tfor <ann@example.org>; {stamp}"
        for hop in range(chooser.choice((1, 2, 2, 3)))
    ]
    if chooser.random() < 0.8:
        signature = base64.b64encode(chooser.randbytes(192)).decode()
        folded = "\r\n\t".join(signature[i : i + 72] for i in range(0, len(signature), 72))
        lines.append(
            "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.org; s=mail;\r\n"
            f"\tt={int(date.timestamp())}; h=from:to:subject:date:message-id; b={folded}"
        )
    lines += [
        f"Date: {stamp}",
        f"From: {_write(sender, raw=raw)}",
        f"To: {_write_all(to, raw=raw)}",
        f"Subject: {subject if raw else _encode(subject, 'B' if chooser.random() < 0.7 else 'Q')}",
        f"Message-ID: <{token}.{number}@{chooser.choice(_HOSTS)}>",
    ]
    if cc:
        lines.append(f"Cc: {_write_all(cc, raw=raw)}")
    if chooser.random() < 0.4:
        parents = [f"<{chooser.getrandbits(96):024x}@example.com>" for _ in range(chooser.randrange(1, 4))]
        lines += [f"In-Reply-To: {parents[-1]}", "References: " + "\r\n ".join(parents)]
    if chooser.random() < 0.2:
        lines += ["List-Id: <talk.lists.example.org>", f"List-Unsubscribe: <https://lists.example.org/u/{token}>"]
    if chooser.random() < 0.5:
        lines.append("X-Mailer: Example Mailer 12.4 (build 20210104)")
    lines.append("MIME-Version: 1.0")
    return ("\r\n".join(lines) + "\r\n").encode()


def _write_all(people: tuple[Person, ...], *, raw: bool) -> str:
    return ",\r\n ".join(_write(person, raw=raw) for person in people)


def _write(person: Person, *, raw: bool) -> str:
    if not person.name:
        return person.email
    if not person.name.isascii() and not raw:
        return f"{_encode(person.name, 'Q')} <{person.email}>"
    if person.name.replace(" ", "").isalnum() and person.name.isascii():
        return f"{person.name} <{person.email}>"
    escaped = person.name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}" <{person.email}>'


def _encode(text: str, encoding: str) -> str:
    """Write text as encoded words of at most 75 characters (RFC 2047 §2) where it is not ASCII."""
    if text.isascii():
        return text
    words: list[str] = []
    chunk = ""
    for character in text:
        # 42 bytes are 56 characters of base64; in Q encoding one byte takes up to three characters.
        if len((chunk + character).encode()) > (42 if encoding == "B" else 18):
            words.append(chunk)
            chunk = ""
        chunk += character
    words.append(chunk)
    return "\r\n ".join(f"=?utf-8?{encoding}?{_encoded(word, encoding)}?=" for word in words)


def _encoded(word: str, encoding: str) -> str:
    if encoding == "B":
        return base64.b64encode(word.encode()).decode()
    return "".join(
        chr(byte) if chr(byte).isalnum() and byte < 128 else "_" if byte == 32 else f"={byte:02X}"
        for byte in word.encode()
    )


def _body(chooser: random.Random, size: int) -> tuple[bytes, bytes, bytes]:
    """Give the Content-Type line (with what belongs to it), the body, and the plain text in it."""
    kind = chooser.random()
    if size < 6000 and kind < 0.7:
        text = _text(chooser, size)
        return b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n", text, text
    boundary = f"=_{chooser.getrandbits(64):016x}".encode()
    if kind < 0.45:
        text, markup = (
            _text(chooser, size // 3),
            b"<html><body><p>" + _text(chooser, size - size // 3) + b"</p></body></html>",
        )
        parts = [b"text/plain; charset=utf-8\r\n\r\n" + text, b"text/html; charset=utf-8\r\n\r\n" + markup]
        subtype = b"alternative"
    else:
        text = _text(chooser, min(size // 4, 1200))
        octets = max(size - len(text) - 300, 0) * 3 // 4 * 76 // 78
        name = "attached report.pdf" if kind < 0.8 else "=?utf-8?Q?=C3=9Cbersicht=2Epdf?="
        attachment = (
            f'application/pdf; name="{name}"\r\nContent-Transfer-Encoding: base64\r\n'
            f'Content-Disposition: attachment; filename="{name}"\r\n\r\n'
        ).encode() + _base64_lines(chooser.randbytes(octets))
        parts = [b"text/plain; charset=utf-8\r\n\r\n" + text, attachment]
        subtype = b"mixed"
    body = b"".join(b"--" + boundary + b"\r\nContent-Type: " + part + b"\r\n" for part in parts)
    head = b"Content-Type: multipart/" + subtype + b'; boundary="' + boundary + b'"\r\n'
    return head, body + b"--" + boundary + b"--\r\n", text


def _base64_lines(data: bytes) -> bytes:
    return base64.encodebytes(data).replace(b"\n", b"\r\n")


def _paragraphs() -> list[bytes]:
    chooser = random.Random("paragraphs")
    made = []
    for _ in range(400):
        lines = [" ".join(chooser.choices(_WORDS, k=chooser.randrange(5, 13))) for _ in range(chooser.randrange(1, 5))]
        if chooser.random() < 0.1:
            lines.append("Grüße aus Köln — bis später")
        made.append(("\r\n".join(lines) + "\r\n\r\n").encode())
    return made


_PARAGRAPHS: Final = _paragraphs()


def _text(chooser: random.Random, size: int) -> bytes:
    parts: list[bytes] = []
    total = 0
    while total < size:
        part = chooser.choice(_PARAGRAPHS)
        parts.append(part)
        total += len(part)
    return b"".join(parts)
