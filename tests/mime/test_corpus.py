"""Odd mails of other packages' own tests, where they are installed: our values beside the standard library's.

What differs is listed with its reason; a mail that is not listed must agree in text, HTML, and in the names and sizes
of its attachments.
"""

from __future__ import annotations

import importlib.util
from email import message_from_bytes
from email.message import EmailMessage, MIMEPart
from email.policy import default
from pathlib import Path

import pytest

from imapipe.mime.part import parse_parts
from imapipe.mime.selection import HTML, PLAIN, attachment_parts
from imapipe.mime.text import read_text
from imapipe.mime.transfer import decode_transfer


def _folder() -> Path | None:
    try:
        found = importlib.util.find_spec("test.test_email")
    except ModuleNotFoundError:
        return None
    return Path(found.origin).parent / "data" if found is not None and found.origin is not None else None


_FOLDER = _folder()
_MAILS = sorted(_FOLDER.glob("msg_*.txt")) if _FOLDER is not None else []


def theirs(raw: bytes) -> tuple[str, str, list[tuple[str, int]]]:
    message = message_from_bytes(raw, policy=default)
    attached = []
    waiting: list[MIMEPart] = [message]
    while waiting:
        part = waiting.pop(0)
        if part.is_multipart() and part.get_content_maintype() == "multipart":
            waiting[:0] = list(part.iter_parts())
        elif part.get_content_maintype() == "message":
            attached.append((part.get_filename() or "", -1))
        elif part.get_content_type() not in {PLAIN, HTML} or part.is_attachment() or part.get_filename():
            payload = part.get_payload(decode=True)
            attached.append((part.get_filename() or "", len(payload) if isinstance(payload, bytes) else -1))
    return _text(message, PLAIN), _text(message, HTML), attached


def _text(message: EmailMessage, kind: str) -> str:
    """All parts of a kind that are not attached; one of them in an alternative."""
    found: list[str] = []
    waiting: list[MIMEPart] = [message]
    while waiting:
        part = waiting.pop(0)
        if part.is_attachment():
            continue
        if part.get_content_type() == "multipart/alternative":
            body = part.get_body((kind.partition("/")[2],))
            waiting[:0] = [body] if body is not None else []
        elif part.get_content_maintype() == "multipart":
            waiting[:0] = list(part.iter_parts()) if part.is_multipart() else []
        elif part.get_content_type() == kind:
            found.append(part.get_content())
    return "\n".join(text.replace("\r\n", "\n").removesuffix("\n") for text in found if text)


def ours(raw: bytes) -> tuple[str, str, list[tuple[str, int]]]:
    parts = parse_parts(raw)
    attached = []
    for part in attachment_parts(parts):
        content = decode_transfer(part.encoding, raw[part.start : part.end])
        attached.append((part.filename, -1 if part.content_type.startswith("message/") else len(content)))
    # What ends a part, and what separates two, is not the question here.
    plain, html = (read_text(raw, parts, kind).replace("\r\n", "\n").removesuffix("\n") for kind in (PLAIN, HTML))
    return plain, html, attached


# Why ours differs, how the text begins, and what is attached.
DIFFERENT = {
    "msg_15.txt": (
        "Outlook Express for the Macintosh: the inner multipart has the boundary of the outer one, which goes on",
        "Some removed test.",
        [("xx.gif", 21)],
    ),
    "msg_17.txt": ("the boundary does not occur: its text is not lost", "Hi there,", []),
    "msg_25.txt": (
        "Content-Type is cut off before the boundary, which is found by its looks",
        "The original message was received at",
        [("", -1), ("", 3254)],
    ),
    "msg_31.txt": ("another boundary is used than was named", "message 1\nmessage 2", []),
    "msg_39.txt": (
        "three multiparts in a multipart of the same boundary: all six attachments are found",
        "--\nIt's never too late",
        [("", 2)] * 6,
    ),
    "msg_41.txt": ("no boundary is named: its text is not lost", "Blah blah blah", []),
}


@pytest.mark.skipif(not _MAILS, reason="the standard library's own tests are not installed")
@pytest.mark.parametrize("path", _MAILS, ids=lambda path: path.name)
def test_our_values_are_the_standard_library_s(path: Path) -> None:
    raw = path.read_bytes()
    if path.name in DIFFERENT:
        _, text, attached = DIFFERENT[path.name]
        assert ours(raw)[0].startswith(text)
        assert ours(raw)[2] == attached
        assert ours(raw) != theirs(raw)
    else:
        assert ours(raw) == theirs(raw)
