"""ID (RFC 2971): who the client is; the server answers with who it is, by `Id`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from imapipe.wire.command.encoder import Dialect, Part, Request

_MAX_FIELDS: Final = 30
_MAX_NAME_BYTES: Final = 30
_MAX_VALUE_BYTES: Final = 1024


def id_(fields: Mapping[str, str | None], dialect: Dialect) -> Request:
    """ID, with these fields.

    Raises:
        ValueError: CR, LF or NUL in a field, or more than the 30 fields, 30 bytes of a name and 1,024 bytes of a value
            of RFC 2971 §3.3.
    """
    if not fields:
        return Request("ID", b"NIL")
    parts: list[Part] = []
    for name, value in fields.items():
        parts += (b" " if parts else b"(", dialect.string(name), b" ", dialect.nstring(value))
        if len(name.encode()) > _MAX_NAME_BYTES or len((value or "").encode()) > _MAX_VALUE_BYTES:
            raise ValueError("a field of ID has a name of at most 30 bytes and a value of at most 1,024")
    if len(fields) > _MAX_FIELDS:
        raise ValueError("ID takes at most 30 fields")
    return Request("ID", (*parts, b")"))
