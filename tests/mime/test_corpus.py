"""Odd mails of other packages' own tests, where they are at hand: our values beside the standard library's.

CPython's are there where its tests are installed; `tools/mail_corpora.py` brings those of Debian's source packages.
What differs is listed with its reason; a mail that is not listed must agree in text, HTML, and in the names and sizes
of its attachments.
"""

from __future__ import annotations

import importlib.util
import re
import tarfile
from collections.abc import Iterator
from email import message_from_bytes
from email.message import EmailMessage, MIMEPart
from email.policy import default
from pathlib import Path

import pytest

from imapipe.mime import charset_guess
from imapipe.mime.part import parse_parts
from imapipe.mime.selection import HTML, PLAIN, attachment_parts
from imapipe.mime.text import read_text
from imapipe.mime.transfer import decode_transfer


@pytest.fixture(autouse=True)
def _no_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is installed decides nothing here."""
    monkeypatch.setattr(charset_guess, "_detector", lambda: None)


def _folder() -> Path | None:
    try:
        found = importlib.util.find_spec("test.test_email")
    except ModuleNotFoundError:
        return None
    return Path(found.origin).parent / "data" if found is not None and found.origin is not None else None


_FOLDER = _folder()
MAILS = sorted(_FOLDER.glob("msg_*.txt")) if _FOLDER is not None else []


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
        [("xx.gif", 35)],
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


# By package: which of its files are mails.
CORPORA = {
    "gmime": r"/tests/data/(mime-part|pgpmime|partial/input|jwz)/[^/]+\.(txt|eml|msg|1)$",
    "golang-github-jhillyerd-enmime": r"/testdata/(mail|low-quality|parts)/[^/]+\.(raw|eml)$",
    "notmuch": r"/test/corpora/(?!README)",
    "php-horde-mime": r"/fixtures/[^/]+\.txt$",
}
_ARCHIVES = Path(__file__).resolve().parents[2] / ".corpora"

# The end of the path: why ours differs, what is in our text (or HTML), and what is attached.
NO_CHARSET = "8-bit text without a charset is guessed, not lost"
UNKNOWN_CHARSET = "the standard library raises LookupError for a charset that is none"
ZIP = [("7DDA4_foo_9E5D72.zip", 7)]
DIFFERENT_IN_CORPORA: dict[str, tuple[str, str, list[tuple[str, int]]]] = {
    "mime-part/french-fable.txt": (NO_CHARSET, "Maître Corbeau, sur un arbre perché", []),
    "low-quality/bad-header-wrap.raw": ("a fold without its space: the fields behind it are fields", "A text", ZIP),
    "low-quality/incorrect-charset.raw": ("UTF-8 that says it is ASCII", "∮ E⋅da = Q,  n → ∞", []),
    "low-quality/unk-charset-part.raw": (UNKNOWN_CHARSET, "A text section", [("foo_9E5D72.zip", 7)]),
    "mail/header-only.raw": ("a multipart without parts has no attachment either", "", []),
    "mail/html-mime-bad-charset-inline.raw": (UNKNOWN_CHARSET, "Test of text section", [("favicon.png", 687)]),
    "mail/html-mime-bad-unknown-charset-inline.raw": (UNKNOWN_CHARSET, "Test of text section", [("favicon.png", 687)]),
    "mail/mime-bad-content-transfer-encoding.raw": (
        "text that says it is base64: both leave it as it is, and we keep its line ends",
        "zarplontruskdremp fruftsist\nploystoov",
        [],
    ),
    "mail/non-mime-missing-charset.raw": (NO_CHARSET, "Unencoded Euro Sign: ", []),
    "parts/chardet-fail.raw": (NO_CHARSET, "GIF89a", [("rzkly.txt", 67)]),
    "parts/chardet-success-big-5.raw": (NO_CHARSET, "¥_»ô", []),
    "parts/chardet-success-iso-8859-1.raw": (NO_CHARSET, "DIE Drachenköpfe unserer Boote", []),
    "lkml/cur/1382298793.002267:2,": (NO_CHARSET, "6250 don't care", []),
    "fixtures/related_msg_2.txt": ("what a multipart/related refers to is no text of it", "Part 1.", [("", 7)]),
}


def mails_of(package: str) -> Iterator[tuple[str, bytes]]:
    for archive in _ARCHIVES.glob(f"{package}_*.orig.tar.*"):
        with tarfile.open(archive) as opened:
            for member in opened:
                file = opened.extractfile(member) if re.search(CORPORA[package], member.name) else None
                if file is not None:
                    yield member.name, file.read()


@pytest.mark.parametrize("package", CORPORA)
def test_our_values_are_the_standard_library_s_for_mails_of_other_packages(package: str) -> None:
    count, differing = 0, dict[str, tuple[str, str, list[tuple[str, int]]]]()
    for name, raw in mails_of(package):
        count += 1
        found = ours(raw)
        try:
            same = found == theirs(raw)
        except LookupError:
            same = False
        if not same:
            differing[name] = found
    if not count:
        pytest.skip(f"no mails of {package}: python3 tools/mail_corpora.py .corpora brings them")
    assert count > 5
    for name, (text, html, attached) in differing.items():
        end = next((end for end in DIFFERENT_IN_CORPORA if name.endswith(end)), "")
        assert end, (name, text[:80], html[:80], attached)
        _, part, expected = DIFFERENT_IN_CORPORA[end]
        assert part in text + html, name
        assert attached == expected, name


@pytest.mark.skipif(not MAILS, reason="the standard library's own tests are not installed")
@pytest.mark.parametrize("path", MAILS, ids=lambda path: path.name)
def test_our_values_are_the_standard_library_s(path: Path) -> None:
    raw = path.read_bytes()
    if path.name in DIFFERENT:
        _, text, attached = DIFFERENT[path.name]
        assert ours(raw)[0].startswith(text)
        assert ours(raw)[2] == attached
        assert ours(raw) != theirs(raw)
    else:
        assert ours(raw) == theirs(raw)
