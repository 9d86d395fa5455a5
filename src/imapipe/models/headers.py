"""The header of a message as a mapping (RFC 5322 §2.2)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from email.utils import parseaddr

from imapipe.wire.encoded_word import decode_header
from imapipe.wire.response.envelope import Address

# A field begins where a line does and goes on over lines that begin with white space; a CR alone is no line end.
_FIELD = re.compile(rb"^([!-9;-~]++)[ \t]*+:([^\r\n]*+(?:(?:\r?\n[ \t]|\r(?!\n))[^\r\n]*+)*+)", re.MULTILINE)


class Headers(Mapping[str, str]):
    """Header fields by name, whatever their case: unfolded, encoded words decoded.

    A field that occurs several times gives its first value; `get_all` gives them all, in order.

    Attributes:
        raw: The bytes of the header as the server sent them.
    """

    __slots__ = ("_parsed", "raw")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self._parsed: dict[str, list[bytes]] | None = None

    @property
    def _fields(self) -> dict[str, list[bytes]]:
        """Field names in lower case to their values as they came; parsed when the first of them is read."""
        fields = self._parsed
        if fields is None:
            fields = self._parsed = {}
            for match in _FIELD.finditer(self.raw):
                fields.setdefault(match[1].decode("ascii").lower(), []).append(match[2])
        return fields

    def __getitem__(self, name: str) -> str:
        return decode_header(self._fields[name.lower()][0].strip())

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._fields

    def __repr__(self) -> str:
        return f"<Headers {', '.join(self._fields)}>"

    def get_all(self, name: str) -> list[str]:
        """Every value of a field, in order; an empty list where it is absent."""
        return [decode_header(value.strip()) for value in self._fields.get(name.lower(), ())]

    def address(self, name: str) -> Address | None:
        """The first address of a field such as From, or None."""
        values = self._fields.get(name.lower())
        if not values:
            return None
        # Split before decoding: a decoded name may hold commas and brackets.
        text = re.sub(rb"\r?\n", b"", values[0]).decode("utf-8", "replace").strip()
        display, email = parseaddr(text)
        mailbox, _, host = email.rpartition("@") if "@" in email else (email, "", "")
        return Address(decode_header(display.encode("utf-8", "surrogateescape")), mailbox, host)
