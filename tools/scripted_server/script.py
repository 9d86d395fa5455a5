"""Dialogues in files: what a client is expected to send, and what the server says.

A line `S: …` is sent with CRLF behind it, `C: …` is awaited, `X:` ends the connection. In a `C:` line `<name>` at the
beginning is a tag: it takes what the client sent, and `<name>` in the lines that follow stands for it; `…` at the end
takes the rest of the line, whatever it is. U+2400 stands for a NUL byte, U+240A for a bare LF, `%xx` in an `S:` line
between guillemets (`«%ff»`) for any byte. What begins with `#` is a comment.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_BYTES = re.compile("«((?:%[0-9a-f]{2})+)»")
_TAG = re.compile(r"<([a-z0-9]+)>")


@dataclass(frozen=True, slots=True)
class Line:
    """One step: `kind` is C, S or X."""

    kind: str
    text: bytes
    number: int


@dataclass(frozen=True, slots=True)
class Script:
    """A dialogue."""

    name: str
    lines: tuple[Line, ...]


def read_script(path: Path) -> Script:
    """Read a dialogue.

    Raises:
        ValueError: A line that is none of the kinds.
    """
    lines: list[Line] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        kind, colon, text = line[:1], line[1:2], line[3:]
        if kind not in "CSX" or colon != ":":
            raise ValueError(f"{path.name}:{number}: a line begins with 'C:', 'S:', 'X:' or '#'")
        lines.append(Line(kind, _to_bytes(text), number))
    return Script(path.stem, tuple(lines))


def _to_bytes(text: str) -> bytes:
    text = text.replace("␀", "\0").replace("␊", "\n")
    pieces = _BYTES.split(text)
    # Every second piece is what stood between guillemets.
    return b"".join(
        bytes.fromhex(piece.replace("%", "")) if index % 2 else piece.encode() for index, piece in enumerate(pieces)
    )


def match_line(expected: bytes, line: bytes, tags: dict[str, bytes]) -> bool:
    """Whether a line of the client is the expected one; notes its tag."""
    match = _TAG.match(expected.decode("utf-8", "replace"))
    if match is not None:
        tag, _, line = line.partition(b" ")
        tags[match[1]] = tag
        expected = expected[match.end() + 1 :]
    if expected.endswith("…".encode()):
        return line.startswith(expected.removesuffix("…".encode()))
    return line == expected


def fill_in(text: bytes, tags: dict[str, bytes]) -> bytes:
    """A line of the server with the tags in place."""
    for name, tag in tags.items():
        text = text.replace(f"<{name}>".encode(), tag)
    return text
