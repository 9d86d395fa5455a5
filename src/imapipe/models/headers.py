"""The header of a message as a mapping (RFC 5322 §2.2)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from imapipe.wire.address import Address, iter_addresses
from imapipe.wire.encoded_word import decode_header

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

    def get_raw(self, name: str) -> bytes:
        """The first value of a field as it came, folded and encoded; b"" where it is absent."""
        values = self._fields.get(name.lower())
        return values[0].strip() if values else b""

    def address(self, name: str) -> Address | None:
        """The first address of a field such as From, or None."""
        return next(self._addresses(name), None)

    def addresses(self, name: str) -> tuple[Address, ...]:
        """Every address of a field such as To, in order; of groups their members."""
        return tuple(self._addresses(name))

    def _addresses(self, name: str) -> Iterator[Address]:
        for value in self._fields.get(name.lower(), ()):
            yield from iter_addresses(value)
