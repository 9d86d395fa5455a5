r"""Texts that are nearly right: what servers, mails and users write, changed in a few places.

They begin as the responses of the dialogues in `tests/transcripts`, and as what is in `tools/fuzz/seeds`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hypothesis import strategies as st

from imapipe.wire.response.framing import Framer
from imapipe.wire.response.literal import literal_bytes
from scripted_server import read_script

TRANSCRIPTS: Final = Path(__file__).resolve().parents[2] / "tests" / "transcripts"
_FOLDER: Final = Path(__file__).with_name("seeds")

_WORDS: Final = rb"""
    ( ) [ ] < > { } " \ ; : , . = * + - / % & ? @ ~ ! ' $ # (( )) () NIL "" "\\" \\\\ OK NO BYE * a UID FETCH BODY[]
    BODY[HEADER.FIELDS FLAGS ENVELOPE BODYSTRUCTURE RFC822.SIZE INTERNALDATE MODSEQ SEARCH ESEARCH (TAG PARTIAL COUNT
    ALL MIN MAX VANISHED (EARLIER) UIDBATCHES LIST STATUS NAMESPACE CAPABILITY ID EXISTS EXPUNGE [UIDVALIDITY [UIDNEXT
    [HIGHESTMODSEQ [COPYUID [APPENDUID [MESSAGELIMIT [MODIFIED [PERMANENTFLAGS [INPROGRESS [BADCHARSET [MAILBOXID 0 1 -1
    1:* 4294967295 4294967296 9223372036854775807 18446744073709551616 1e999
    99999999999999999999999999999999999999999
    =?utf-8?q? =?utf-8?b? ?= =?x?B?=?= &AOk- &- =3D =C3 == base64 quoted-printable charset= boundary=
    filename*=utf-8''
    filename*0*= name*1=
    multipart/mixed text/html message/rfc822 Content-Type: Content-Disposition: --b --b-- Mon, +9999
    31-Dec-9999 01-Jan-0001 23:59:60 +2359 -2359 -0000 12:00 00-Jan-0000 29-Feb-2023 imaps:// %00 %zz OR NOT SINCE 30d
    <meta xn--""".split()
TOKENS: Final = (
    *_WORDS,
    *(b"\r", b"\n", b"\t", b"\0", b" ", b"\x7f", b"\x80", b"\xff", b"\r\n", b"\r\n\r\n", b"{0}\r\n", b"{3}\r\n"),
    *(b"~{3}\r\n", b"{3+}\r\n", b"{99999999999999999999}\r\n", b"begin 644 a\r\n", b"\xe2\x80\xa8", b"\xed\xa0\x80"),
    *("é".encode(), "é".encode("latin-1"), "😀".encode(), "ı".encode(), "\uf70d".encode(), "１".encode(), "²".encode()),
)


def _of_transcripts() -> Iterator[bytes]:
    """The responses of all dialogues, the values in them, and their literals."""
    for path in sorted(TRANSCRIPTS.glob("*.txt")):
        lines = b"".join(line.text + b"\r\n" for line in read_script(path).lines if line.kind == "S")
        for text, literals, _ in Framer().feed(lines):
            yield text
            yield text.partition(b"(")[2].rstrip(b")")
            yield from (bytes(literal_bytes(literal)) for literal in literals)


def _of_files() -> Iterator[bytes]:
    """A line is a text; a mail is one as a whole, with either end of lines."""
    for path in sorted(_FOLDER.glob("*.txt")):
        yield from path.read_bytes().splitlines()
    for path in sorted(_FOLDER.glob("*.eml")):
        yield path.read_bytes()
        yield path.read_bytes().replace(b"\n", b"\r\n")


SEEDS: Final = tuple(dict.fromkeys((*_of_transcripts(), *_of_files())))

_PIECES: Final = st.one_of(st.sampled_from(TOKENS), st.sampled_from(SEEDS), st.binary(max_size=4))


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    """A seed with up to six changes, or nothing but tokens."""
    if draw(st.integers(0, 9)) == 0:
        return b"".join(draw(st.lists(st.sampled_from(TOKENS), max_size=12)))
    text = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(text)))
        count = draw(st.integers(0, 9))
        change = draw(st.sampled_from(("insert", "replace", "delete", "repeat", "cut")))
        if change == "insert":
            text = text[:at] + draw(_PIECES) + text[at:]
        elif change == "replace":
            text = text[:at] + draw(_PIECES) + text[at + count :]
        elif change == "delete":
            text = text[:at] + text[at + count :]
        elif change == "repeat":
            text = text[:at] + text[at : at + count] * draw(st.integers(2, 20)) + text[at:]
        else:
            text = text[:at]
    return text


@st.composite
def pumps(draw: st.DrawFn) -> tuple[bytes, bytes, bytes]:
    """What leads somewhere, what is repeated there, and what follows."""
    seed = draw(st.sampled_from((b"", *SEEDS)))
    at = draw(st.integers(0, len(seed)))
    pump = b"".join(draw(st.lists(st.sampled_from(TOKENS), min_size=1, max_size=3)))
    if draw(st.booleans()):
        pump = seed[at : at + draw(st.integers(1, 20))] or pump
    return seed[:at], pump, draw(st.sampled_from((b"", seed[at:], b"\0\n")))
